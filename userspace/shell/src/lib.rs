//! A command line taken apart: what a shell would run for it, as far as its text shows.
//!
//! Pure and without a shell's state: variables, files and aliases are unknown, so whatever depends on
//! them is reported as [`Unclear`] and never guessed. The grammar is brush-parser's (POSIX and bash);
//! its command structure is walked here. Words are read by this crate, in linear time: the grammar
//! crate's own word parser backtracks exponentially on nested substitutions.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

mod grammar;
mod options;
mod script;
mod walk;
mod word;
mod wrappers;

pub use crate::script::{
    Command, Context, Direction, PipePlace, Redirection, Refused, Script, Unclear, Within, Word,
};

/// Longest text, in bytes.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// Deepest nesting of commands, substitutions and texts that are themselves command lines.
pub const DEPTH_MAX: usize = 32;
/// Most commands of one text, those inside wrappers included.
pub const COMMANDS_MAX: usize = 1_000;

/// Takes a text apart as `sh -c` or `bash -c` would read it.
///
/// # Errors
/// [`Refused`] when the text as a whole cannot be read within the limits. What is unreadable deeper
/// inside (a `sh -c` with a syntax error) is an [`Unclear`] entry instead.
pub fn parse(text: &str) -> Result<Script, Refused> {
    walk::text(text)
}

/// Takes apart an argument vector that no shell splits: its words are literal, and wrappers are seen
/// through as in [`parse`].
///
/// # Errors
/// [`Refused`] as for [`parse`]; an empty vector is [`Refused::Empty`].
pub fn parse_argv(argv: &[&str]) -> Result<Script, Refused> {
    walk::argv(argv)
}

/// The text that a shell reads as exactly this argument vector.
#[must_use]
pub fn join(argv: &[&str]) -> String {
    let quoted: Vec<String> = argv.iter().map(|word| word::quote(word)).collect();
    quoted.join(" ")
}
