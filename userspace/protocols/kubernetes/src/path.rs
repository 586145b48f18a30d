//! Paths and queries, decoded once; what could be read in two ways is refused.

use std::collections::BTreeMap;

/// Of path and query together.
const URI_BYTES_MAX: usize = 16 * 1024;
/// Parameters of a query.
const PARAMETERS_MAX: usize = 256;

/// A request that could mean two things, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unclear(pub &'static str);

/// Decoded segments of a path, and whether a slash ends it.
pub(crate) fn segments(path: &str) -> Result<(Vec<String>, bool), Unclear> {
    if path.len() > URI_BYTES_MAX {
        return Err(Unclear("the path is too long"));
    }
    let Some(rest) = path.strip_prefix('/') else {
        return Err(Unclear("the path does not start with a slash"));
    };
    let (rest, slash) = match rest.strip_suffix('/') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    if rest.is_empty() {
        return Ok((Vec::new(), slash));
    }
    let mut segments = Vec::new();
    for raw in rest.split('/') {
        let segment = decode(raw, false)?;
        if segment.is_empty() || segment == "." || segment == ".." {
            return Err(Unclear("the path has empty or dot segments"));
        }
        if segment.contains(['/', '\\', '\0', '%']) || segment.chars().any(char::is_control) {
            return Err(Unclear("the path has encoded separators"));
        }
        segments.push(segment);
    }
    Ok((segments, slash))
}

/// Percent-decoding, once; `form` also takes `+` as a blank (HTML, URL-encoded form data).
fn decode(raw: &str, form: bool) -> Result<String, Unclear> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
                    return Err(Unclear("a percent sign is followed by no two digits"));
                };
                out.push(high << 4 | low);
            }
            b'+' if form => out.push(b' '),
            other => out.push(other),
        }
    }
    String::from_utf8(out).map_err(|_| Unclear("an encoded text is not UTF-8"))
}

fn digit(byte: Option<u8>) -> Option<u8> {
    char::from(byte?)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// A query's parameters, decoded, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    /// # Errors
    /// [`Unclear`] for what servers read differently: semicolons, bad escapes.
    pub fn parse(raw: &str) -> Result<Self, Unclear> {
        if raw.len() > URI_BYTES_MAX {
            return Err(Unclear("the query is too long"));
        }
        let mut parameters: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut count = 0;
        for pair in raw.split('&').filter(|pair| !pair.is_empty()) {
            count += 1;
            if count > PARAMETERS_MAX {
                return Err(Unclear("the query has too many parameters"));
            }
            if pair.contains(';') {
                return Err(Unclear("the query has a semicolon"));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name, true)?, decode(value, true)?);
            parameters.entry(name).or_default().push(value);
        }
        Ok(Self(parameters))
    }

    /// The only value of `name`.
    ///
    /// # Errors
    /// [`Unclear`] when it is there twice.
    pub fn one(&self, name: &str) -> Result<Option<&str>, Unclear> {
        match self.0.get(name).map(Vec::as_slice) {
            None | Some([]) => Ok(None),
            Some([value]) => Ok(Some(value)),
            Some(_) => Err(Unclear("a parameter of the query is there twice")),
        }
    }

    /// All values of `name`, in order.
    #[must_use]
    pub fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// A flag as the API server reads it: there, and neither `false` nor `0`.
    ///
    /// # Errors
    /// As [`Query::one`].
    pub fn flag(&self, name: &str) -> Result<bool, Unclear> {
        Ok(self
            .one(name)?
            .is_some_and(|value| !(value.eq_ignore_ascii_case("false") || value == "0")))
    }

    /// The query as it is sent on: encoded anew, values in order.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        for (name, values) in &self.0 {
            for value in values {
                if !out.is_empty() {
                    out.push('&');
                }
                encode(&mut out, name);
                out.push('=');
                encode(&mut out, value);
            }
        }
        out
    }
}

/// All but unreserved characters (RFC 3986, 2.3) as percent escapes.
pub(crate) fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(hex(byte >> 4));
            out.push(hex(byte & 15));
        }
    }
}

fn hex(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16)
        .unwrap_or('0')
        .to_ascii_uppercase()
}
