//! The matcher of one stream: what is shown, what is kept back, what is replaced.

use std::ops::Range;

use bytes::Bytes;
use regex_automata::PatternID;
use regex_automata::util::primitives::StateID;

use super::escape::{self, ESC, Escape};
use super::patterns::Patterns;
use super::{HEAD_BYTES, HELD_BYTES_MAX};
use crate::rows::Masked;

/// Ends of one candidate that are looked at; those of patterns without a check need only the last.
const ENDS_MAX: usize = 64;
/// A candidate that fails is tried again one byte later, which costs up to its length. This much work
/// is saved up for each byte, and no more than this in all; without any left, a failed candidate is
/// withheld as a whole.
const STEPS_PER_BYTE: u64 = 64;
const STEPS_SAVED_MAX: u64 = 4 << 20;
/// Settled bytes are removed from the front once they are this many.
const COMPACT_BYTES: usize = 8 << 10;

pub(super) struct Engine {
    /// As they came, with escape sequences.
    raw: Vec<u8>,
    /// Text without escape sequences, and where each byte stands in `raw`.
    text: Vec<u8>,
    places: Vec<u32>,
    /// An escape sequence that is not finished.
    pending: Vec<u8>,
    /// The first byte of `text` that is not settled: where the candidate starts.
    head: usize,
    /// The next byte of `text` that the automaton takes.
    next: usize,
    /// The automaton's state while there is a candidate.
    state: Option<StateID>,
    /// Ends of matches of the candidate, counted from its start, in ascending order.
    ends: Vec<(usize, PatternID)>,
    /// The byte before `head`.
    previous: Option<u8>,
    /// How much of `raw` a pause gave on.
    shown: usize,
    /// The candidate grew too long; its bytes are dropped.
    dropping: bool,
    /// Something was settled since this was last looked at.
    settled: bool,
    steps_left: u64,
    out: Vec<u8>,
    count: u64,
}

impl Engine {
    pub(super) const fn new() -> Self {
        Self {
            raw: Vec::new(),
            text: Vec::new(),
            places: Vec::new(),
            pending: Vec::new(),
            head: 0,
            next: 0,
            state: None,
            ends: Vec::new(),
            previous: None,
            shown: 0,
            dropping: false,
            settled: false,
            steps_left: STEPS_SAVED_MAX,
            out: Vec::new(),
            count: 0,
        }
    }

    pub(super) fn push(&mut self, patterns: &Patterns, chunk: &[u8]) -> Masked {
        self.out.reserve(chunk.len() + 64);
        let mut at = 0;
        while let Some(byte) = chunk.get(at) {
            if self.is_idle() {
                let plain = self.pass(patterns, chunk.get(at..).unwrap_or_default());
                if plain > 0 {
                    at += plain;
                    continue;
                }
            }
            self.take(*byte);
            self.advance(patterns, false);
            at += 1;
            at -= self.hand_back(at);
        }
        self.give()
    }

    pub(super) fn pause(&mut self) -> Masked {
        let from = self.place(self.head);
        let held = self.raw.len().saturating_sub(from);
        if !self.dropping && held > 0 && held + self.pending.len() <= HEAD_BYTES {
            self.show(from, self.raw.len());
            self.shown = self.raw.len();
        }
        self.give()
    }

    pub(super) fn finish(&mut self, patterns: &Patterns) -> Masked {
        for byte in std::mem::take(&mut self.pending) {
            self.add(byte);
        }
        self.advance(patterns, true);
        self.give()
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.raw.len().saturating_sub(self.place(self.head)) + self.pending.len()
    }

    fn give(&mut self) -> Masked {
        let count = std::mem::take(&mut self.count);
        Masked::new(Bytes::from(std::mem::take(&mut self.out)), count)
    }

    fn is_idle(&self) -> bool {
        self.state.is_none() && self.text.is_empty() && self.pending.is_empty()
    }

    /// Forgets a candidate that began in the current chunk, of which `taken` bytes are stored, so that
    /// the faster [`Self::pass`] takes it up. Only after progress, as it may come back here.
    fn hand_back(&mut self, taken: usize) -> usize {
        let count = self.text.len() - self.head;
        let from = self.place(self.head);
        let whole = self.raw.len() - from == count && self.pending.is_empty();
        let progress = std::mem::take(&mut self.settled);
        if !progress || !whole || count > taken || self.dropping || self.shown > from {
            return 0;
        }
        self.state = None;
        self.head = self.text.len();
        self.compact();
        count
    }

