//! Kubernetes' protobuf envelope, read for reviews only: kubectl sends them in it and takes JSON back.

use serde_json::{Map, Value, json};

/// What every encoded object begins with.
const MAGIC: &[u8] = b"k8s\0";

/// The content type.
pub(crate) const TYPE: &str = "application/vnd.kubernetes.protobuf";

/// A review's JSON form: kind, version and, for access reviews, its spec. `None` for anything malformed.
pub(crate) fn review(body: &[u8]) -> Option<Value> {
    let envelope = body.strip_prefix(MAGIC)?;
    let meta = field(envelope, 1)?;
    let kind = text(field(meta, 2)?)?;
    let mut object =
        json!({ "apiVersion": text(field(meta, 1)?)?, "kind": kind, "metadata": {}, "spec": {} });
    let raw = field(envelope, 2).unwrap_or_default();
    let spec = field(raw, 2).unwrap_or_default();
    match kind.as_str() {
        "SelfSubjectAccessReview" => {
            const RESOURCE: [&str; 7] = [
                "namespace",
                "verb",
                "group",
                "version",
                "resource",
                "subresource",
                "name",
            ];
            if let Some(inner) = field(spec, 1) {
                object["spec"]["resourceAttributes"] = texts(inner, &RESOURCE)?;
            }
            if let Some(inner) = field(spec, 2) {
                object["spec"]["nonResourceAttributes"] = texts(inner, &["path", "verb"])?;
            }
        }
        "SelfSubjectRulesReview" => object["spec"] = texts(spec, &["namespace"])?,
        _ => {}
    }
    Some(object)
}

/// Whether `DeleteOptions` ask for a dry run.
pub(crate) fn dry_run(body: &[u8]) -> Option<bool> {
    let envelope = body.strip_prefix(MAGIC)?;
    field(envelope, 1)?;
    let raw = field(envelope, 2).unwrap_or_default();
    Some(field(raw, 5).is_some())
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

fn texts(message: &[u8], names: &[&str]) -> Option<Value> {
    let mut map = Map::new();
    for (number, name) in (1..).zip(names) {
        if let Some(value) = field(message, number).filter(|v| !v.is_empty()) {
            map.insert((*name).to_owned(), Value::String(text(value)?));
        }
    }
    Some(Value::Object(map))
}

/// The last length-delimited field of a number; `None` also where the message is malformed before it.
fn field(mut message: &[u8], wanted: u64) -> Option<&[u8]> {
    let mut found = None;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => drop(varint(&mut message)?),
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                let (value, rest) = message.split_at_checked(length)?;
                if tag >> 3 == wanted {
                    found = Some(value);
                }
                message = rest;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    found
}

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_bytes_are_refused() {
        for body in [
            &b""[..],
            b"k8s\0",
            b"k8s\0\x0a\xff",
            b"k8s\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"{}",
        ] {
            assert_eq!(review(body), None);
        }
        let good = b"k8s\0\x0a\x07\x0a\x02v1\x12\x01X\x12\x00";
        assert_eq!(review(good).unwrap()["kind"], "X");
    }
}
