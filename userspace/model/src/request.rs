//! A request: one decoded unit towards the server, as policy and record see it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::asked;
use crate::fixed::FixedName;

/// One object of a protocol's vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Object {
    /// Name of an [`crate::vocabulary::ObjectKind`], such as `Table`.
    #[serde(deserialize_with = "crate::fixed::deserialize")]
    pub kind: FixedName,
    /// From the target down: `[target, database, schema, table]`.
    pub path: Box<[Arc<str>]>,
}

impl Object {
    /// The entity id: segments joined by `/`, `%` and `/` inside a segment escaped.
    #[must_use]
    pub fn id(&self) -> String {
        let mut id = String::with_capacity(32);
        for (index, segment) in self.path.iter().enumerate() {
            if index > 0 {
                id.push('/');
            }
            for c in segment.chars() {
                match c {
                    '%' => id.push_str("%25"),
                    '/' => id.push_str("%2F"),
                    other => id.push(other),
                }
            }
        }
        id
    }
}

/// Value of a context attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AttrValue {
    Bool(bool),
    Long(i64),
    String(Arc<str>),
    StringSet(Box<[Arc<str>]>),
}

/// One effect on one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Access {
    /// Name of an [`crate::vocabulary::ActionKind`], such as `select`.
    #[serde(deserialize_with = "crate::fixed::deserialize")]
    pub action: FixedName,
    pub object: Object,
}

/// What policy decides on: every effect × object of one statement, and its context.
///
/// Two requests with equal `Intent` from one principal to one target get the same decision as
/// long as policy, time and approvals do not enter it: it is the key of the decision cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Intent {
    /// Sorted, without duplicates, never empty.
    pub accesses: Box<[Access]>,
    /// Sorted by name; names of [`crate::vocabulary::AttrKind`].
    #[serde(deserialize_with = "crate::fixed::deserialize_pairs")]
    pub context: Box<[(FixedName, AttrValue)]>,
}

impl Intent {
    /// Sorts and deduplicates both lists.
    #[must_use]
    pub fn new(mut accesses: Vec<Access>, mut context: Vec<(&'static str, AttrValue)>) -> Self {
        accesses.sort();
        accesses.dedup();
        context.sort();
        context.dedup_by(|a, b| a.0 == b.0);
        Self {
            accesses: accesses.into(),
            context: context.into(),
        }
    }
}

/// The intent as the record shows it; made once per statement, shared by its executions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// Actions without duplicates, sorted.
    pub effects: Arc<[String]>,
    /// `Kind:id` without duplicates, sorted.
    pub objects: Arc<[String]>,
    /// Which effect on which object, and the context: see [`crate::asked`].
    #[serde(default = "unknown")]
    pub asked: Arc<str>,
}

fn unknown() -> Arc<str> {
    Arc::from("")
}

impl Recorded {
    #[must_use]
    pub fn of(intent: &Intent) -> Self {
        let effects: BTreeSet<String> = intent
            .accesses
            .iter()
            .map(|access| access.action.to_owned())
            .collect();
        let objects: BTreeSet<String> = intent
            .accesses
            .iter()
            .map(|access| asked::named(&access.object))
            .collect();
        let effects: Arc<[String]> = effects.into_iter().collect();
        let objects: Arc<[String]> = objects.into_iter().collect();
        Self {
            asked: Arc::from(asked::write(intent, &effects, &objects)),
            effects,
            objects,
        }
    }
}

/// One decoded request, ready for `govern`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    pub intent: Arc<Intent>,
    pub recorded: Recorded,
    /// The statement as the record and a reviewer see it, secrets already replaced by digests.
    pub statement: Arc<str>,
    /// Parameters as a JSON array text, secrets already replaced; empty when there are none.
    pub parameters: String,
    /// 64-bit keyed digest of the normalised statement; 0 when the protocol has none.
    pub shape: u64,
    /// Bytes the client sent for it.
    pub bytes_in: u64,
    /// Microseconds it took to understand it, where whoever made it knows.
    #[serde(default)]
    pub decode_us: u32,
}
