//! One value of a database: which masked form its type has, in text and in binary.
//!
//! The forms are those of PostgreSQL's output and send functions (ISO dates, big-endian numbers,
//! `numeric` in base 10,000). A value whose form is not understood has no masked form.

mod address;
mod array;
mod detect;
mod moment;
mod number;
mod shown;
mod token;

use weir_decide::MaskKind;

use crate::key::MaskKey;
use crate::plan::{ColumnPlan, Format, ValueKind};
use crate::rows::{REDACTED, mask_text};

pub(crate) use detect::detect;
pub use shown::shown;
pub(crate) use token::permuted_text;

/// Writes the masked form of a value behind `out`; false when it has none, and what was written is
/// of no use then.
pub(crate) fn mask_value(
    kind: MaskKind,
    column: &ColumnPlan,
    value: &[u8],
    key: &MaskKey,
    out: &mut Vec<u8>,
) -> bool {
    let one = One {
        kind,
        value: column.value,
        format: column.format,
        domain: &column.domain,
        key,
    };
    if column.arrays {
        one.value != ValueKind::Other
            && array::each(one.format, value, out, &mut |element, out| {
                one.mask(element, out)
            })
    } else {
        one.mask(value, out)
    }
}

/// How values of one column are masked.
struct One<'a> {
    kind: MaskKind,
    value: ValueKind,
    format: Format,
    domain: &'a str,
    key: &'a MaskKey,
}

impl One<'_> {
    fn mask(&self, value: &[u8], out: &mut Vec<u8>) -> bool {
        match self.value {
            ValueKind::Text => self.text(value, out),
            ValueKind::Json => self.json(out),
            ValueKind::Jsonb => {
                if self.format == Format::Binary {
                    // The version of the format.
                    out.push(1);
                }
                self.json(out)
            }
            ValueKind::Integer { bytes } => number::integer(self, usize::from(bytes), value, out),
            ValueKind::Decimal => number::decimal(self, value, out),
            ValueKind::Float { bytes } => number::float(self, usize::from(bytes), value, out),
            ValueKind::Date => moment::date(self, value, out),
            ValueKind::Timestamp => moment::timestamp(self, value, out),
            ValueKind::Uuid => self.uuid(value, out),
            ValueKind::Bytes => self.bytes(value, out),
            ValueKind::Network { only } => address::network(self, only, value, out),
            ValueKind::Device => address::device(self, value, out),
            ValueKind::Other => false,
        }
    }

    fn text(&self, value: &[u8], out: &mut Vec<u8>) -> bool {
        match self.kind {
            // Numbers and moments are often kept as text.
            MaskKind::Range(_) => {
                number::step_text(self, value, out) || moment::text(self, value, out)
            }
            MaskKind::Null
            | MaskKind::Redact
            | MaskKind::Hash
            | MaskKind::Token
            | MaskKind::Partial { .. } => mask_text(self.kind, self.domain, value, self.key, out),
        }
    }

    /// A document has parts that no kind of mask knows: all of it becomes one fixed text.
    fn json(&self, out: &mut Vec<u8>) -> bool {
        if self.kind == MaskKind::Null {
            return false;
        }
        out.push(b'"');
        out.extend_from_slice(REDACTED);
        out.push(b'"');
        true
    }

    fn uuid(&self, value: &[u8], out: &mut Vec<u8>) -> bool {
        let raw = match self.format {
            Format::Binary => <[u8; 16]>::try_from(value).ok(),
            Format::Text => hex_bytes(value.iter().copied().filter(|byte| *byte != b'-'))
                .and_then(|bytes| bytes.try_into().ok()),
        };
        let Some(raw) = raw else { return false };
        let masked = match self.kind {
            MaskKind::Token => {
                let mut nibbles: Vec<u16> = raw
                    .iter()
                    .flat_map(|byte| [u16::from(byte >> 4), u16::from(byte & 15)])
                    .collect();
                token::permute(self.key, b"uuid", &[16; 32], &mut nibbles);
                nibbles
                    .chunks_exact(2)
                    .map(|pair| low(pair.first()) << 4 | low(pair.last()))
                    .collect::<Vec<u8>>()
            }
            MaskKind::Hash => self.digest(&raw).into_iter().take(16).collect(),
            MaskKind::Null | MaskKind::Redact | MaskKind::Range(_) | MaskKind::Partial { .. } => {
                return false;
            }
        };
        match self.format {
            Format::Binary => out.extend_from_slice(&masked),
            Format::Text => {
                for (at, byte) in masked.iter().enumerate() {
                    if matches!(at, 4 | 6 | 8 | 10) {
                        out.push(b'-');
                    }
                    push_hex(*byte, out);
                }
            }
        }
        true
    }

    /// Bytes: as text in `hex` (the setting `bytea_output`); the older escape form is withheld.
    fn bytes(&self, value: &[u8], out: &mut Vec<u8>) -> bool {
        let raw = match self.format {
            Format::Binary => value.to_vec(),
            Format::Text => {
                let Some(digits) = value.strip_prefix(b"\\x") else {
                    return false;
                };
                let Some(raw) = hex_bytes(digits.iter().copied()) else {
                    return false;
                };
                raw
            }
        };
        let masked = match self.kind {
            MaskKind::Hash => self.digest(&raw).into_iter().take(8).collect(),
            MaskKind::Token => {
                let mut symbols: Vec<u16> = raw.iter().map(|byte| u16::from(*byte)).collect();
                let radices = vec![256; symbols.len()];
                token::permute(self.key, b"bytes", &radices, &mut symbols);
                symbols.iter().map(|symbol| low(Some(symbol))).collect()
            }
            MaskKind::Null | MaskKind::Redact | MaskKind::Range(_) | MaskKind::Partial { .. } => {
                return false;
            }
        };
        let masked: Vec<u8> = masked;
        match self.format {
            Format::Binary => out.extend_from_slice(&masked),
            Format::Text => {
                out.extend_from_slice(b"\\x");
                masked.iter().for_each(|byte| push_hex(*byte, out));
            }
        }
        true
    }

    fn digest(&self, raw: &[u8]) -> [u8; 32] {
        *self.key.digest(self.domain, raw).as_bytes()
    }
}

/// A symbol that is known to be below 256.
fn low(symbol: Option<&u16>) -> u8 {
    symbol
        .and_then(|symbol| u8::try_from(*symbol).ok())
        .unwrap_or(0)
}

fn push_hex(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for nibble in [byte >> 4, byte & 15] {
        out.push(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0'));
    }
}

fn hex_bytes(digits: impl Iterator<Item = u8>) -> Option<Vec<u8>> {
    let nibbles: Vec<u8> = digits
        .map(|digit| {
            char::from(digit)
                .to_digit(16)
                .and_then(|n| u8::try_from(n).ok())
        })
        .collect::<Option<_>>()?;
    let pairs = nibbles.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    Some(
        pairs
            .map(|pair| pair.iter().fold(0, |byte, nibble| byte << 4 | nibble))
            .collect(),
    )
}

#[cfg(test)]
mod tests;
