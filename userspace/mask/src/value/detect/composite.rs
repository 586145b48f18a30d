//! Values in binary whose type is not known, or has parts.
//!
//! Their bytes are read as each form that the server's send functions give to what has parts; a form
//! fits when it accounts for all bytes. What has no parts may be a text or one of several numbers.

use super::plain::whole;
use super::shown;
use crate::plan::ValueKind;

/// Values within values that are looked into; a deeper one is withheld.
const LEVELS_MAX: usize = 16;
/// How often a byte is looked at, as a part of this and of that form on each level.
const FORMS_MAX: usize = 64;
const BYTES_LEAST: usize = 4096;
const DIMENSIONS_MAX: u32 = 6;

/// Types of `pg_type.dat` that hold nothing to find: as a number a moment looks like a card's now and then.
const MOMENTS: [u32; 3] = [1082, 1114, 1184];
/// int8, int2, int4, float8 and numeric there, and a type that is not said.
const NUMBERS: [u32; 6] = [0, 20, 21, 23, 701, 1700];

/// A part and its type, 0 where that is not said.
type Part<'a> = (u32, &'a [u8]);

/// Whether anything is found in a value. One that fits more forms than can be looked into counts as if
/// it were.
pub(super) fn holds(value: &[u8], finds: &dyn Fn(&[u8]) -> bool) -> bool {
    let mut walk = Walk {
        finds,
        left: value.len().saturating_mul(FORMS_MAX).max(BYTES_LEAST),
    };
    walk.within((0, value), LEVELS_MAX)
}

struct Walk<'a> {
    finds: &'a dyn Fn(&[u8]) -> bool,
    /// Bytes that may still be looked at.
    left: usize,
}

impl Walk<'_> {
    fn within(&mut self, (type_oid, value): Part<'_>, levels: usize) -> bool {
        let left = self.left.checked_sub(value.len());
        let (Some(left), Some(levels)) = (left, levels.checked_sub(1)) else {
            return true;
        };
        self.left = left;
        if MOMENTS.contains(&type_oid) {
            return false;
        }
        // More than one form may fit, of which one is true.
        let mut fits = false;
        for form in [record, array, list, range] {
            let Some(parts) = form(value) else { continue };
            fits = true;
            if parts.into_iter().any(|part| self.within(part, levels)) {
                return true;
            }
        }
        !fits && (self.finds_in(value) || self.finds_number(type_oid, value))
    }

    fn finds_in(&self, value: &[u8]) -> bool {
        (self.finds)(value)
    }

    fn finds_number(&self, type_oid: u32, value: &[u8]) -> bool {
        let numbers = numbers(type_oid, value);
        numbers.iter().any(|text| (self.finds)(text.as_bytes()))
    }
}

/// What these bytes say as numbers.
fn numbers(type_oid: u32, value: &[u8]) -> Vec<String> {
    let mut numbers = Vec::new();
    let text = value.iter().all(|byte| matches!(byte, b' '..=b'~'));
    if text || !NUMBERS.contains(&type_oid) {
        return numbers;
    }
    if let Ok(bytes) = <[u8; 8]>::try_from(value) {
        let float = f64::from_be_bytes(bytes);
        if float.fract() == 0.0 {
            numbers.push(float.to_string());
        }
    }
    if let Ok(bytes @ (2 | 4 | 8)) = u8::try_from(value.len()) {
        numbers.extend(shown(ValueKind::Integer { bytes }, false, value));
    }
    let decimal = shown(ValueKind::Decimal, false, value);
    numbers.extend(decimal.map(|text| whole(&text).to_owned()));
    numbers
}

fn word(rest: &mut &[u8]) -> Option<u32> {
    let (word, tail) = rest.split_first_chunk::<4>()?;
    *rest = tail;
    Some(u32::from_be_bytes(*word))
}

/// Bytes behind their length; `Some(None)` for NULL.
fn piece<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = word(rest)?;
    if length == u32::MAX {
        return Some(None);
    }
    let (piece, tail) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = tail;
    Some(Some(piece))
}

/// `record_send`: a count, then of each field its type and its value behind its length.
fn record(value: &[u8]) -> Option<Vec<Part<'_>>> {
    let mut rest = value;
    let count = word(&mut rest)?;
    let mut parts = Vec::new();
    for _ in 0..count {
        let type_oid = word(&mut rest).filter(|oid| *oid > 0)?;
        parts.extend(piece(&mut rest)?.map(|piece| (type_oid, piece)));
    }
    rest.is_empty().then_some(parts)
}

/// `array_send`: dimensions, flags, type, then length and lower bound of each dimension, then elements
/// behind their lengths.
fn array(value: &[u8]) -> Option<Vec<Part<'_>>> {
    let mut rest = value;
    let dimensions = word(&mut rest).filter(|count| *count <= DIMENSIONS_MAX)?;
    word(&mut rest).filter(|flags| *flags <= 1)?;
    let type_oid = word(&mut rest)?;
    for _ in 0..dimensions {
        word(&mut rest)?;
        word(&mut rest)?;
    }
    let mut parts = Vec::new();
    while !rest.is_empty() {
        parts.extend(piece(&mut rest)?.map(|piece| (type_oid, piece)));
    }
    Some(parts)
}

/// `multirange_send` and `hstore_send`: a count, then as many values, or twice as many, behind their
/// lengths.
fn list(value: &[u8]) -> Option<Vec<Part<'_>>> {
    let mut rest = value;
    let count = u64::from(word(&mut rest)?);
    let (mut parts, mut seen) = (Vec::new(), 0);
    while !rest.is_empty() {
        parts.extend(piece(&mut rest)?.map(|piece| (0, piece)));
        seen += 1;
    }
    (seen > 0 && (seen == count || seen == 2 * count)).then_some(parts)
}

/// `range_send`: flags, then at most two bounds behind their lengths.
fn range(value: &[u8]) -> Option<Vec<Part<'_>>> {
    let (_flags, mut rest) = value.split_first()?;
    let mut parts = Vec::new();
    while !rest.is_empty() && parts.len() < 2 {
        parts.push((0, piece(&mut rest)??));
    }
    (rest.is_empty() && !parts.is_empty()).then_some(parts)
}
