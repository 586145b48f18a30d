//! Large texts stand apart in the record: once in a session, in facts of their own before the one that names them.
//!
//! What names them has their beginning, length and SHA-256. Facts of kind `value` are pieces, in the column that the
//! text belongs to, so that whoever may not read parameters cannot read large ones either.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weir_model::fact::FactKind;
use weir_model::time::Now;

use crate::Governor;

/// Bytes of a statement, or of all parameters, that stand in their request's own fact.
pub const IN_PLACE_BYTES_MAX: usize = 64 * 1024;
/// Of a larger one, what stands there.
const BEGINNING_BYTES: usize = 4096;
/// Bytes of the text of one fact.
const PIECE_BYTES: usize = 1024 * 1024;
/// Bytes of a parameter that are kept; of a larger one the length and digest are. No message of a client is larger.
pub const PARAMETER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Digests of a session that are known to be recorded; an older text is recorded once more.
const KNOWN_MAX: usize = 64;

/// What the session has recorded apart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Known(VecDeque<(Column, [u8; 32])>);

impl Known {
    /// False when it was known.
    fn add(&mut self, column: Column, digest: [u8; 32]) -> bool {
        if self.0.contains(&(column, digest)) {
            return false;
        }
        if self.0.len() >= KNOWN_MAX {
            self.0.pop_front();
        }
        self.0.push_back((column, digest));
        true
    }
}

/// The column that a text belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Column {
    Statement,
    Parameters,
}

impl Governor {
    /// A statement as its fact has it.
    pub(crate) fn statement_in_place(&mut self, text: &Arc<str>, now: Now) -> Arc<str> {
        if text.len() <= IN_PLACE_BYTES_MAX {
            return Arc::clone(text);
        }
        Arc::from(self.apart(Column::Statement, text, now))
    }

    /// Parameters as their fact has them.
    pub(crate) fn parameters_in_place(&mut self, text: &str, now: Now) -> String {
        if text.len() <= IN_PLACE_BYTES_MAX {
            return text.to_owned();
        }
        self.apart(Column::Parameters, text, now)
    }

    fn apart(&mut self, column: Column, text: &str, now: Now) -> String {
        let mark = self.record_apart(column, (text.as_bytes(), text), now);
        format!("{}{mark}", beginning(text, BEGINNING_BYTES))
    }

    /// Records a parameter's value that is too large for its place, and gives the mark that stands behind its
    /// beginning. `text` is `value` in a readable form. What is larger than [`PARAMETER_BYTES_MAX`] is named by its
    /// length and digest alone.
    pub fn large_parameter(&mut self, value: &[u8], text: &str, now: Now) -> String {
        self.record_apart(Column::Parameters, (value, text), now)
    }

    fn record_apart(&mut self, column: Column, (value, text): (&[u8], &str), now: Now) -> String {
        let digest: [u8; 32] = Sha256::digest(value).into();
        let mut hex = String::with_capacity(64);
        for byte in digest {
            let _infallible = write!(hex, "{byte:02x}");
        }
        let mark = format!("…({} bytes, sha256 {hex})", value.len());
        let kept = column == Column::Statement || value.len() <= PARAMETER_BYTES_MAX;
        if !kept || !self.known.add(column, digest) {
            return mark;
        }
        let pieces = pieces(text);
        let parts = pieces.len();
        for (index, piece) in pieces.into_iter().enumerate() {
            let mut fact = self.next_fact(FactKind::Value, now);
            match column {
                Column::Statement => fact.statement = Arc::from(piece),
                Column::Parameters => piece.clone_into(&mut fact.parameters),
            }
            fact.reason = format!("part {} of {parts} of {} bytes", index + 1, value.len());
            fact.labels = vec![
                ("bytes".to_owned(), value.len().to_string()),
                ("part".to_owned(), (index + 1).to_string()),
                ("parts".to_owned(), parts.to_string()),
                ("sha256".to_owned(), hex.clone()),
            ];
            self.note_fact(fact);
        }
        mark
    }
}

/// Up to so many bytes, between characters.
fn beginning(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

fn pieces(text: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let piece = beginning(rest, PIECE_BYTES);
        pieces.push(piece);
        rest = rest.get(piece.len()..).unwrap_or_default();
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_whole_characters_and_all_of_the_text() {
        let text = format!("x{}", "ü".repeat(PIECE_BYTES));
        let pieces = pieces(&text);
        assert_eq!(pieces.len(), 3);
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
        assert_eq!(pieces.concat(), text);
        assert_eq!(beginning("aü", 2), "a");
    }

    #[test]
    fn what_a_session_has_recorded_is_remembered_within_limits() {
        let mut known = Known::default();
        let add = |known: &mut Known, number| known.add(Column::Statement, [number; 32]);
        assert!(add(&mut known, 1));
        assert!(!add(&mut known, 1));
        // Other people may read the other column.
        assert!(known.add(Column::Parameters, [1; 32]));
        let mut known = Known::default();
        assert!(add(&mut known, 1));
        for number in 2..=u8::try_from(KNOWN_MAX + 1).unwrap() {
            assert!(add(&mut known, number));
        }
        assert_eq!(known.0.len(), KNOWN_MAX);
        assert!(add(&mut known, 1));
    }
}
