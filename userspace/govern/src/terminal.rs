//! Terminals as they are recorded: pieces of an asciicast (version 2), made of what was shown.
//!
//! A piece is whole event lines, each `[seconds, code, text]` with the codes `o`, `i` and `r` of
//! the format (<https://docs.asciinema.org/manual/asciicast/v2/>). The first line of the first
//! piece is the header. What is shown is masked before it comes here.

use weir_model::time::Now;

/// A piece is given out when it has this many bytes …
const PIECE_BYTES: usize = 16 * 1024;
/// … or is this old.
const PIECE_AGE_US: u64 = 1_000_000;
/// Of one terminal. What comes after is not recorded, so the terminal must end.
pub const CAST_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The terminal showed more than [`CAST_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the terminal is longer than what is recorded of one (64 MiB)")]
pub struct TooLong;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Code {
    Output,
    Input,
    Resize,
}

impl Code {
    const fn letter(self) -> char {
        match self {
            Self::Output => 'o',
            Self::Input => 'i',
            Self::Resize => 'r',
        }
    }
}

/// One terminal.
#[derive(Debug)]
pub struct Cast {
    started_us: u64,
    piece: String,
    piece_since_us: u64,
    total: u64,
    /// Ends of the two streams inside a character: at most three bytes each.
    output_rest: Vec<u8>,
    input_rest: Vec<u8>,
}

impl Cast {
    /// A terminal of `columns` × `rows`, 80 × 24 where the client says 0; `title` is the command or
    /// empty.
    #[must_use]
    pub fn new(size: (u32, u32), term: &str, title: &str, now: Now) -> Self {
        let mut piece = String::new();
        let columns = if size.0 == 0 { 80 } else { size.0 };
        let rows = if size.1 == 0 { 24 } else { size.1 };
        piece += &format!(
            "{{\"version\":2,\"width\":{columns},\"height\":{rows},\"timestamp\":{},\"title\":",
            now.unix_s()
        );
        quote(title, &mut piece);
        piece.push_str(",\"env\":{\"TERM\":");
        quote(term, &mut piece);
        piece.push_str("}}\n");
        Self {
            started_us: now.mono_us,
            piece,
            piece_since_us: now.mono_us,
            total: 0,
            output_rest: Vec::new(),
            input_rest: Vec::new(),
        }
    }

    /// What the agent gets to see, masked.
    ///
    /// # Errors
    /// [`TooLong`]
    pub fn output(&mut self, bytes: &[u8], now: Now) -> Result<(), TooLong> {
        let mut rest = std::mem::take(&mut self.output_rest);
        let text = characters(&mut rest, bytes);
        self.output_rest = rest;
        self.event(Code::Output, &text, now)
    }

    /// What the agent typed.
    ///
    /// # Errors
    /// [`TooLong`]
    pub fn input(&mut self, bytes: &[u8], now: Now) -> Result<(), TooLong> {
        let mut rest = std::mem::take(&mut self.input_rest);
        let text = characters(&mut rest, bytes);
        self.input_rest = rest;
        self.event(Code::Input, &text, now)
    }

    /// # Errors
    /// [`TooLong`]
    pub fn resize(&mut self, columns: u32, rows: u32, now: Now) -> Result<(), TooLong> {
        self.event(Code::Resize, &format!("{columns}x{rows}"), now)
    }

    fn event(&mut self, code: Code, text: &str, now: Now) -> Result<(), TooLong> {
        if text.is_empty() {
            return Ok(());
        }
        if self.piece.is_empty() {
            self.piece_since_us = now.mono_us;
        }
        let at_us = now.mono_us.saturating_sub(self.started_us);
        let before = self.piece.len();
        self.piece += &format!(
            "[{}.{:06},\"{}\",",
            at_us / 1_000_000,
            at_us % 1_000_000,
            code.letter()
        );
        quote(text, &mut self.piece);
        self.piece.push_str("]\n");
        self.total += (self.piece.len() - before) as u64;
        if self.total > CAST_BYTES_MAX {
            return Err(TooLong);
        }
        Ok(())
    }

    /// The piece that has to be recorded now: it is large or old enough.
    pub fn due(&mut self, now: Now) -> Option<String> {
        let old = now.mono_us.saturating_sub(self.piece_since_us) >= PIECE_AGE_US;
        if self.piece.len() >= PIECE_BYTES || (old && !self.piece.is_empty()) {
            return self.rest();
        }
        None
    }

    /// All that was not given out, at the end.
    pub fn rest(&mut self) -> Option<String> {
        let piece = std::mem::take(&mut self.piece);
        (!piece.is_empty()).then_some(piece)
    }
}

/// Whole characters of `rest` and `bytes`; what is no UTF-8 becomes U+FFFD, and a character that
/// is not whole yet stays in `rest`.
fn characters(rest: &mut Vec<u8>, bytes: &[u8]) -> String {
    rest.extend_from_slice(bytes);
    let mut text = String::with_capacity(rest.len());
    let mut kept = 0;
    for chunk in rest.utf8_chunks() {
        text.push_str(chunk.valid());
        let invalid = chunk.invalid();
        let at_end = kept + chunk.valid().len() + invalid.len() == rest.len();
        if at_end && is_beginning(invalid) {
            kept += chunk.valid().len();
            break;
        }
        if !invalid.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        kept += chunk.valid().len() + invalid.len();
    }
    rest.drain(..kept);
    text
}

/// A cut-off character, as opposed to bytes that never become one.
fn is_beginning(bytes: &[u8]) -> bool {
    !bytes.is_empty() && std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

/// A JSON string (RFC 8259, 7).
fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 || c == '\u{7f}' => {
                *out += &format!("\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(us: u64) -> Now {
        Now {
            mono_us: us,
            wall_us: 1_700_000_000_000_000 + us.cast_signed(),
        }
    }

    #[test]
    fn is_an_asciicast() {
        let mut cast = Cast::new((80, 24), "xterm", "bash \"x\"", at(0));
        cast.output(b"a\x1b[1m\"\n", at(1_500_000)).unwrap();
        cast.input(b"ls\r", at(1_600_000)).unwrap();
        cast.resize(100, 40, at(2_000_000)).unwrap();
        let piece = cast.rest().unwrap();
        let lines: Vec<&str> = piece.lines().collect();
        assert_eq!(
            lines,
            [
                "{\"version\":2,\"width\":80,\"height\":24,\"timestamp\":1700000000,\"title\":\"bash \\\"x\\\"\",\"env\":{\"TERM\":\"xterm\"}}",
                "[1.500000,\"o\",\"a\\u001b[1m\\\"\\n\"]",
                "[1.600000,\"i\",\"ls\\r\"]",
                "[2.000000,\"r\",\"100x40\"]",
            ]
        );
        assert_eq!(cast.rest(), None);
    }

    #[test]
    fn characters_survive_any_cut() {
        let text = "é€😀x\u{fffd}".as_bytes();
        for cut in 0..=text.len() {
            let (first, second) = text.split_at(cut);
            let mut rest = Vec::new();
            let mut seen = characters(&mut rest, first);
            seen.push_str(&characters(&mut rest, second));
            assert_eq!(seen.as_bytes(), text, "cut at {cut}");
            assert!(rest.is_empty());
        }
        let mut rest = Vec::new();
        assert_eq!(characters(&mut rest, b"a\xffb\xe2\x82"), "a\u{fffd}b");
        assert_eq!(rest, b"\xe2\x82");
        assert_eq!(characters(&mut rest, b"z"), "\u{fffd}z");
    }

    #[test]
    fn a_piece_is_due_by_size_or_age() {
        let mut cast = Cast::new((80, 24), "", "", at(0));
        assert_eq!(cast.due(at(10)), None);
        assert!(cast.due(at(PIECE_AGE_US)).is_some());
        assert_eq!(cast.due(at(5 * PIECE_AGE_US)), None, "nothing was shown");
        cast.output(&[b'x'; PIECE_BYTES], at(5 * PIECE_AGE_US))
            .unwrap();
        assert!(cast.due(at(5 * PIECE_AGE_US)).is_some());
    }

    #[test]
    fn a_terminal_has_a_limit() {
        let mut cast = Cast::new((80, 24), "", "", at(0));
        let chunk = vec![b'x'; 1024 * 1024];
        let mut shown = 0;
        while cast.output(&chunk, at(1)).is_ok() {
            shown += 1;
            cast.rest();
        }
        assert!(shown < 65);
    }
}