    /// Shows the start of a chunk in which nothing matches and nothing is left open, without storing
    /// it. Gives its length.
    fn pass(&mut self, patterns: &Patterns, chunk: &[u8]) -> usize {
        let mut previous = self.previous;
        let (mut at, mut earned) = (0, 0);
        while let Some((byte, more)) = chunk.get(at..).and_then(<[u8]>::split_first) {
            if *byte == ESC {
                match escape::length(more) {
                    Some(length) => at += 1 + length,
                    None => break,
                }
                continue;
            }
            let Some(start) = patterns.start(previous) else {
                break;
            };
            let begins = match more.first() {
                Some(&ESC) | None => start.begins.get(usize::from(*byte)) == Some(&true),
                Some(second) => start.pair(*byte, *second),
            };
            if begins {
                let candidate = chunk.get(at..).unwrap_or_default();
                let Some(steps) = self.fails(patterns, start.state, candidate) else {
                    break;
                };
                if steps > STEPS_PER_BYTE {
                    self.earn(at - earned);
                    earned = at;
                    // The slow path accounts for it, and withholds it.
                    if !self.spend(steps) {
                        break;
                    }
                }
            }
            previous = Some(*byte);
            at += 1;
        }
        self.previous = previous;
        self.earn(at - earned);
        self.out
            .extend_from_slice(chunk.get(..at).unwrap_or_default());
        at
    }

    /// After how many bytes a candidate proves to be nothing, if it does within this chunk.
    #[inline]
    fn fails(&mut self, patterns: &Patterns, start: StateID, candidate: &[u8]) -> Option<u64> {
        let mut state = start;
        let mut found = false;
        for (taken, byte) in candidate.iter().enumerate().take(HELD_BYTES_MAX) {
            if *byte == ESC {
                return None;
            }
            state = patterns.next(state, *byte);
            if !patterns.is_special(state) {
                continue;
            }
            if patterns.is_dead(state) {
                let chosen = found && choose(patterns, candidate, &mut self.ends).is_some();
                return (!chosen).then_some(taken as u64);
            }
            if !std::mem::replace(&mut found, true) {
                self.ends.clear();
            }
            note(patterns, state, taken, &mut self.ends);
        }
        None
    }

    /// Stores a byte, as text or as part of an escape sequence.
    fn take(&mut self, byte: u8) {
        if self.pending.is_empty() && byte != ESC {
            return self.add(byte);
        }
        self.pending.push(byte);
        match escape::look(&self.pending) {
            Escape::Unfinished => {}
            Escape::Complete if self.head == self.text.len() && !self.dropping => {
                self.out.append(&mut self.pending);
            }
            Escape::Complete => self.raw.append(&mut self.pending),
            Escape::Text => {
                let mut bytes = std::mem::take(&mut self.pending);
                // The last byte may begin another sequence.
                if bytes.last() == Some(&ESC) {
                    bytes.pop();
                    self.pending.push(ESC);
                }
                for byte in bytes {
                    self.add(byte);
                }
            }
        }
    }

    fn add(&mut self, byte: u8) {
        self.places
            .push(u32::try_from(self.raw.len()).unwrap_or(u32::MAX));
        self.raw.push(byte);
        self.text.push(byte);
    }

    /// Saves up work for settled bytes.
    fn earn(&mut self, bytes: usize) {
        let more = (bytes as u64).saturating_mul(STEPS_PER_BYTE);
        self.steps_left = self.steps_left.saturating_add(more).min(STEPS_SAVED_MAX);
    }

    /// Takes what a failed candidate cost from the saved work; false when there is not enough.
    fn spend(&mut self, steps: u64) -> bool {
        if steps <= STEPS_PER_BYTE {
            return true;
        }
        let left = self.steps_left.checked_sub(steps);
        self.steps_left = left.unwrap_or(self.steps_left);
        left.is_some()
    }

    /// Where a byte of `text` stands in `raw`.
    fn place(&self, at: usize) -> usize {
        self.places
            .get(at)
            .map_or(self.raw.len(), |place| *place as usize)
    }

    /// Runs the automaton over what is stored.
    fn advance(&mut self, patterns: &Patterns, over: bool) {
        loop {
            let Some(state) = self.state else {
                if !self.begin(patterns) {
                    break;
                }
                continue;
            };
            let taken = self.text.get(self.next).copied();
            let state = match taken {
                Some(byte) => patterns.next(state, byte),
                None if over => patterns.end(state),
                None => break,
            };
            self.state = Some(state);
            if patterns.is_special(state) && !self.dropping {
                note(patterns, state, self.next - self.head, &mut self.ends);
            }
            if taken.is_none() || patterns.is_dead(state) {
                self.resolve(patterns);
                continue;
            }
            self.next += 1;
            if self.dropping {
                self.settle(self.next);
            } else if self.place(self.next - 1) - self.place(self.head) >= HELD_BYTES_MAX {
                self.withhold(patterns, self.next);
                self.dropping = true;
            }
        }
        self.compact();
    }

