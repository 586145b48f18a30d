//! Members of a text's objects, counted as they are written: of two with one name, a reader keeps one.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// True when `read`, which was read from `text`, holds every member that is written there: then no
/// value of the text was left unseen.
pub(super) fn all_kept(text: &str, read: &Value) -> bool {
    serde_json::from_str::<Written>(text).is_ok_and(|written| written.0 == held(read))
}

fn held(value: &Value) -> u64 {
    match value {
        Value::Array(items) => items.iter().map(held).sum(),
        Value::Object(members) => members.values().map(|value| 1 + held(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

struct Written(u64);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Counter)
    }
}

struct Counter;

impl<'de> Visitor<'de> for Counter {
    type Value = Written;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Written, E> {
        Ok(Written(0))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Written, E> {
        Ok(Written(0))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Written, E> {
        Ok(Written(0))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Written, E> {
        Ok(Written(0))
    }

    fn visit_str<E>(self, _: &str) -> Result<Written, E> {
        Ok(Written(0))
    }

    fn visit_unit<E>(self) -> Result<Written, E> {
        Ok(Written(0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Written, A::Error> {
        let mut count = 0;
        while let Some(Written(inside)) = items.next_element()? {
            count += inside;
        }
        Ok(Written(count))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Written, A::Error> {
        let mut count = 0;
        while let Some((IgnoredAny, Written(inside))) = members.next_entry()? {
            count += 1 + inside;
        }
        Ok(Written(count))
    }
}
