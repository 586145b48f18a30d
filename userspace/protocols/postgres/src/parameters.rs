//! Bind parameters for the record: a JSON array of texts.

use weir_mask::MaskKey;

use crate::wire::frontend::Bind;

/// Bytes of one value that are recorded; longer ones are cut with a mark.
const VALUE_BYTES_MAX: usize = 8192;

/// Binary values of the common fixed-width types are shown as numbers, text types as text,
/// anything else in hexadecimal.
///
/// `secret` parameters are recorded as keyed digests.
pub(crate) fn json(
    bind: &Bind<'_>,
    types: &[u32],
    secret: &[(usize, String)],
    key: &MaskKey,
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
                let type_oid = types.get(index).copied().unwrap_or(0);
                one(&mut out, bytes, binary, type_oid);
            }
        }
    }
    out.push(']');
    out
}

fn one(out: &mut String, bytes: &[u8], binary: bool, type_oid: u32) {
    if binary && let Some(number) = number(bytes, type_oid) {
        out.push('"');
        out.push_str(&number);
        out.push('"');
        return;
    }
    let kept = bytes.get(..VALUE_BYTES_MAX).unwrap_or(bytes);
    let text = std::str::from_utf8(kept).ok().filter(|text| {
        !binary
            || matches!(type_oid, 25 | 1043 | 1042 | 19)
            || text.chars().all(|c| !c.is_control())
    });
    out.push('"');
    match text {
        Some(text) => escape(out, text),
        None => {
            out.push_str("0x");
            for byte in kept {
                out.push_str(&format!("{byte:02x}"));
            }
        }
    }
    if kept.len() < bytes.len() {
        out.push_str(&format!("…({} bytes)", bytes.len()));
    }
    out.push('"');
}

/// int2, int4, int8, oid, bool.
fn number(bytes: &[u8], type_oid: u32) -> Option<String> {
    match (type_oid, bytes) {
        (16, [flag]) => Some((*flag != 0).to_string()),
        (21, [a, b]) => Some(i16::from_be_bytes([*a, *b]).to_string()),
        (23, _) => Some(i32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        (26, _) => Some(u32::from_be_bytes(bytes.try_into().ok()?).to_string()),
        (20, _) => Some(i64::from_be_bytes(bytes.try_into().ok()?).to_string()),
        _ => None,
    }
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
        let types = [23, 25, 17, 25];
        let shown = json(&bind, &types, &[], &key);
        assert_eq!(shown, r#"["42","a\"b","0xff00",null]"#);
        let secret = [(1, "t/ssn".to_owned())];
        let hidden = json(&bind, &types, &secret, &key);
        assert!(hidden.starts_with(r#"["42","h:"#), "{hidden}");
        assert!(hidden.ends_with(r#"","0xff00",null]"#), "{hidden}");
    }
}
