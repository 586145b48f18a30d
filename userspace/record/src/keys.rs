//! The node's signing keys, one after the other: who signs which segments.
//!
//! Each change of the key is a line of JSON, signed by the key before and by the new one, that says with which
//! segments the new key begins. Whoever trusts one of the keys can follow the changes both ways.

mod change;
mod history;
mod ring;

pub use self::change::Change;
pub use self::history::{KeyHistory, Signer};
pub use self::ring::{Head, KeyError, KeyRing};

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::directory::{self, Opening};

/// Where the changes of a key file are kept: `node.keys` beside `node.key`.
#[must_use]
pub fn history_file(key_file: &Path) -> PathBuf {
    key_file.with_extension("keys")
}

/// Changes the key of a spool that no node has open. A node that runs does this itself ([`KeyRing::rotate`]).
///
/// # Errors
/// A node has the spool open, there is no key yet, or files cannot be read or written.
pub fn rotate_at_rest(spool: &Path, key_file: &Path, now_s: i64) -> Result<Change, KeyError> {
    if !key_file.exists() {
        return Err(KeyError::Absent(key_file.display().to_string()));
    }
    let (opening, live) = epochs(spool)?;
    if !live.is_empty() {
        return Err(KeyError::InUse);
    }
    let node = crate::audit::node_id(spool).map_err(|error| KeyError::File(error.to_string()))?;
    KeyRing::open(key_file, node)?.replace(&opening, now_s)
}

/// Keeps others from opening the spool; with it the epochs that a process is writing.
fn epochs(spool: &Path) -> Result<(Opening, BTreeSet<u32>), KeyError> {
    let opening = directory::opening(spool).map_err(|error| KeyError::File(error.to_string()))?;
    let live = directory::live_epochs(spool).map_err(|error| KeyError::File(error.to_string()))?;
    Ok((opening, live))
}
