//! Obligations applied to values. Only this crate makes a [`Masked`].
//!
//! Protocol-independent and pure: a protocol says which column of a result is of which kind and
//! format, and frames what comes out. A value that cannot be masked safely is withheld (NULL).

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

mod digest;
mod document;
mod key;
mod plan;
mod rows;
mod sample;
mod stream;
mod value;

pub use crate::digest::Digest;
pub use crate::document::{
    DocumentRules, Encoding, Member, Unreadable, document, holds_masked_text,
};
pub use crate::key::MaskKey;
pub use crate::plan::{ColumnPlan, Format, MaskPlan, ValueKind};
pub use crate::rows::{CellFate, Masked, RowMasker};
pub use crate::sample::{Sample, Shown};
pub use crate::stream::{
    Detector, HEAD_BYTES, HELD_BYTES_MAX, OutputMasker, OutputPatterns, PatternProblem, Patterns,
    text, without_secrets,
};
pub use crate::value::shown;
