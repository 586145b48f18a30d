//! A strict reader over a YAML tree that goes on after a problem, so that all are reported.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "any other kind of value is a problem, whatever it is"
)]

use std::collections::BTreeSet;

use serde_json::Value;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// `targets[0].match.hosts[1]`; empty for the file as a whole.
    pub(crate) path: String,
    pub(crate) message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// One mapping of the file. Names that nobody asked for are problems, when it is dropped by
/// [`Section::finish`].
pub(super) struct Section<'a> {
    path: String,
    fields: Option<&'a serde_json::Map<String, Value>>,
    asked: BTreeSet<&'static str>,
}

impl<'a> Section<'a> {
    pub(super) fn root(value: &'a Value, problems: &mut Vec<Problem>) -> Self {
        Self::at(String::new(), value, problems)
    }

    fn at(path: String, value: &'a Value, problems: &mut Vec<Problem>) -> Self {
        let fields = value.as_object();
        if fields.is_none() {
            let message = format!("expected a mapping, found {}", kind(value));
            problems.push(Problem {
                path: path.clone(),
                message,
            });
        }
        Self {
            path,
            fields,
            asked: BTreeSet::new(),
        }
    }

    pub(super) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.insert(name);
        self.fields?.get(name).filter(|value| !value.is_null())
    }

    fn wrong(&self, name: &str, expected: &str, value: &Value, problems: &mut Vec<Problem>) {
        let message = format!("expected {expected}, found {}", kind(value));
        problems.push(Problem {
            path: self.path_of(name),
            message,
        });
    }

    fn missing(&self, name: &str, problems: &mut Vec<Problem>) {
        if self.fields.is_some() {
            let message = "is required".to_owned();
            problems.push(Problem {
                path: self.path_of(name),
                message,
            });
        }
    }

    pub(super) fn text(&mut self, name: &'static str, problems: &mut Vec<Problem>) -> String {
        match self.opt_text(name, problems) {
            Some(text) => text,
            None => {
                if !self.has(name) {
                    self.missing(name, problems);
                }
                String::new()
            }
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.fields
            .is_some_and(|fields| fields.get(name).is_some_and(|value| !value.is_null()))
    }

    pub(super) fn opt_text(
        &mut self,
        name: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<String> {
        match self.value(name)? {
            Value::String(text) => Some(text.clone()),
            other => {
                self.wrong(name, "text", other, problems);
                None
            }
        }
    }

    pub(super) fn opt_number(
        &mut self,
        name: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<u64> {
        let value = self.value(name)?;
        let number = value.as_u64();
        if number.is_none() {
            self.wrong(name, "a whole number from 0", value, problems);
        }
        number
    }

    pub(super) fn opt_flag(
        &mut self,
        name: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<bool> {
        let value = self.value(name)?;
        let flag = value.as_bool();
        if flag.is_none() {
            self.wrong(name, "true or false", value, problems);
        }
        flag
    }

    pub(super) fn texts(&mut self, name: &'static str, problems: &mut Vec<Problem>) -> Vec<String> {
        let Some(value) = self.value(name) else {
            return Vec::new();
        };
        let Some(items) = value.as_array() else {
            self.wrong(name, "a list", value, problems);
            return Vec::new();
        };
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match item {
                Value::String(text) => texts.push(text.clone()),
                other => {
                    let path = format!("{}[{index}]", self.path_of(name));
                    let message = format!("expected text, found {}", kind(other));
                    problems.push(Problem { path, message });
                }
            }
        }
        texts
    }

    /// One text, or a list of them; at least one.
    pub(super) fn text_or_texts(
        &mut self,
        name: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Vec<String> {
        if let Some(Value::String(text)) = self.value(name) {
            return vec![text.clone()];
        }
        if !self.has(name) {
            self.missing(name, problems);
        }
        self.texts(name, problems)
    }

    pub(super) fn numbers(&mut self, name: &'static str, problems: &mut Vec<Problem>) -> Vec<u64> {
        let Some(value) = self.value(name) else {
            return Vec::new();
        };
        let Some(items) = value.as_array() else {
            self.wrong(name, "a list", value, problems);
            return Vec::new();
        };
        let mut numbers = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match item.as_u64() {
                Some(number) => numbers.push(number),
                None => {
                    let path = format!("{}[{index}]", self.path_of(name));
                    let message = format!("expected a whole number, found {}", kind(item));
                    problems.push(Problem { path, message });
                }
            }
        }
        numbers
    }

    /// A mapping of free names to texts.
    pub(super) fn text_map(
        &mut self,
        name: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Vec<(String, String)> {
        let Some(value) = self.value(name) else {
            return Vec::new();
        };
        let Some(fields) = value.as_object() else {
            self.wrong(name, "a mapping", value, problems);
            return Vec::new();
        };
        let mut entries = Vec::with_capacity(fields.len());
        for (key, item) in fields {
            match item {
                Value::String(text) => entries.push((key.clone(), text.clone())),
                other => {
                    let path = format!("{}.{key}", self.path_of(name));
                    let message = format!("expected text, found {}", kind(other));
                    problems.push(Problem { path, message });
                }
            }
        }
        entries
    }

    pub(super) fn section(
        &mut self,
        name: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Section<'a> {
        match self.value(name) {
            Some(value) => Section::at(self.path_of(name), value, problems),
            None => {
                self.missing(name, problems);
                Section {
                    path: self.path_of(name),
                    fields: None,
                    asked: BTreeSet::new(),
                }
            }
        }
    }

    pub(super) fn opt_section(
        &mut self,
        name: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<Section<'a>> {
        let value = self.value(name)?;
        Some(Section::at(self.path_of(name), value, problems))
    }

    pub(super) fn sections(
        &mut self,
        name: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Vec<Section<'a>> {
        let Some(value) = self.value(name) else {
            return Vec::new();
        };
        let Some(items) = value.as_array() else {
            self.wrong(name, "a list", value, problems);
            return Vec::new();
        };
        items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                Section::at(format!("{}[{index}]", self.path_of(name)), item, problems)
            })
            .collect()
    }

    /// Reports the names that nobody asked for.
    pub(super) fn finish(self, problems: &mut Vec<Problem>) {
        let Some(fields) = self.fields else { return };
        for name in fields.keys() {
            if !self.asked.contains(name.as_str()) {
                let known: Vec<&str> = self.asked.iter().copied().collect();
                let message = format!("unknown name; known here: {}", known.join(", "));
                problems.push(Problem {
                    path: self.path_of(name),
                    message,
                });
            }
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}
