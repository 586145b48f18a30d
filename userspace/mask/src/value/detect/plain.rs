//! What the text of a value says whose type is not known, or has parts: composites, arrays and whatever
//! COPY makes of an expression.

use super::hex_bytes;

/// The text without what the server's output functions put around its parts: quotes and backslashes
/// stand once however deep they are nested, numbers are without exponent and without the digits behind
/// their point, and what bytes in `hex` hold stands behind it on lines of its own.
pub(super) fn plain(value: &[u8]) -> Vec<u8> {
    let unquoted = unquoted(value);
    let mut out = Vec::with_capacity(unquoted.len());
    // Only what is a part by itself: within a key or token these would be letters.
    for part in unquoted.chunk_by(|a, b| between(*a) == between(*b)) {
        match without_part(part) {
            Some(number) => out.extend_from_slice(number.as_bytes()),
            None => out.extend_from_slice(part),
        }
    }
    for (at, pair) in unquoted.windows(2).enumerate() {
        if pair == b"\\x" {
            let digits = unquoted.get(at + 2..).unwrap_or_default();
            let end = digits.iter().position(|byte| !byte.is_ascii_hexdigit());
            let digits = digits.get(..end.unwrap_or(digits.len()));
            if let Some(bytes) = digits.and_then(|digits| hex_bytes(digits.iter().copied())) {
                out.push(b'\n');
                out.extend_from_slice(&bytes);
            }
        }
    }
    out
}

/// A number without what stands behind its point.
pub(super) fn whole(number: &str) -> &str {
    number.split('.').next().unwrap_or_default()
}

/// Runs of quotes and backslashes are what quoting makes of one.
fn unquoted(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    for run in value.chunk_by(|a, b| quotes(*a) && quotes(*b)) {
        match run {
            [first, ..] if quotes(*first) => {
                if run.contains(&b'"') {
                    out.push(b'"');
                }
                if run.last() == Some(&b'\\') {
                    out.push(b'\\');
                }
            }
            run => out.extend_from_slice(run),
        }
    }
    out
}

const fn quotes(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\')
}

/// What stands between parts.
const fn between(byte: u8) -> bool {
    matches!(
        byte,
        b'(' | b')' | b'{' | b'}' | b'[' | b']' | b'"' | b',' | b';' | b'|' | b' ' | b'\t' | b'\n'
    )
}

/// The whole part of a number with a point or an exponent; `None` for anything else.
fn without_part(run: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(run).ok()?;
    let digits = text.trim_start_matches(['-', '+']);
    if !digits.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let exponent = text.contains(['e', 'E']);
    if !exponent && !text.contains('.') {
        return None;
    }
    let number: f64 = text.parse().ok()?;
    Some(if exponent {
        whole(&number.to_string()).to_owned()
    } else {
        whole(text).to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(value: &str) -> String {
        String::from_utf8(plain(value.as_bytes())).expect("text")
    }

    #[test]
    fn parts_stand_as_they_would_alone() {
        for (value, plain) in [
            (
                r#"(1,"password=""hunter2""")"#,
                r#"(1,"password="hunter2")"#,
            ),
            (r#"{"(1,\"a b\")"}"#, r#"{"(1,"a b")"}"#),
            ("12.4111111111111111", "12"),
            ("(4.111111111111111e+15,x)", "(4111111111111111,x)"),
            ("{0.5,-7.25}", "{0,-7}"),
            (r#"(1,"\\x3431")"#, "(1,\"\\x3431\")\n41"),
            ("\\x34", "\\x34\n4"),
            // These are no numbers.
            (
                "10.0.0.1 +1.555.123.4567 2026-11-30",
                "10.0.0.1 +1.555.123.4567 2026-11-30",
            ),
            ("me@e.example", "me@e.example"),
            ("TOKN2E52E52E52E52E52", "TOKN2E52E52E52E52E52"),
            (".5 e5 inf", ".5 e5 inf"),
            ("\\x3", "\\x3"),
        ] {
            assert_eq!(said(value), plain, "{value}");
        }
    }
}
