//! Columns of a fact as ClickHouse writes it in JSON.

use serde_json::Value;

/// Empty where it is no text.
pub(crate) fn text<'a>(fact: &'a Value, name: &str) -> &'a str {
    fact.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Numbers of 64 bits may come as texts; 0 where it is neither.
pub(crate) fn number(value: Option<&Value>) -> u64 {
    let text = value.and_then(Value::as_str);
    value
        .and_then(Value::as_u64)
        .or_else(|| text.and_then(|text| text.parse().ok()))
        .unwrap_or_default()
}

/// Those of a list that are texts.
pub(crate) fn texts<'a>(fact: &'a Value, name: &str) -> Vec<&'a str> {
    let list = fact.get(name).and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}
