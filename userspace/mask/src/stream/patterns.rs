//! Patterns compiled into one automaton.

use std::ops::Range;

use regex_automata::dfa::dense::{self, DFA};
use regex_automata::dfa::{Automaton as _, StartKind};
use regex_automata::nfa::thompson;
use regex_automata::util::primitives::StateID;
use regex_automata::util::start;
use regex_automata::util::syntax;
use regex_automata::{Anchored, MatchKind, PatternID};

use super::detectors::Detector;

/// More own patterns than this are refused.
const OWN_MAX: usize = 64;
/// Memory of the automaton, in bytes. A counted repetition of many characters costs most.
const AUTOMATON_BYTES_MAX: usize = 32 << 20;
const NFA_BYTES_MAX: usize = 4 << 20;
const NAME_BYTES_MAX: usize = 64;

/// Why patterns cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternProblem {
    #[error("more than {OWN_MAX} patterns")]
    TooMany,
    #[error("pattern {0:?}: a name has 1 to {NAME_BYTES_MAX} of a-z, 0-9, '-' and '_'")]
    Name(String),
    #[error("pattern {name}: {reason}")]
    Syntax { name: String, reason: String },
    #[error("pattern {0}: matches the empty text")]
    Empty(String),
    /// The expressions together need too large an automaton, or a look-around it cannot have.
    #[error("the patterns are too large together: {0}")]
    TooLarge(String),
}

/// Compiled patterns, to be shared by all streams.
pub struct Patterns {
    dfa: DFA<Vec<u32>>,
    names: Vec<(String, Option<Detector>)>,
    /// A kind of start for each previous byte; the last is the start of the stream.
    kinds: Vec<u8>,
    starts: Vec<Start>,
}

/// How a candidate can begin after some previous bytes.
pub(super) struct Start {
    pub(super) state: StateID,
    /// The bytes with which something can begin.
    pub(super) begins: [bool; 256],
    /// The same for two bytes, as bits: most candidates die at the second one.
    pairs: Vec<u64>,
}

impl Start {
    #[inline]
    pub(super) fn pair(&self, first: u8, second: u8) -> bool {
        let bit = usize::from(first) << 8 | usize::from(second);
        self.pairs
            .get(bit >> 6)
            .is_some_and(|word| word >> (bit & 63) & 1 == 1)
    }

    fn new(dfa: &DFA<Vec<u32>>, state: StateID) -> Self {
        let mut begins = [false; 256];
        let mut pairs = Vec::with_capacity(1 << 10);
        for (first, begins) in (0..=u8::MAX).zip(&mut begins) {
            let after = dfa.next_state(state, first);
            *begins = !dfa.is_dead_state(after);
            for quarter in 0..4u8 {
                let alive = |at: u8| !dfa.is_dead_state(dfa.next_state(after, quarter << 6 | at));
                pairs.push((0..64u8).fold(0, |word, at| word | u64::from(alive(at)) << at));
            }
        }
        Self {
            state,
            begins,
            pairs,
        }
    }
}

impl std::fmt::Debug for Patterns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.names.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

impl Patterns {
    /// Compiles built-in detectors and own regular expressions, given with their names. The syntax is
    /// that of the `regex` crate; `\b` is meant for ASCII letters.
    ///
    /// # Errors
    /// The first [`PatternProblem`].
    pub fn new(detectors: &[Detector], own: &[(String, String)]) -> Result<Self, PatternProblem> {
        if own.len() > OWN_MAX {
            return Err(PatternProblem::TooMany);
        }
        let mut names = Vec::new();
        let mut expressions: Vec<&str> = Vec::new();
        for detector in detectors {
            for expression in detector.expressions() {
                names.push((detector.name().to_owned(), Some(*detector)));
                expressions.push(expression);
            }
        }
        for (name, expression) in own {
            check_name(name)?;
            check_expression(name, expression)?;
            names.push((name.clone(), None));
            expressions.push(expression);
        }
        let dfa = compile(&expressions).map_err(PatternProblem::TooLarge)?;
        let (kinds, starts) = starts(&dfa).map_err(PatternProblem::TooLarge)?;
        Ok(Self {
            dfa,
            names,
            kinds,
            starts,
        })
    }

