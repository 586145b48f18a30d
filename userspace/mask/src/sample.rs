//! What of a masked reply the record keeps: head, tail or all of it, as JSON lines of rows, or as bytes.
//!
//! Bounded whatever policy asks for: what does not fit is left out, and said to be.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use weir_decide::Keep;

use crate::digest::Digest;

/// Bytes of one cell that are kept.
const CELL_BYTES_MAX: usize = 1024;
/// Bytes of the rows of a head, and of a tail.
const PART_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a reply of which everything is kept, and of one of its cells.
const ALL_BYTES_MAX: usize = 1024 * 1024;

/// Collects masked rows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sample {
    text: String,
    /// Something of a row that is here is missing.
    truncated: bool,
    /// Rows in `text`.
    #[serde(default)]
    rows: u64,
    #[serde(default)]
    tail: VecDeque<String>,
    #[serde(default)]
    tail_bytes: usize,
    #[serde(default)]
    digest: Digest,
}

impl Sample {
    /// Whether the row behind `before` others has to be looked at.
    #[must_use]
    pub const fn wants(&self, keep: Keep, before: u64) -> bool {
        keep.tail > 0 || self.has_room(keep, before)
    }

    const fn has_room(&self, keep: Keep, before: u64) -> bool {
        // What stands behind a gap is no head.
        self.rows == before
            && if keep.all {
                self.text.len() < ALL_BYTES_MAX
            } else {
                before < keep.head as u64 && self.text.len() < PART_BYTES_MAX
            }
    }

    /// Adds a row of masked values, which came behind `before` others. Values that are not UTF-8 are kept as `0x…`.
    pub fn row<'a>(
        &mut self,
        keep: Keep,
        before: u64,
        cells: impl Iterator<Item = Option<&'a [u8]>>,
    ) {
        let cell_max = if keep.all {
            ALL_BYTES_MAX
        } else {
            CELL_BYTES_MAX
        };
        if self.has_room(keep, before) {
            self.truncated |= put_row(&mut self.text, cells, cell_max);
            self.rows += 1;
        } else if keep.tail > 0 {
            let mut row = String::new();
            self.truncated |= put_row(&mut row, cells, CELL_BYTES_MAX);
            self.tail_bytes += row.len();
            self.tail.push_back(row);
            while self.tail.len() > keep.tail as usize || self.tail_bytes > PART_BYTES_MAX {
                let Some(gone) = self.tail.pop_front() else {
                    break;
                };
                self.tail_bytes -= gone.len();
            }
        }
    }

    /// What the agent is sent.
    pub fn sent(&mut self, bytes: &[u8]) {
        self.digest.add(bytes);
    }

    /// The text of a reply of so many rows, whether something is missing, and the digest. Between a head and a tail
    /// stands how many rows were left out.
    #[must_use]
    pub fn finish(self, rows: u64) -> (String, bool, u128) {
        let mut text = self.text;
        let left_out = rows.saturating_sub(self.rows + self.tail.len() as u64);
        if left_out > 0 && !self.tail.is_empty() {
            text.push_str(&format!("{{\"left_out\":{left_out}}}\n"));
        }
        for row in self.tail {
            text.push_str(&row);
        }
        (text, self.truncated || left_out > 0, self.digest.value())
    }
}

/// True when something of it is missing.
fn put_row<'a>(
    text: &mut String,
    cells: impl Iterator<Item = Option<&'a [u8]>>,
    cell_max: usize,
) -> bool {
    let mut cut = false;
    text.push('[');
    for (index, cell) in cells.enumerate() {
        if index > 0 {
            text.push(',');
        }
        match cell {
            None => text.push_str("null"),
            Some(bytes) => {
                // A row of many cells is as bounded as a cell.
                let room = cell_max.min(ALL_BYTES_MAX.saturating_sub(text.len()));
                cut |= put_cell(text, bytes, room);
            }
        }
    }
    text.push_str("]\n");
    cut
}

fn put_cell(text: &mut String, bytes: &[u8], max: usize) -> bool {
    let kept = bytes.get(..max).unwrap_or(bytes);
    text.push('"');
    match std::str::from_utf8(kept) {
        Ok(kept) => put_text(text, kept),
        // Cut within a character.
        Err(error) if kept.len() < bytes.len() && error.error_len().is_none() => {
            let whole = kept.get(..error.valid_up_to()).unwrap_or_default();
            put_text(text, &String::from_utf8_lossy(whole));
        }
        Err(_) => {
            text.push_str("0x");
            for byte in kept {
                text.push_str(&format!("{byte:02x}"));
            }
        }
    }
    text.push('"');
    kept.len() < bytes.len()
}

fn put_text(text: &mut String, kept: &str) {
    for c in kept.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            c if u32::from(c) < 0x20 => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => text.push(c),
        }
    }
}

/// Collects output that has no rows: of programs, files, documents.
#[derive(Debug, Default)]
pub struct Shown {
    keep: Keep,
    head_max: usize,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    bytes: u64,
    digest: Digest,
}

impl Shown {
    /// A head, or a tail that policy asks for, has `part_max` bytes.
    #[must_use]
    pub fn new(keep: Keep, part_max: usize) -> Self {
        Self {
            keep,
            head_max: if keep.all { ALL_BYTES_MAX } else { part_max },
            ..Self::default()
        }
    }

    /// What the agent is sent.
    pub fn add(&mut self, bytes: &[u8]) {
        self.sent(bytes);
        let room = self.head_max.saturating_sub(self.head.len());
        let (head, rest) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(head);
        if self.keep.tail > 0 {
            let from = rest.len().saturating_sub(PART_BYTES_MAX);
            self.tail.extend(rest.get(from..).unwrap_or_default());
            let over = self.tail.len().saturating_sub(PART_BYTES_MAX);
            self.tail.drain(..over);
        }
    }

