//! Cuts a byte stream at line feeds.

use bytes::{Bytes, BytesMut};

/// Holds the beginning of a line; at most `max` bytes.
#[derive(Debug)]
pub(crate) struct Lines {
    pending: BytesMut,
    max: usize,
    searched: usize,
}

/// A line is longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Lines {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            pending: BytesMut::new(),
            max,
            searched: 0,
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole line, without its line feed.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        let rest = self.pending.get(self.searched..).unwrap_or(&[]);
        let Some(at) = rest.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.pending.len();
            return if self.searched > self.max {
                Err(TooLong)
            } else {
                Ok(None)
            };
        };
        let end = self.searched + at;
        self.searched = 0;
        let mut line = self.pending.split_to(end + 1);
        line.truncate(end);
        if line.len() > self.max {
            return Err(TooLong);
        }
        Ok(Some(line.freeze()))
    }

    /// What stands behind the last line feed, at the end of the stream.
    pub(crate) fn rest(&mut self) -> Result<Option<Bytes>, TooLong> {
        if self.pending.len() > self.max {
            return Err(TooLong);
        }
        self.searched = 0;
        let rest = self.pending.split();
        Ok((!rest.is_empty()).then(|| rest.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_wherever_the_chunks_are_cut() {
        let text = b"one\n\ntwo\nrest";
        for cut in 0..text.len() {
            let mut lines = Lines::new(8);
            let mut seen = Vec::new();
            for part in [&text[..cut], &text[cut..]] {
                lines.push(part);
                while let Some(line) = lines.next().unwrap() {
                    seen.push(line);
                }
            }
            seen.extend(lines.rest().unwrap());
            let expected: [&[u8]; 4] = [b"one", b"", b"two", b"rest"];
            assert_eq!(seen, expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::new(8);
        lines.push(b"123456789");
        assert_eq!(lines.next(), Err(TooLong));
        let mut lines = Lines::new(8);
        lines.push(b"123456789\n");
        assert_eq!(lines.next(), Err(TooLong));
    }
}