    /// Memory of the compiled automaton, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.dfa.memory_usage()
    }

    /// How something can begin after `previous`.
    #[inline]
    pub(super) fn start(&self, previous: Option<u8>) -> Option<&Start> {
        let kind = self.kinds.get(previous.map_or(256, usize::from))?;
        self.starts.get(usize::from(*kind))
    }

    #[inline]
    pub(super) fn next(&self, state: StateID, byte: u8) -> StateID {
        self.dfa.next_state(state, byte)
    }

    pub(super) fn end(&self, state: StateID) -> StateID {
        self.dfa.next_eoi_state(state)
    }

    #[inline]
    pub(super) fn is_special(&self, state: StateID) -> bool {
        self.dfa.is_special_state(state)
    }

    #[inline]
    pub(super) fn is_dead(&self, state: StateID) -> bool {
        self.dfa.is_dead_state(state)
    }

    /// The patterns that match at a state.
    pub(super) fn matches(&self, state: StateID) -> impl Iterator<Item = PatternID> + '_ {
        let count = if self.dfa.is_match_state(state) {
            self.dfa.match_len(state)
        } else {
            0
        };
        (0..count).map(move |at| self.dfa.match_pattern(state, at))
    }

    pub(super) fn name(&self, pattern: PatternID) -> &str {
        self.names
            .get(pattern.as_usize())
            .map_or("withheld", |(name, _)| name)
    }

    /// Whether a shorter match may pass a check where a longer one fails.
    pub(super) fn is_checked(&self, pattern: PatternID) -> bool {
        self.detector(pattern).is_some_and(Detector::is_checked)
    }

    /// The part of a match that is secret; `None` when it is no match after all.
    pub(super) fn secret(&self, pattern: PatternID, text: &[u8]) -> Option<Range<usize>> {
        match self.detector(pattern) {
            Some(detector) => detector.secret(text),
            None => Some(0..text.len()),
        }
    }

    fn detector(&self, pattern: PatternID) -> Option<Detector> {
        self.names
            .get(pattern.as_usize())
            .and_then(|(_, detector)| *detector)
    }
}

fn check_name(name: &str) -> Result<(), PatternProblem> {
    let plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
    };
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(plain) {
        return Err(PatternProblem::Name(name.to_owned()));
    }
    Ok(())
}

fn check_expression(name: &str, expression: &str) -> Result<(), PatternProblem> {
    let alone = compile(&[expression]).map_err(|reason| PatternProblem::Syntax {
        name: name.to_owned(),
        reason,
    })?;
    if alone.has_empty() {
        return Err(PatternProblem::Empty(name.to_owned()));
    }
    Ok(())
}

fn compile(expressions: &[&str]) -> Result<DFA<Vec<u32>>, String> {
    let built = dense::Builder::new()
        // Output is bytes; a character class of ASCII alone keeps the automaton small.
        .syntax(syntax::Config::new().utf8(false).unicode(false))
        .thompson(
            thompson::Config::new()
                .utf8(false)
                .nfa_size_limit(Some(NFA_BYTES_MAX)),
        )
        .configure(
            dense::Config::new()
                .match_kind(MatchKind::All)
                .start_kind(StartKind::Anchored)
                .accelerate(false)
                .dfa_size_limit(Some(AUTOMATON_BYTES_MAX))
                .determinize_size_limit(Some(AUTOMATON_BYTES_MAX)),
        )
        .build_many(expressions);
    built.map_err(|error| {
        // The outer text only says that building failed.
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        cause.unwrap_or_else(|| error.to_string())
    })
}

fn starts(dfa: &DFA<Vec<u32>>) -> Result<(Vec<u8>, Vec<Start>), String> {
    let mut kinds = Vec::new();
    let mut starts: Vec<Start> = Vec::new();
    let previous = (0..=u8::MAX).map(Some).chain([None]);
    for byte in previous {
        let config = start::Config::new()
            .anchored(Anchored::Yes)
            .look_behind(byte);
        let state = dfa
            .start_state(&config)
            .map_err(|error| error.to_string())?;
        let known = starts.iter().position(|one| one.state == state);
        let kind = known.unwrap_or_else(|| {
            starts.push(Start::new(dfa, state));
            starts.len() - 1
        });
        kinds.push(u8::try_from(kind).map_err(|error| error.to_string())?);
    }
    Ok((kinds, starts))
}
