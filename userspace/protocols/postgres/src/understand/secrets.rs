//! The text itself: tokens, secrets in it, its shape.

use std::ops::Range;

/// What stands in place of a password in a record.
pub(super) const MARKER: &str = "'<secret>'";

/// A class of token, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A string constant of any form.
    String,
    Number,
    /// A quoted identifier.
    Quoted,
    /// An identifier or keyword.
    Word,
    Parameter,
    Symbol,
}

/// The tokens of a text that the grammar has accepted; comments and white space left out.
pub(super) struct Tokens<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Tokens<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text: text.as_bytes(),
            at: 0,
        }
    }

    pub(super) fn starting_at(text: &'t str, at: usize) -> Self {
        Self {
            text: text.as_bytes(),
            at,
        }
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn skip_blank(&mut self) {
        loop {
            match (self.peek(0), self.peek(1)) {
                (b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c, _) => self.at += 1,
                (b'-', b'-') => {
                    while self.at < self.text.len() && !matches!(self.peek(0), b'\n' | b'\r') {
                        self.at += 1;
                    }
                }
                (b'/', b'*') => self.skip_comment(),
                _ => return,
            }
        }
    }

    fn skip_comment(&mut self) {
        let mut depth = 0usize;
        while self.at < self.text.len() {
            match (self.peek(0), self.peek(1)) {
                (b'/', b'*') => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', b'/') => {
                    depth = depth.saturating_sub(1);
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    /// Up to and with the closing `quote`; doubled quotes stay inside.
    fn quoted(&mut self, quote: u8, backslash: bool) {
        self.at += 1;
        while self.at < self.text.len() {
            let byte = self.peek(0);
            let escaped = byte == b'\\' && backslash;
            let doubled = byte == quote && self.peek(1) == quote;
            if escaped || doubled {
                self.at += 2;
            } else if byte == quote {
                self.at += 1;
                return;
            } else {
                self.at += 1;
            }
        }
    }

    /// A string goes on in the next one when only white space with a line break is between.
    fn continued(&mut self, backslash: bool) {
        loop {
            let end = self.at;
            self.skip_blank();
            let between = self.text.get(end..self.at).unwrap_or_default();
            let broken = between.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
            if self.peek(0) == b'\'' && broken && !between.starts_with(b"/*") {
                self.quoted(b'\'', backslash);
            } else {
                self.at = end;
                return;
            }
        }
    }

    fn dollar(&mut self) -> Token {
        let mut end = self.at + 1;
        while self
            .text
            .get(end)
            .is_some_and(|byte| is_word(*byte) && *byte != b'$')
        {
            end += 1;
        }
        let digit = self.peek(1).is_ascii_digit();
        if self.text.get(end) != Some(&b'$') || digit {
            self.at = end.max(self.at + 1);
            return if digit {
                Token::Parameter
            } else {
                Token::Symbol
            };
        }
        let tag = self.text.get(self.at..=end).unwrap_or_default();
        let body = self.text.get(end + 1..).unwrap_or_default();
        let close = body.windows(tag.len()).position(|window| window == tag);
        self.at = close.map_or(self.text.len(), |close| end + 1 + close + tag.len());
        Token::String
    }

    fn number(&mut self) {
        while is_word(self.peek(0)) || self.peek(0) == b'.' {
            let exponent =
                matches!(self.peek(0), b'e' | b'E') && matches!(self.peek(1), b'+' | b'-');
            self.at += if exponent { 2 } else { 1 };
        }
    }

    fn word(&mut self) {
        while is_word(self.peek(0)) {
            self.at += 1;
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

impl Iterator for Tokens<'_> {
    type Item = (Token, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        self.skip_blank();
        let start = self.at;
        if start >= self.text.len() {
            return None;
        }
        let token = match (self.peek(0), self.peek(1), self.peek(2)) {
            (b'\'', _, _) => {
                self.quoted(b'\'', false);
                self.continued(false);
                Token::String
            }
            (b'e' | b'E', b'\'', _) => {
                self.at += 1;
                self.quoted(b'\'', true);
                self.continued(true);
                Token::String
            }
            (b'b' | b'B' | b'x' | b'X' | b'n' | b'N', b'\'', _) => {
                self.at += 1;
                self.quoted(b'\'', false);
                self.continued(false);
                Token::String
            }
            (b'u' | b'U', b'&', b'\'') => {
                self.at += 2;
                self.quoted(b'\'', false);
                self.continued(false);
                Token::String
            }
            (b'u' | b'U', b'&', b'"') => {
                self.at += 2;
                self.quoted(b'"', false);
                Token::Quoted
            }
            (b'"', _, _) => {
                self.quoted(b'"', false);
                Token::Quoted
            }
            (b'$', _, _) => self.dollar(),
            (b'0'..=b'9', _, _) | (b'.', b'0'..=b'9', _) => {
                self.number();
                Token::Number
            }
            (byte, _, _) if is_word(byte) => {
                self.word();
                Token::Word
            }
            _ => {
                self.at += 1;
                Token::Symbol
            }
        };
        self.at = self.at.min(self.text.len());
        Some((token, start..self.at))
    }
}

/// The range of the literal that starts at `at`.
pub(super) fn literal_at(text: &str, at: usize) -> Option<Range<usize>> {
    let mut tokens = Tokens::starting_at(text, at);
    let (token, range) = tokens.next()?;
    match token {
        Token::String | Token::Number => Some(range),
        // A sign belongs to the number that follows.
        Token::Symbol => match tokens.next()? {
            (Token::Number, number) => Some(number),
            _ => None,
        },
        Token::Quoted | Token::Word | Token::Parameter => None,
    }
}

/// Strings right after `PASSWORD`, and all strings inside `OPTIONS (…)`, `CONNECTION '…'`,
/// `USER MAPPING`: what to replace in a record.
pub(super) fn secret_ranges(text: &str) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut armed = false;
    let mut depth_of_options: Option<usize> = None;
    let mut depth = 0usize;
    let mut options_next = false;
    for (token, range) in Tokens::new(text) {
        let piece = text.get(range.clone()).unwrap_or_default();
        match token {
            Token::String => {
                if armed || depth_of_options.is_some() {
                    ranges.push(range);
                }
                armed = false;
            }
            Token::Word => {
                armed = piece.eq_ignore_ascii_case("password")
                    || piece.eq_ignore_ascii_case("connection");
                options_next = piece.eq_ignore_ascii_case("options");
            }
            Token::Symbol if piece == "(" => {
                depth += 1;
                if options_next {
                    depth_of_options = Some(depth);
                }
                options_next = false;
            }
            Token::Symbol if piece == ")" => {
                if depth_of_options == Some(depth) {
                    depth_of_options = None;
                }
                depth = depth.saturating_sub(1);
            }
            Token::Symbol | Token::Number | Token::Quoted | Token::Parameter => {
                options_next = false;
            }
        }
    }
    ranges
}

/// `text` with each of `ranges` (sorted, not overlapping) replaced by [`MARKER`].
pub(super) fn redact(text: &str, ranges: &[Range<usize>]) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut at = 0;
    for range in ranges {
        redacted.push_str(text.get(at..range.start).unwrap_or_default());
        redacted.push_str(MARKER);
        at = range.end;
    }
    redacted.push_str(text.get(at..).unwrap_or_default());
    redacted
}

/// Keyed digest of the text with its literals replaced; case of words and white space ignored.
pub(super) fn shape(text: &str, key: &[u8; 32]) -> u64 {
    let mut hasher = blake3::Hasher::new_keyed(key);
    let mut lowered = String::new();
    for (token, range) in Tokens::new(text) {
        let piece = text.get(range).unwrap_or_default();
        let (tag, bytes): (u8, &[u8]) = match token {
            Token::String | Token::Number | Token::Parameter => (1, b"?"),
            Token::Quoted => (2, piece.as_bytes()),
            Token::Word => {
                lowered.clear();
                lowered.extend(piece.chars().map(|c| c.to_ascii_lowercase()));
                (3, lowered.as_bytes())
            }
            Token::Symbol => (4, piece.as_bytes()),
        };
        hasher.update(&[tag]);
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    }
    let digest = hasher.finalize();
    let mut first = [0u8; 8];
    for (to, from) in first.iter_mut().zip(digest.as_bytes()) {
        *to = *from;
    }
    u64::from_le_bytes(first)
}
