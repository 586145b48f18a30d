//! Whose a pod or a container is: selectors of workloads, and of what is exempt.

use std::collections::BTreeMap;

use serde_json::Value;

/// Labels of one pod or container that are looked at.
pub(crate) const LABELS_MAX: usize = 256;

/// What makes a `T` a workload's.
pub trait Selects<T> {
    /// Everything that the selector names has to be so.
    fn fits(&self, one: &T) -> bool;
}

/// Whose something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    Workload(String),
    /// Nobody's, or named as exempt: it is left alone.
    Exempt,
    /// Of several workloads, which cannot be: its protected connects stay refused.
    Disputed(Vec<String>),
}

/// Selectors of workloads and of what is exempt; the latter are stronger.
#[derive(Clone, Debug)]
pub struct Rules<S> {
    pub workloads: Vec<(String, S)>,
    pub exempt: Vec<S>,
}

impl<S> Default for Rules<S> {
    fn default() -> Self {
        Self {
            workloads: Vec::new(),
            exempt: Vec::new(),
        }
    }
}

impl<S> Rules<S> {
    #[must_use]
    pub fn choose<T>(&self, one: &T) -> Choice
    where
        S: Selects<T>,
    {
        if self.exempt.iter().any(|selector| selector.fits(one)) {
            return Choice::Exempt;
        }
        let fitting = self.workloads.iter().filter(|(_, own)| own.fits(one));
        let mut names: Vec<String> = fitting.map(|(name, _)| name.clone()).collect();
        match (names.pop(), names.is_empty()) {
            (None, _) => Choice::Exempt,
            (Some(name), true) => Choice::Workload(name),
            (Some(name), false) => {
                names.push(name);
                Choice::Disputed(names)
            }
        }
    }
}

/// Whether `have` holds all of `wanted`.
pub(crate) fn has_labels(
    have: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> bool {
    wanted
        .iter()
        .all(|(name, value)| have.get(name) == Some(value))
}

/// `None` when they are not names and texts, or too many.
pub(crate) fn read_labels(labels: Option<&Value>) -> Option<BTreeMap<String, String>> {
    let labels = match labels {
        None | Some(Value::Null) => return Some(BTreeMap::new()),
        Some(labels) => labels.as_object()?,
    };
    if labels.len() > LABELS_MAX {
        return None;
    }
    labels
        .iter()
        .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}
