//! Names that vocabularies fix, read back from a session's snapshot.
//!
//! In the running program they are constants. Where a snapshot is read they come as text, and are
//! kept for as long as the process lives: few, and made by the node before this one.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use serde::de::{Deserialize, Deserializer, Error};

/// A name of a vocabulary.
pub type FixedName = &'static str;

/// Bytes of one name.
const NAME_BYTES_MAX: usize = 64;
/// Different names.
const NAMES_MAX: usize = 4096;

/// The name as a constant; `None` when it is too long, or one too many.
fn keep(name: &str) -> Option<FixedName> {
    static KEPT: Mutex<Option<HashSet<FixedName>>> = Mutex::new(None);
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    // A set of whole names is never left half-changed.
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = kept.get_or_insert_default();
    if let Some(known) = kept.get(name) {
        return Some(known);
    }
    if kept.len() >= NAMES_MAX {
        return None;
    }
    let name: FixedName = Box::leak(Box::from(name));
    kept.insert(name);
    Some(name)
}

/// # Errors
/// The name is longer than 64 bytes, or there are more than 4,096 of them.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<FixedName, D::Error> {
    let name = Box::<str>::deserialize(from)?;
    keep(&name).ok_or_else(|| D::Error::custom("not a name of a vocabulary"))
}

/// # Errors
/// As [`deserialize`].
pub fn deserialize_pairs<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Box<[(FixedName, T)]>, D::Error> {
    Vec::<(Box<str>, T)>::deserialize(from)?
        .into_iter()
        .map(|(name, value)| match keep(&name) {
            Some(name) => Ok((name, value)),
            None => Err(D::Error::custom("not a name of a vocabulary")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_are_kept_once_and_long_ones_never() {
        let first = keep("readColumn").unwrap();
        assert!(std::ptr::eq(first, keep("readColumn").unwrap()));
        assert_eq!(keep(&"x".repeat(65)), None);
    }
}
