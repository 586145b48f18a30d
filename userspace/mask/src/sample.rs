//! The head of a masked reply for the record, as JSON lines.

use serde::{Deserialize, Serialize};
/// Collects masked cells; what is over the limits is left out and marked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    text: String,
    truncated: bool,
}

/// Bytes of one cell that are kept.
const CELL_BYTES_MAX: usize = 1024;
/// Bytes of all rows that are kept.
const TEXT_BYTES_MAX: usize = 64 * 1024;

impl Sample {
    /// Adds a row of masked values. Values that are not UTF-8 are kept as `0x…`.
    pub fn row<'a>(&mut self, cells: impl Iterator<Item = Option<&'a [u8]>>) {
        if self.text.len() > TEXT_BYTES_MAX {
            self.truncated = true;
            return;
        }
        self.text.push('[');
        for (index, cell) in cells.enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            match cell {
                None => self.text.push_str("null"),
                Some(bytes) => self.cell(bytes),
            }
        }
        self.text.push_str("]\n");
    }

    fn cell(&mut self, bytes: &[u8]) {
        let kept = bytes.get(..CELL_BYTES_MAX).unwrap_or(bytes);
        if kept.len() < bytes.len() {
            self.truncated = true;
        }
        self.text.push('"');
        match std::str::from_utf8(kept) {
            Ok(text) => {
                for c in text.chars() {
                    match c {
                        '"' => self.text.push_str("\\\""),
                        '\\' => self.text.push_str("\\\\"),
                        c if u32::from(c) < 0x20 => {
                            self.text.push_str(&format!("\\u{:04x}", u32::from(c)));
                        }
                        c => self.text.push(c),
                    }
                }
            }
            Err(_) => {
                self.text.push_str("0x");
                for byte in kept {
                    self.text.push_str(&format!("{byte:02x}"));
                }
            }
        }
        self.text.push('"');
    }

    /// More rows exist than are here.
    pub const fn mark_truncated(&mut self) {
        self.truncated = true;
    }

    /// The text and whether something was left out.
    #[must_use]
    pub fn finish(self) -> (String, bool) {
        (self.text, self.truncated)
    }
}
