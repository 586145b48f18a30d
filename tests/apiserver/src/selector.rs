//! Label and field selectors.

use serde_json::Value;

use crate::reply::Failure;

enum Test {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Has(String),
    Lacks(String),
}

/// Both selectors of a request.
#[derive(Default)]
pub(crate) struct Selector {
    labels: Vec<Test>,
    fields: Vec<Test>,
}

impl Selector {
    pub(crate) fn parse(labels: &str, fields: &str) -> Result<Selector, Failure> {
        Ok(Selector {
            labels: tests(labels)?,
            fields: tests(fields)?,
        })
    }

    pub(crate) fn fits(&self, object: &Value) -> bool {
        let label = |key: &str| {
            let value = object.get("metadata")?.get("labels")?.get(key)?;
            Some(value.as_str()?.to_owned())
        };
        let field = |path: &str| {
            let found = path.split('.').try_fold(object, |at, step| at.get(step));
            Some(found.map_or_else(String::new, |v| {
                v.as_str().map_or_else(|| v.to_string(), str::to_owned)
            }))
        };
        self.labels.iter().all(|t| holds(t, &label)) && self.fields.iter().all(|t| holds(t, &field))
    }
}

fn holds(test: &Test, look: &dyn Fn(&str) -> Option<String>) -> bool {
    match test {
        Test::In(key, values) => look(key).is_some_and(|v| values.contains(&v)),
        Test::NotIn(key, values) => look(key).is_none_or(|v| !values.contains(&v)),
        Test::Has(key) => look(key).is_some(),
        Test::Lacks(key) => look(key).is_none(),
    }
}

fn tests(text: &str) -> Result<Vec<Test>, Failure> {
    let mut parts = vec![String::new()];
    let mut inside = false;
    for c in text.chars() {
        match c {
            ',' if !inside => parts.push(String::new()),
            c => {
                inside = (inside || c == '(') && c != ')';
                if let Some(last) = parts.last_mut() {
                    last.push(c);
                }
            }
        }
    }
    let wanted = parts.iter().map(|p| p.trim()).filter(|p| !p.is_empty());
    wanted.map(test).collect()
}

fn test(text: &str) -> Result<Test, Failure> {
    let own = |s: &str| s.trim().to_owned();
    if let Some((key, value)) = text.split_once("!=") {
        return Ok(Test::NotIn(own(key), vec![own(value)]));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Test::In(own(key), vec![own(value)]));
    }
    if let Some((head, tail)) = text.split_once('(') {
        let values = tail.trim_end_matches(')').split(',').map(own).collect();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => Ok(Test::In(own(key), values)),
            (Some(key), Some("notin"), None) => Ok(Test::NotIn(own(key), values)),
            _ => Err(Failure::bad(format!("unable to parse requirement: {text}"))),
        };
    }
    Ok(match text.strip_prefix('!') {
        Some(key) => Test::Lacks(own(key)),
        None => Test::Has(own(text)),
    })
}
