//! Values without a mask, looked through by the detectors.
//!
//! Texts and documents are shown without what was found. Of any other type a changed value might be
//! none of that type any more: it is withheld.

use std::borrow::Cow;

use serde::de::IgnoredAny;

use super::array;
use super::hex_bytes;
use super::shown::shown;
use crate::plan::{ColumnPlan, Format, ValueKind};
use crate::rows::CellFate;
use crate::stream::{self, Patterns};

/// Composites within composites that are looked into; a deeper one is withheld.
const LEVELS_MAX: usize = 16;
/// date, timestamp and timestamptz in `pg_type.dat`.
const MOMENTS: [u32; 3] = [1082, 1114, 1184];

/// Writes what may be shown of a value behind `out` if that is another one than it was.
pub(crate) fn detect(
    column: &ColumnPlan,
    value: &[u8],
    patterns: Option<&Patterns>,
    out: &mut Vec<u8>,
) -> CellFate {
    let Some(patterns) = patterns else {
        return CellFate::Withheld;
    };
    let look = Look {
        kind: column.value,
        format: column.format,
        patterns,
    };
    if !column.arrays {
        return look.at(value, out);
    }
    let mut found = false;
    let understood = array::each(column.format, value, out, &mut |element, out| {
        let fate = look.at(element, out);
        found |= fate != CellFate::Passed;
        if fate == CellFate::Passed {
            out.extend_from_slice(element);
        }
        fate != CellFate::Withheld
    });
    match (understood, found) {
        (false, _) => CellFate::Withheld,
        (true, false) => CellFate::Passed,
        (true, true) => CellFate::Masked,
    }
}

#[derive(Clone, Copy)]
struct Look<'a> {
    kind: ValueKind,
    format: Format,
    patterns: &'a Patterns,
}

impl Look<'_> {
    fn at(self, value: &[u8], out: &mut Vec<u8>) -> CellFate {
        let binary = self.format == Format::Binary;
        let looked_at = match self.kind {
            ValueKind::Text => return self.replaced(value, out),
            ValueKind::Json => return self.document(&[], value, out),
            ValueKind::Jsonb if binary => {
                return match value.split_first_chunk::<1>() {
                    Some((version, document)) => self.document(version, document, out),
                    None => CellFate::Withheld,
                };
            }
            ValueKind::Jsonb => return self.document(&[], value, out),
            ValueKind::Date
            | ValueKind::Timestamp
            | ValueKind::Uuid
            | ValueKind::Network { .. }
            | ValueKind::Device => return CellFate::Passed,
            ValueKind::Integer { .. } | ValueKind::Decimal | ValueKind::Float { .. } => {
                self.whole_number(value)
            }
            ValueKind::Bytes => Some(content(value, binary)),
            ValueKind::Other if binary => return self.anything(value, LEVELS_MAX),
            // Bytes and large numbers of floating point are no text of themselves.
            ValueKind::Other => {
                Some(without_exponent(value).unwrap_or_else(|| content(value, false)))
            }
        };
        match looked_at {
            Some(text) if !self.finds(&text) => CellFate::Passed,
            Some(_) | None => CellFate::Withheld,
        }
    }

    fn finds(self, text: &[u8]) -> bool {
        stream::text(self.patterns, text).masked_values() > 0
    }

    fn replaced(self, value: &[u8], out: &mut Vec<u8>) -> CellFate {
        let shown = stream::text(self.patterns, value);
        if shown.masked_values() == 0 {
            return CellFate::Passed;
        }
        out.extend_from_slice(shown.bytes());
        CellFate::Masked
    }

    /// What replaces a number of a document would leave none.
    fn document(self, version: &[u8], document: &[u8], out: &mut Vec<u8>) -> CellFate {
        let start = out.len();
        out.extend_from_slice(version);
        let fate = self.replaced(document, out);
        if fate == CellFate::Passed {
            out.truncate(start);
            return fate;
        }
        let shown = out.get(start + version.len()..).unwrap_or_default();
        if serde_json::from_slice::<IgnoredAny>(shown).is_ok() {
            fate
        } else {
            CellFate::Withheld
        }
    }

    /// Decimal digits of a number without those behind its point, which mean nothing by themselves;
    /// `None` when it is not one.
    fn whole_number(self, value: &[u8]) -> Option<Cow<'static, [u8]>> {
        let text = match (self.format, self.kind) {
            (Format::Text, _) => std::str::from_utf8(value).ok()?.to_owned(),
            (Format::Binary, ValueKind::Float { bytes: 4 }) => {
                f32::from_be_bytes(value.try_into().ok()?).to_string()
            }
            (Format::Binary, ValueKind::Float { .. }) => {
                f64::from_be_bytes(value.try_into().ok()?).to_string()
            }
            // No digits, only a sign: NaN and infinities.
            (Format::Binary, ValueKind::Decimal) if value.len() == 8 => String::new(),
            (Format::Binary, kind) => shown(kind, false, value)?,
        };
        let text = if matches!(self.kind, ValueKind::Float { .. }) {
            // The server writes large ones with an exponent.
            text.parse::<f64>().ok()?.to_string()
        } else {
            text
        };
        Some(Cow::Owned(whole(&text).as_bytes().to_vec()))
    }

    /// A value of a type that is not known, in binary: a composite (`record_send`: a count, then of each
    /// field its type, its length and its value), or else anything that these bytes may mean.
    fn anything(self, value: &[u8], levels: usize) -> CellFate {
        let Some(levels) = levels.checked_sub(1) else {
            return CellFate::Withheld;
        };
        let found = match fields(value) {
            Some(fields) => fields
                .into_iter()
                // As a number a moment looks like a card's now and then.
                .filter(|(type_oid, _)| !MOMENTS.contains(type_oid))
                .any(|(_, field)| self.anything(field, levels) != CellFate::Passed),
            None => readings(value).iter().any(|text| self.finds(text)),
        };
        if found {
            CellFate::Withheld
        } else {
            CellFate::Passed
        }
    }
}

