//! Binary values as the server's text, for people.

use super::{address, moment, number};
use crate::plan::ValueKind;

/// A value of the binary format as PostgreSQL's output functions write it; timestamps without their
/// zone, which is UTC. `None` where that is not known: bytes, infinities, years before Christ,
/// floating point from 1e15, arrays of more than one dimension.
#[must_use]
pub fn shown(kind: ValueKind, arrays: bool, value: &[u8]) -> Option<String> {
    if arrays {
        array(kind, value)
    } else {
        single(kind, value)
    }
}

fn single(kind: ValueKind, value: &[u8]) -> Option<String> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
    match kind {
        ValueKind::Text | ValueKind::Json => text(value),
        ValueKind::Jsonb => text(value.strip_prefix(&[1])?),
        ValueKind::Integer { bytes: 2 } => {
            Some(i16::from_be_bytes(value.try_into().ok()?).to_string())
        }
        ValueKind::Integer { bytes: 4 } => {
            Some(i32::from_be_bytes(value.try_into().ok()?).to_string())
        }
        ValueKind::Integer { .. } => Some(i64::from_be_bytes(value.try_into().ok()?).to_string()),
        ValueKind::Decimal => number::decimal_text(value),
        ValueKind::Float { bytes: 4 } => {
            let number = f32::from_be_bytes(value.try_into().ok()?);
            (number.abs() < 1e15).then(|| number.to_string())
        }
        ValueKind::Float { .. } => {
            let number = f64::from_be_bytes(value.try_into().ok()?);
            (number.abs() < 1e15).then(|| number.to_string())
        }
        ValueKind::Date => moment::date_text(value),
        ValueKind::Timestamp => moment::timestamp_text(value),
        ValueKind::Uuid => {
            let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            let parts = [
                hex.get(..8)?,
                hex.get(8..12)?,
                hex.get(12..16)?,
                hex.get(16..20)?,
            ];
            let last = hex.get(20..)?;
            (hex.len() == 32).then(|| format!("{}-{last}", parts.join("-")))
        }
        ValueKind::Network { .. } => address::network_text(value),
        ValueKind::Device => address::device_text(value),
        ValueKind::Bytes | ValueKind::Other => None,
    }
}

/// Dimensions, whether there are NULLs, the element's type; then length and lower bound of the
/// dimension, and each element behind its length.
fn array(kind: ValueKind, value: &[u8]) -> Option<String> {
    let mut rest = value;
    let mut word = || {
        let (head, tail) = rest.split_first_chunk::<4>()?;
        rest = tail;
        Some(i32::from_be_bytes(*head))
    };
    let (dimensions, _nulls, _element) = (word()?, word()?, word()?);
    let count = match dimensions {
        0 => 0,
        1 => {
            let (count, lower) = (word()?, word()?);
            (lower == 1).then_some(count)?
        }
        _ => return None,
    };
    let mut out = String::from("{");
    for at in 0..count {
        if at > 0 {
            out.push(',');
        }
        let (head, tail) = rest.split_first_chunk::<4>()?;
        let length = i32::from_be_bytes(*head);
        rest = tail;
        if length == -1 {
            out.push_str("NULL");
            continue;
        }
        let (element, tail) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        rest = tail;
        quoted(&single(kind, element)?, &mut out);
    }
    out.push('}');
    rest.is_empty().then_some(out)
}

fn quoted(element: &str, out: &mut String) {
    let special = |c: char| c.is_ascii_whitespace() || matches!(c, '{' | '}' | '"' | '\\' | ',');
    let plain =
        !element.is_empty() && !element.eq_ignore_ascii_case("null") && !element.contains(special);
    if plain {
        out.push_str(element);
        return;
    }
    out.push('"');
    for c in element.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[i32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn values_are_written_as_the_server_writes_them() {
        let numeric = [0, 2, 0, 0, 0, 0, 0, 2, 0, 1, 0x13, 0x88];
        for (kind, value, text) in [
            (ValueKind::Integer { bytes: 4 }, words(&[-7]), "-7"),
            (ValueKind::Decimal, numeric.to_vec(), "1.50"),
            (
                ValueKind::Float { bytes: 8 },
                2.5_f64.to_be_bytes().to_vec(),
                "2.5",
            ),
            (ValueKind::Date, words(&[7364]), "2020-02-29"),
            (
                ValueKind::Timestamp,
                1_500_000_i64.to_be_bytes().to_vec(),
                "2000-01-01 00:00:01.5",
            ),
            (
                ValueKind::Timestamp,
                (-1_000_000_i64).to_be_bytes().to_vec(),
                "1999-12-31 23:59:59",
            ),
            (ValueKind::Jsonb, b"\x01{}".to_vec(), "{}"),
            (
                ValueKind::Uuid,
                (0..16).collect(),
                "00010203-0405-0607-0809-0a0b0c0d0e0f",
            ),
        ] {
            assert_eq!(shown(kind, false, &value).as_deref(), Some(text));
        }
        let integers = words(&[1, 1, 23, 2, 1, 4, 5, -1]);
        let kind = ValueKind::Integer { bytes: 4 };
        assert_eq!(shown(kind, true, &integers).as_deref(), Some("{5,NULL}"));
        assert_eq!(
            shown(kind, true, &words(&[0, 0, 23])).as_deref(),
            Some("{}")
        );
        let mut texts = words(&[1, 0, 25, 3, 1, 1]);
        texts.extend_from_slice(b"a");
        texts.extend(words(&[3]));
        texts.extend_from_slice(b"b\"c");
        texts.extend(words(&[0]));
        assert_eq!(
            shown(ValueKind::Text, true, &texts).as_deref(),
            Some(r#"{a,"b\"c",""}"#)
        );
    }

    #[test]
    fn what_is_not_understood_is_not_shown() {
        let kind = ValueKind::Integer { bytes: 4 };
        for (kind, arrays, value) in [
            (kind, false, vec![1, 2, 3]),
            (kind, true, words(&[2, 0, 23, 1, 1, 1, 1])),
            (kind, true, words(&[1, 0, 23, i32::MAX, 1, 4, 5])),
            (kind, true, words(&[1, 0, 23, 1, 1, -2])),
            (kind, true, words(&[1, 0, 23, 1, 1, 4, 5, 6])),
            (ValueKind::Date, false, words(&[i32::MAX])),
            (ValueKind::Date, false, words(&[-800_000])),
            (
                ValueKind::Float { bytes: 8 },
                false,
                f64::NAN.to_be_bytes().to_vec(),
            ),
            (ValueKind::Jsonb, false, b"\x02{}".to_vec()),
            (ValueKind::Uuid, false, vec![0; 17]),
            (ValueKind::Text, false, vec![0xff]),
        ] {
            assert_eq!(shown(kind, arrays, &value), None);
        }
    }
}