    /// The same where it is recorded otherwise, as a terminal is.
    pub fn sent(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.digest.add(bytes);
    }

    /// Bytes that were sent.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The text, whether something of so many bytes is missing in it, and the digest.
    #[must_use]
    pub fn finish(self) -> (String, bool, u128) {
        let kept = (self.head.len() + self.tail.len()) as u64;
        let left_out = self.bytes.saturating_sub(kept);
        let mut text = String::from_utf8_lossy(&self.head).into_owned();
        if !self.tail.is_empty() {
            if left_out > 0 {
                text.push_str(&format!("\n[weir: {left_out} bytes are left out]\n"));
            }
            let tail: Vec<u8> = self.tail.into();
            text.push_str(&String::from_utf8_lossy(&tail));
        }
        (text, left_out > 0, self.digest.value())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(head: u32, tail: u32, all: bool) -> Keep {
        Keep { head, tail, all }
    }

    /// Rows `["0"]`, `["1"]` … as they are recorded, and whether some are missing.
    fn rows(keep: Keep, count: u64) -> (String, bool) {
        let mut sample = Sample::default();
        for row in 0..count {
            if sample.wants(keep, row) {
                let cell = row.to_string();
                sample.row(keep, row, [Some(cell.as_bytes())].into_iter());
            }
        }
        let (text, truncated, _) = sample.finish(count);
        (text.replace("\"]\n[\"", " "), truncated)
    }

    #[test]
    fn head_tail_or_all_are_kept() {
        let text = |text: &str, cut| (text.to_owned(), cut);
        assert_eq!(rows(keep(3, 0, false), 2), text("[\"0 1\"]\n", false));
        assert_eq!(rows(keep(2, 0, false), 9), text("[\"0 1\"]\n", true));
        assert_eq!(
            rows(keep(2, 3, false), 9),
            text("[\"0 1\"]\n{\"left_out\":4}\n[\"6 7 8\"]\n", true)
        );
        assert_eq!(rows(keep(2, 3, false), 5), text("[\"0 1 2 3 4\"]\n", false));
        assert_eq!(
            rows(keep(0, 1, false), 3),
            text("{\"left_out\":2}\n[\"2\"]\n", true)
        );
        assert_eq!(rows(keep(0, 0, true), 5), text("[\"0 1 2 3 4\"]\n", false));
    }

    #[test]
    fn what_is_kept_is_bounded_and_says_so() {
        let wide = vec![b'x'; 300_000];
        let cells = || [Some(&wide[..]), None, Some(&b"\x00\xff"[..])].into_iter();
        for (keep, max) in [
            (keep(10_000, 0, false), 2 * PART_BYTES_MAX),
            (keep(10_000, 10_000, false), 3 * PART_BYTES_MAX),
            (keep(1, 1, true), 2 * ALL_BYTES_MAX + PART_BYTES_MAX),
        ] {
            let mut sample = Sample::default();
            for row in 0..1000 {
                sample.row(keep, row, cells());
            }
            let (text, truncated, _) = sample.finish(1000);
            assert!(truncated && text.len() < max, "{keep}: {}", text.len());
            for line in text.lines() {
                assert!(serde_json::from_str::<serde_json::Value>(line).is_ok());
            }
        }
        // All of it is all of it, up to the end of what one fact takes.
        let mut sample = Sample::default();
        sample.row(keep(0, 0, true), 0, cells());
        let (text, truncated, _) = sample.finish(1);
        assert!(!truncated && text.len() > 300_000);
    }

    #[test]
    fn a_cell_is_cut_between_characters() {
        let text = "ü".repeat(CELL_BYTES_MAX);
        let mut sample = Sample::default();
        sample.row(
            keep(1, 0, false),
            0,
            [Some(&text.as_bytes()[1..])].into_iter(),
        );
        assert!(sample.clone().finish(1).1);
        let mut sample = Sample::default();
        let odd = format!("x{text}");
        sample.row(keep(1, 0, false), 0, [Some(odd.as_bytes())].into_iter());
        let (kept, truncated, _) = sample.finish(1);
        assert!(
            truncated && kept.starts_with("[\"xü") && kept.ends_with("ü\"]\n"),
            "{kept}"
        );
    }

    #[test]
    fn output_without_rows_is_kept_by_bytes() {
        let shown = |keep: Keep, pieces: &[&[u8]]| {
            let mut shown = Shown::new(keep, 4);
            pieces.iter().for_each(|piece| shown.add(piece));
            let (text, truncated, digest) = shown.finish();
            assert_ne!(digest, 0);
            (text, truncated)
        };
        assert_eq!(
            shown(keep(9, 0, false), &[b"ab", b"cdef"]),
            ("abcd".to_owned(), true)
        );
        assert_eq!(
            shown(keep(0, 0, true), &[b"ab", b"cdef"]),
            ("abcdef".to_owned(), false)
        );
        assert_eq!(
            shown(keep(0, 1, false), &[b"abcdef", b"gh"]),
            ("abcdefgh".to_owned(), false)
        );
        let long = vec![b'y'; PART_BYTES_MAX + 10];
        let (text, truncated) = shown(keep(0, 1, false), &[b"abcd", &long, b"end"]);
        assert!(truncated && text.starts_with("abcd\n[weir: 13 bytes are left out]\nyy"));
        assert!(text.ends_with("yend"));
    }
}
