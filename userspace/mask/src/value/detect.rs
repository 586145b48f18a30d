//! Values without a mask, looked through by the detectors.
//!
//! Texts and documents are shown without what was found. Of any other type a changed value might be
//! none of that type any more: it is withheld.

mod composite;
mod document;
mod plain;

use std::borrow::Cow;

use super::array;
use super::hex_bytes;
use super::shown::shown;
use crate::plan::{ColumnPlan, Format, ValueKind};
use crate::rows::CellFate;
use crate::stream::{self, Patterns};
use plain::{plain, whole};

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
            | ValueKind::Device => Some(self.of_fixed_form(value)),
            ValueKind::Integer { .. } | ValueKind::Decimal | ValueKind::Float { .. } => {
                self.whole_number(value)
            }
            ValueKind::Bytes => Some(content(value, binary)),
            ValueKind::Other if binary => {
                return if composite::holds(value, &|text| self.finds(text)) {
                    CellFate::Withheld
                } else {
                    CellFate::Passed
                };
            }
            ValueKind::Other => Some(Cow::Owned(plain(value))),
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

    /// A document behind the version of its format.
    fn document(self, version: &[u8], document: &[u8], out: &mut Vec<u8>) -> CellFate {
        let start = out.len();
        out.extend_from_slice(version);
        match document::shown(self.patterns, document, out) {
            Some(true) => CellFate::Masked,
            Some(false) => {
                out.truncate(start);
                CellFate::Passed
            }
            None => CellFate::Withheld,
        }
    }

    /// Only an own pattern finds something here. What has no text (an infinity) says nothing.
    fn of_fixed_form(self, value: &[u8]) -> Cow<'_, [u8]> {
        match self.format {
            Format::Text => Cow::Borrowed(value),
            Format::Binary => {
                let text = shown(self.kind, false, value).unwrap_or_default();
                Cow::Owned(text.into_bytes())
            }
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
}

/// Bytes as they are; in text those of `bytea_output = hex`, the older form is looked at as it stands.
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
