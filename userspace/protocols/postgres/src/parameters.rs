//! Bind parameters for the record: a JSON array of texts.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use weir_govern::PARAMETER_BYTES_MAX;
use weir_mask::{MaskKey, ValueKind};

use crate::catalog::Catalog;
use crate::values;
use crate::wire::frontend::Bind;

/// Bytes of one value that stand in their place; of a longer one the beginning does, and a mark.
const VALUE_BYTES_MAX: usize = 8192;

const BOOL: u32 = 16;
const OID: u32 = 26;
const OID_ARRAY: u32 = 1028;
const TIMESTAMPTZ: u32 = 1184;
const TIMESTAMPTZ_ARRAY: u32 = 1185;

/// Types of a statement's parameters: what its Parse declared, and what the server made of it once
/// it described the statement.
#[derive(Clone, Default)]
pub(crate) struct ParameterTypes {
    declared: Vec<u32>,
    described: TypesCell,
}

/// Shared by a statement and the descriptions of it that are under way.
pub(crate) type TypesCell = Arc<OnceLock<Vec<u32>>>;

impl From<Vec<u32>> for ParameterTypes {
    fn from(declared: Vec<u32>) -> Self {
        Self {
            declared,
            described: TypesCell::default(),
        }
    }
}

impl ParameterTypes {
    pub(crate) fn known(&self) -> &[u32] {
        self.described.get().unwrap_or(&self.declared)
    }

    pub(crate) fn cell(&self) -> TypesCell {
        Arc::clone(&self.described)
    }
}

/// Takes a value that is too large for its place, with a readable form of it, and gives the mark for it.
pub(crate) type Large<'a> = &'a mut dyn FnMut(&[u8], &str) -> String;

/// What types are read by.
#[derive(Clone, Copy)]
pub(crate) struct Types<'a> {
    pub(crate) known: &'a [u32],
    /// For domains; built-in types are known without.
    pub(crate) catalog: Option<&'a Catalog>,
}

/// Binary values are shown in the server's text form where their type is known and has one, anything
/// else in hexadecimal.
///
/// `secret` parameters are recorded as keyed digests.
pub(crate) fn json(
    bind: &Bind<'_>,
    types: Types<'_>,
    (secret, key): (&[(usize, String)], &MaskKey),
    large: Large<'_>,
) -> String {
    if bind.parameters.is_empty() {
        return String::new();
    }
    let mut out = String::from("[");
    for (index, value) in bind.parameters.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        let binary = match bind.parameter_formats.as_slice() {
            [] => false,
            [one] => *one == 1,
            many => many.get(index) == Some(&1),
        };
        let hidden = secret.iter().find(|(place, _)| *place == index);
        match value {
            None => out.push_str("null"),
            Some(bytes) if hidden.is_some() => {
                let column = hidden.map_or("", |(_, column)| column.as_str());
                out.push('"');
                out.push_str(&key.digest_text(column, bytes));
                out.push('"');
            }
            Some(bytes) => {
                let type_oid = types.known.get(index).copied().unwrap_or(0);
                let shown = if binary && bytes.len() <= VALUE_BYTES_MAX {
                    shown(bytes, type_oid, types.catalog)
                } else {
                    None
                };
                match shown {
                    Some(text) => quote(&mut out, &text),
                    None => one(&mut out, bytes, (binary, type_oid), large),
                }
            }
        }
    }
    out.push(']');
    out
}

fn one(out: &mut String, bytes: &[u8], (binary, type_oid): (bool, u32), large: Large<'_>) {
    let readable = |text: &&str| {
        !binary
            || matches!(type_oid, 25 | 1043 | 1042 | 19)
            || text.chars().all(|c| !c.is_control())
    };
    out.push('"');
    match std::str::from_utf8(bytes).ok().filter(readable) {
        Some(text) => {
            let beginning = text.floor_char_boundary(VALUE_BYTES_MAX);
            escape(out, text.get(..beginning).unwrap_or(text));
            if beginning < text.len() {
                out.push_str(&large(bytes, text));
            }
        }
        None => {
            let kept = bytes.get(..VALUE_BYTES_MAX).unwrap_or(bytes);
            out.push_str(&hexadecimal(kept));
            if kept.len() < bytes.len() {
                let whole = if bytes.len() <= PARAMETER_BYTES_MAX {
                    hexadecimal(bytes)
                } else {
                    String::new()
                };
                out.push_str(&large(bytes, &whole));
            }
        }
    }
    out.push('"');
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(2 + bytes.len() * 2);
    out.push_str("0x");
    for byte in bytes {
        let _infallible = write!(out, "{byte:02x}");
    }
    out
}