/// The value as it is, and as the numbers that have its length.
fn readings(value: &[u8]) -> Vec<Cow<'_, [u8]>> {
    let mut readings = vec![Cow::Borrowed(value)];
    let mut number = |text: String| readings.push(Cow::Owned(text.into_bytes()));
    if let Ok(bytes) = <[u8; 8]>::try_from(value) {
        number(i64::from_be_bytes(bytes).to_string());
        let float = f64::from_be_bytes(bytes);
        if float.fract() == 0.0 {
            number(float.to_string());
        }
    }
    if let Some(text) = shown(ValueKind::Decimal, false, value) {
        number(whole(&text).to_owned());
    }
    readings
}

/// A short text that is a number with an exponent, without it.
fn without_exponent(value: &[u8]) -> Option<Cow<'static, [u8]>> {
    const BYTES_MAX: usize = 32;
    let text = std::str::from_utf8(value).ok()?;
    let exponent = text.len() <= BYTES_MAX && text.contains('e');
    let number = exponent.then(|| text.parse::<f64>().ok()).flatten()?;
    Some(Cow::Owned(whole(&number.to_string()).as_bytes().to_vec()))
}

/// A number without what stands behind its point.
fn whole(text: &str) -> &str {
    text.split('.').next().unwrap_or_default()
}

/// Type and value of each field that is not NULL; `None` unless all bytes are accounted for.
fn fields(value: &[u8]) -> Option<Vec<(u32, &[u8])>> {
    let (count, mut rest) = value.split_first_chunk::<4>()?;
    let count = u32::from_be_bytes(*count);
    let mut fields = Vec::new();
    for _ in 0..count {
        let (type_oid, tail) = rest.split_first_chunk::<4>()?;
        let (length, tail) = tail.split_first_chunk::<4>()?;
        rest = tail;
        if let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) {
            let (field, tail) = rest.split_at_checked(length)?;
            rest = tail;
            fields.push((u32::from_be_bytes(*type_oid), field));
        }
    }
    rest.is_empty().then_some(fields)
}

/// Bytes as they are, whatever the setting `bytea_output`; its escape form is looked at as text.
fn content(value: &[u8], binary: bool) -> Cow<'_, [u8]> {
    let digits = if binary {
        None
    } else {
        value.strip_prefix(b"\\x")
    };
    digits
        .and_then(|digits| hex_bytes(digits.iter().copied()))
        .map_or(Cow::Borrowed(value), Cow::Owned)
}

#[cfg(test)]
mod tests;
