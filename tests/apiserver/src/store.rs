//! Objects in memory, with a counter of versions and a bounded history for watches.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::reply::Failure;
use crate::resource::Resource;

/// Changes that a watch can still be told of.
const HISTORY: usize = 10_000;
/// Objects that are kept at most.
const MAX_OBJECTS: usize = 50_000;

/// Group, plural, namespace, name.
pub(crate) type Key = (&'static str, &'static str, String, String);

/// One change.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) kind: &'static str,
    pub(crate) key: Key,
    pub(crate) object: Value,
}

#[derive(Default)]
struct Inner {
    version: u64,
    objects: BTreeMap<Key, Value>,
    history: VecDeque<Change>,
}

/// The store.
pub(crate) struct Store {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
}

/// What a write does beyond storing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Real,
    Dry,
}

/// Where an object is kept.
pub(crate) fn key(resource: &'static Resource, namespace: &str, name: &str) -> Key {
    (
        resource.group,
        resource.plural,
        namespace.to_owned(),
        name.to_owned(),
    )
}

/// Now, as in `metadata.creationTimestamp`.
pub(crate) fn now() -> String {
    let format =
        time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    let text = time::OffsetDateTime::now_utc().format(&format);
    text.unwrap_or_else(|_| "1970-01-01T00:00:00Z".to_owned())
}

impl Store {
    pub(crate) fn new() -> Store {
        Store {
            inner: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Value> {
        self.lock().objects.get(key).cloned()
    }

    /// All objects of a kind, ordered by namespace and name, and the version they were read at.
    pub(crate) fn list(&self, resource: &Resource, namespace: Option<&str>) -> (u64, Vec<Value>) {
        let inner = self.lock();
        let fits = |k: &Key| {
            k.0 == resource.group && k.1 == resource.plural && namespace.is_none_or(|n| n == k.2)
        };
        let found = inner.objects.iter().filter(|(k, _)| fits(k));
        (inner.version, found.map(|(_, v)| v.clone()).collect())
    }

    /// Changes after `version`; `None` where the history no longer reaches back so far.
    pub(crate) fn since(&self, version: u64) -> Option<Vec<Change>> {
        let inner = self.lock();
        let first = inner.history.front().map_or(1, |c| c.version);
        if version + 1 < first {
            return None;
        }
        let newer = inner.history.iter().filter(|c| c.version > version);
        Some(newer.cloned().collect())
    }

    /// 409 where the object exists.
    pub(crate) fn create(&self, key: Key, mut object: Value, mode: Mode) -> Result<Value, Failure> {
        let mut inner = self.lock();
        if inner.objects.contains_key(&key) {
            let message = format!("{} \"{}\" already exists", key.1, key.3);
            return Err(Failure::new(409, "AlreadyExists", message));
        }
        if inner.objects.len() >= MAX_OBJECTS {
            return Err(Failure::new(429, "TooManyRequests", "the store is full"));
        }
        let meta = &mut object["metadata"];
        meta["uid"] = json!(format!("00000000-0000-4000-8000-{:012}", inner.version + 1));
        meta["creationTimestamp"] = json!(now());
        Ok(self.put(&mut inner, ("ADDED", key), object, mode))
    }

    /// Replaces an object by what `change` makes of it; 404 where it is missing, 409 on an old version.
    pub(crate) fn update(
        &self,
        key: Key,
        mode: Mode,
        change: impl FnOnce(&Value) -> Result<Value, Failure>,
    ) -> Result<Value, Failure> {
        let mut inner = self.lock();
        let Some(old) = inner.objects.get(&key) else {
            return Err(Failure::missing(format_args!("{} \"{}\"", key.1, key.3)));
        };
        let mut new = change(old)?;
        if !new["metadata"].is_object() {
            return Err(Failure::bad("an object without metadata"));
        }
        let asked = &new["metadata"]["resourceVersion"];
        if asked.as_str().is_some_and(|v| !v.is_empty())
            && *asked != old["metadata"]["resourceVersion"]
        {
            let message = format!(
                "Operation cannot be fulfilled on {} \"{}\": the object has been modified; please apply your changes to the latest version and try again",
                key.1, key.3
            );
            return Err(Failure::new(409, "Conflict", message));
        }
        for field in [
            "uid",
            "creationTimestamp",
            "name",
            "namespace",
            "resourceVersion",
        ] {
            if !old["metadata"][field].is_null() {
                new["metadata"][field] = old["metadata"][field].clone();
            }
        }
        if new == *old {
            return Ok(new);
        }
        Ok(self.put(&mut inner, ("MODIFIED", key), new, mode))
    }

    pub(crate) fn delete(&self, key: &Key, mode: Mode) -> Result<Value, Failure> {
        let mut inner = self.lock();
        let Some(object) = inner.objects.get(key).cloned() else {
            return Err(Failure::missing(format_args!("{} \"{}\"", key.1, key.3)));
        };
        Ok(self.put(&mut inner, ("DELETED", key.clone()), object, mode))
    }

    fn put(
        &self,
        inner: &mut Inner,
        what: (&'static str, Key),
        mut object: Value,
        mode: Mode,
    ) -> Value {
        let (kind, key) = what;
        if mode == Mode::Dry {
            return object;
        }
        inner.version += 1;
        object["metadata"]["resourceVersion"] = json!(inner.version.to_string());
        if kind == "DELETED" {
            inner.objects.remove(&key);
        } else {
            inner.objects.insert(key.clone(), object.clone());
        }
        inner.history.push_back(Change {
            version: inner.version,
            kind,
            key,
            object: object.clone(),
        });
        if inner.history.len() > HISTORY {
            inner.history.pop_front();
        }
        self.changed.send_replace(inner.version);
        object
    }
}
