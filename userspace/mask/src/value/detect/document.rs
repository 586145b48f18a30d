//! JSON documents: each string by what it says, each number by its whole part. All else stays to the
//! letter, so that numbers keep their digits and members their order.

use super::plain::whole;
use crate::rows::REDACTED;
use crate::stream::{self, Patterns};

/// Writes the document without what was found, and says whether anything was; `None` when it is none.
/// Nothing that is written is of use unless something was found.
pub(super) fn shown(patterns: &Patterns, document: &[u8], out: &mut Vec<u8>) -> Option<bool> {
    let mut walk = Walk {
        patterns,
        rest: std::str::from_utf8(document).ok()?,
        name: None,
        found: false,
        out,
    };
    while let Some(first) = walk.rest.bytes().next() {
        match first {
            b'"' => walk.string()?,
            b'-' | b'0'..=b'9' => walk.number(),
            _ => walk.mark(first),
        }
    }
    Some(walk.found)
}

struct Walk<'a> {
    patterns: &'a Patterns,
    rest: &'a str,
    /// Of the member whose value comes next.
    name: Option<String>,
    found: bool,
    out: &'a mut Vec<u8>,
}

impl<'a> Walk<'a> {
    fn take(&mut self, length: usize) -> Option<&'a str> {
        let (token, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(token)
    }

    /// Brackets, commas, white space, `true` and the like.
    fn mark(&mut self, first: u8) {
        if matches!(first, b',' | b'{' | b'[') {
            self.name = None;
        }
        let end = self.rest.find([
            '"', '-', ',', '{', '[', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9',
        ]);
        let length = match end {
            Some(0) => 1,
            Some(end) => end,
            None => self.rest.len(),
        };
        let token = self.take(length).unwrap_or_default();
        self.out.extend_from_slice(token.as_bytes());
    }

    fn count(&self, text: &str) -> u64 {
        stream::text(self.patterns, text.as_bytes()).masked_values()
    }

    /// Whether a value is a secret by the name that it has: `"password": "…"`.
    fn is_named(&self, name: Option<&str>, said: &str, alone: u64) -> bool {
        name.is_some_and(|name| {
            let named = self.count(&format!("{name}: {said}"));
            named > alone && named > alone + self.count(name)
        })
    }

    fn string(&mut self) -> Option<()> {
        let mut escaped = false;
        let end = self.rest.bytes().skip(1).position(|byte| {
            let last = byte == b'"' && !escaped;
            escaped = byte == b'\\' && !escaped;
            last
        });
        let token = self.take(end? + 2)?;
        let said: String = serde_json::from_str(token).ok()?;
        let of_member = self.rest.trim_start().starts_with(':');
        let name = self.name.take();
        let alone = stream::text(self.patterns, said.as_bytes());
        let shown = if self.is_named(
            name.as_deref(),
            &format!("\"{said}\""),
            alone.masked_values(),
        ) {
            Some(REDACTED)
        } else {
            (alone.masked_values() > 0).then(|| &**alone.bytes())
        };
        match shown {
            Some(shown) => {
                let shown = String::from_utf8_lossy(shown);
                self.found = true;
                self.out
                    .extend_from_slice(&serde_json::to_vec(&*shown).ok()?);
            }
            None => self.out.extend_from_slice(token.as_bytes()),
        }
        if of_member {
            self.name = Some(said);
        }
        Some(())
    }

    fn number(&mut self) {
        let end = self
            .rest
            .find(|c: char| !matches!(c, '0'..='9' | '.' | 'e' | 'E' | '+' | '-'));
        let token = self
            .take(end.unwrap_or(self.rest.len()))
            .unwrap_or_default();
        let number = if token.contains(['e', 'E']) {
            token
                .parse::<f64>()
                .map_or_else(|_| token.to_owned(), |number| number.to_string())
        } else {
            token.to_owned()
        };
        let said = whole(&number);
        let name = self.name.take();
        let alone = self.count(said);
        if alone > 0 || self.is_named(name.as_deref(), said, 0) {
            self.found = true;
            self.out.extend_from_slice(b"null");
        } else {
            self.out.extend_from_slice(token.as_bytes());
        }
    }
}
