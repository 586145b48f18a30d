//! Output of terminals and commands, masked while it streams.
//!
//! All patterns are one automaton, tried at each place where one of them can start; the leftmost match
//! wins, and of those that start together the longest that its detector confirms. What could still
//! become a match is kept back, so the output is the same however the input is cut. Escape sequences
//! that only colour or move (CSI) are not part of the text: a secret with colours inside is found.
//!
//! Not seen through: text that is written in another order than it is shown (cursor movement), other
//! escape sequences inside a secret (OSC hyperlinks), and any encoding of a secret.

mod checks;
mod detectors;
mod engine;
mod escape;
mod patterns;

use std::sync::Arc;

pub use self::detectors::Detector;
pub use self::patterns::{PatternProblem, Patterns};
use crate::rows::Masked;
use engine::Engine;

/// A pause gives on at most this many bytes of what could still become a match: an echo of typed keys
/// stays visible, and a secret shows no more of itself.
pub const HEAD_BYTES: usize = 4;
/// Most bytes that are kept back. A longer unfinished candidate is withheld as if it were a match.
pub const HELD_BYTES_MAX: usize = 64 << 10;

/// The patterns of a node's outputs.
#[derive(Clone, Debug)]
pub struct OutputPatterns {
    pub command: Arc<Patterns>,
    /// Without what may begin at any word, since a word that is typed would be shown only once it
    /// is whole.
    pub terminal: Arc<Patterns>,
}

impl OutputPatterns {
    /// # Errors
    /// As [`Patterns::new`].
    pub fn new(detectors: &[Detector], own: &[(String, String)]) -> Result<Self, PatternProblem> {
        let slow = [Detector::Email, Detector::UrlPassword];
        let quick: Vec<Detector> = detectors
            .iter()
            .copied()
            .filter(|detector| !slow.contains(detector))
            .collect();
        Ok(Self {
            command: Arc::new(Patterns::new(detectors, own)?),
            terminal: Arc::new(Patterns::new(&quick, own)?),
        })
    }
}

/// Masks one stream.
pub struct OutputMasker {
    patterns: Arc<Patterns>,
    engine: Engine,
}

impl OutputMasker {
    #[must_use]
    pub fn new(patterns: Arc<Patterns>) -> Self {
        Self {
            patterns,
            engine: Engine::new(),
        }
    }

    /// Takes a chunk and gives what may be shown now. What could still become a match is kept back.
    pub fn push(&mut self, chunk: &[u8]) -> Masked {
        self.engine.push(&self.patterns, chunk)
    }

    /// The stream paused. What is kept back is given on if it is at most [`HEAD_BYTES`] long; it goes on
    /// being tracked, so that the rest of a match is masked.
    pub fn pause(&mut self) -> Masked {
        self.engine.pause()
    }

    /// The stream is over; nothing may be pushed after it.
    pub fn finish(&mut self) -> Masked {
        self.engine.finish(&self.patterns)
    }

    /// Bytes that are kept back, at most about [`HELD_BYTES_MAX`].
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.engine.held_bytes()
    }
}

/// A text for the record, without what the patterns find in it.
#[must_use]
pub fn without_secrets(patterns: &Patterns, input: &str) -> String {
    String::from_utf8_lossy(text(patterns, input.as_bytes()).bytes()).into_owned()
}

/// Masks one whole value.
#[must_use]
pub fn text(patterns: &Patterns, input: &[u8]) -> Masked {
    let mut engine = Engine::new();
    let shown = engine.push(patterns, input);
    let rest = engine.finish(patterns);
    let count = shown.masked_values() + rest.masked_values();
    if rest.is_empty() {
        return shown;
    }
    let mut bytes = Vec::from(shown.into_bytes());
    bytes.extend_from_slice(rest.bytes());
    Masked::new(bytes.into(), count)
}

#[cfg(test)]
mod tests;