fn shown(bytes: &[u8], type_oid: u32, catalog: Option<&Catalog>) -> Option<String> {
    match (type_oid, bytes) {
        (BOOL, [flag]) => return Some((*flag != 0).to_string()),
        (OID, _) => return Some(u32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        // Numbers from 2^31 on would be shown as negative ones.
        (OID_ARRAY, _) => {
            let numbers = ValueKind::Integer { bytes: 4 };
            return weir_mask::shown(numbers, true, bytes).filter(|text| !text.contains('-'));
        }
        (TIMESTAMPTZ_ARRAY, _) => return None,
        _ => {}
    }
    let (kind, arrays) = values::kind_of(type_oid, catalog);
    let mut text = weir_mask::shown(kind, arrays, bytes)?;
    if type_oid == TIMESTAMPTZ {
        text.push_str("+00");
    }
    Some(text)
}

fn quote(out: &mut String, text: &str) {
    out.push('"');
    escape(out, text);
    out.push('"');
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if u32::from(c) < 0x20 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_value: &[u8], text: &str) -> String {
        panic!("{text} is not large")
    }

    #[test]
    fn a_large_value_has_its_beginning_and_a_mark() {
        let long = "ü".repeat(VALUE_BYTES_MAX);
        let binary = [0xff; VALUE_BYTES_MAX + 1];
        let bind = Bind {
            portal: "",
            statement: "",
            parameter_formats: vec![0, 1],
            parameters: vec![Some(long.as_bytes()), Some(&binary)],
            result_formats: Vec::new(),
        };
        let mut taken = Vec::new();
        let mut large = |value: &[u8], text: &str| {
            taken.push((value.len(), text.to_owned()));
            format!("…#{}", taken.len())
        };
        let types = Types {
            known: &[25, 17],
            catalog: None,
        };
        let key = MaskKey::new([1; 32]);
        let shown = json(&bind, types, (&[], &key), &mut large);
        let (first, second) = (&long[..VALUE_BYTES_MAX], "ff".repeat(VALUE_BYTES_MAX));
        assert_eq!(shown, format!("[\"{first}…#1\",\"0x{second}…#2\"]"));
        assert_eq!(taken[0], (long.len(), long.clone()));
        assert_eq!(taken[1], (binary.len(), format!("0x{second}ff")));
    }

    #[test]
    fn values_are_shown_by_type_and_format() {
        let bind = Bind {
            portal: "",
            statement: "",
            parameter_formats: vec![1, 0, 1, 0],
            parameters: vec![
                Some(&[0, 0, 0, 42]),
                Some(b"a\"b"),
                Some(&[0xff, 0x00]),
                None,
            ],
            result_formats: Vec::new(),
        };
        let key = MaskKey::new([1; 32]);
        let types = Types {
            known: &[23, 25, 17, 25],
            catalog: None,
        };
        let shown = json(&bind, types, (&[], &key), &mut none);
        assert_eq!(shown, r#"["42","a\"b","0xff00",null]"#);
        let secret = [(1, "t/ssn".to_owned())];
        let hidden = json(&bind, types, (&secret, &key), &mut none);
        assert!(hidden.starts_with(r#"["42","h:"#), "{hidden}");
        assert!(hidden.ends_with(r#"","0xff00",null]"#), "{hidden}");
    }
    #[test]
    fn a_type_that_the_server_described_is_known_from_then_on() {
        let bind = Bind {
            portal: "",
            statement: "",
            parameter_formats: vec![1],
            parameters: vec![Some(&[0, 0, 0, 42]), Some(&[1]), Some(&[0; 8])],
            result_formats: Vec::new(),
        };
        let key = MaskKey::new([1; 32]);
        let types = ParameterTypes::from(vec![0, 0]);
        let shown = |types: &ParameterTypes| {
            let types = Types {
                known: types.known(),
                catalog: None,
            };
            json(&bind, types, (&[], &key), &mut none)
        };
        assert_eq!(
            shown(&types),
            r#"["0x0000002a","0x01","0x0000000000000000"]"#
        );
        types.cell().set(vec![23, 16, TIMESTAMPTZ]).unwrap();
        assert_eq!(shown(&types), r#"["42","true","2000-01-01 00:00:00+00"]"#);
    }
}