    /// Begins a candidate at `head`, or settles what cannot be one; false when nothing is left.
    fn begin(&mut self, patterns: &Patterns) -> bool {
        while let Some(byte) = self.text.get(self.head).copied() {
            let Some(start) = patterns.start(self.previous) else {
                return false;
            };
            if start.begins.get(usize::from(byte)) == Some(&true) {
                self.state = Some(start.state);
                self.next = self.head;
                self.ends.clear();
                return true;
            }
            self.show_to(self.head + 1);
        }
        false
    }

    /// The candidate cannot grow: replaces its longest match, or settles its first byte.
    fn resolve(&mut self, patterns: &Patterns) {
        self.state = None;
        if std::mem::take(&mut self.dropping) {
            return;
        }
        let text = self.text.get(self.head..).unwrap_or_default();
        if let Some((pattern, end, secret)) = choose(patterns, text, &mut self.ends) {
            let head = self.head;
            self.show_to(head + secret.start);
            self.replace(patterns.name(pattern), head + secret.end);
            self.show_to(head + end);
        } else if self.spend((self.next - self.head) as u64) {
            self.show_to(self.head + 1);
        } else {
            self.withhold(patterns, self.next.max(self.head + 1));
        }
    }

    /// Replaces the candidate up to `to` without knowing what it is.
    fn withhold(&mut self, patterns: &Patterns, to: usize) {
        let name = self
            .ends
            .last()
            .map_or("withheld", |(_, pattern)| patterns.name(*pattern));
        self.replace(name, to);
    }

    fn replace(&mut self, name: &str, to: usize) {
        let last = self.place(to - 1) + 1;
        self.out.extend_from_slice(b"[masked:");
        self.out.extend_from_slice(name.as_bytes());
        self.out.push(b']');
        self.count += 1;
        self.settle(to);
        // What follows the last byte before the next one is an escape sequence: it ends a colour.
        self.show(last, self.place(to));
    }

    fn show_to(&mut self, to: usize) {
        if to > self.head {
            self.show(self.place(self.head), self.place(to));
            self.settle(to);
        }
    }

    /// Puts a part of `raw` out, but for what a pause gave on.
    fn show(&mut self, from: usize, to: usize) {
        let part = self.raw.get(from.max(self.shown)..to).unwrap_or_default();
        self.out.extend_from_slice(part);
    }

    fn settle(&mut self, to: usize) {
        self.earn(to.saturating_sub(self.head));
        self.previous = self.text.get(to.wrapping_sub(1)).copied().or(self.previous);
        self.head = to;
        self.settled = true;
    }

    /// Forgets what is settled.
    fn compact(&mut self) {
        let settled = self.place(self.head);
        if self.head == self.text.len() && self.state.is_none() {
            self.text.clear();
            self.places.clear();
            self.raw.clear();
            (self.head, self.next, self.shown) = (0, 0, 0);
        } else if settled >= COMPACT_BYTES {
            self.raw.drain(..settled);
            self.text.drain(..self.head);
            self.places.drain(..self.head);
            for place in &mut self.places {
                *place = place.saturating_sub(u32::try_from(settled).unwrap_or(u32::MAX));
            }
            self.next = self.next.saturating_sub(self.head);
            self.shown = self.shown.saturating_sub(settled);
            self.head = 0;
        }
    }
}

/// Notes the matches that a state shows; one byte late, when what follows them is known.
fn note(patterns: &Patterns, state: StateID, end: usize, ends: &mut Vec<(usize, PatternID)>) {
    for pattern in patterns.matches(state).filter(|_| end > 0) {
        if !patterns.is_checked(pattern) {
            ends.retain(|(_, one)| *one != pattern);
        } else if ends.len() >= ENDS_MAX {
            ends.remove(0);
        }
        ends.push((end, pattern));
    }
}

/// The longest match that its check confirms; of equally long ones that which was named first.
fn choose(
    patterns: &Patterns,
    text: &[u8],
    ends: &mut [(usize, PatternID)],
) -> Option<(PatternID, usize, Range<usize>)> {
    ends.sort_by(|one, other| other.0.cmp(&one.0).then(one.1.cmp(&other.1)));
    ends.iter().find_map(|(end, pattern)| {
        let secret = patterns.secret(*pattern, text.get(..*end)?)?;
        Some((*pattern, *end, secret))
    })
}
