//! The key that signs now, and what each lane has written under it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ed25519_dalek::SigningKey;
use weir_model::fault::{Fault, FaultKind};
use weir_spool::SegmentId;

use super::change::Unsigned;
use super::{Change, KeyHistory, epochs, history, history_file};
use crate::directory::{Opening, fixed, write_new};
use crate::hex::hex;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{0}")]
    File(String),
    #[error("there is no key at {0}: it is made when weir node first starts")]
    Absent(String),
    #[error("the key history beside the node key is not its own: {0}")]
    History(String),
    #[error(
        "another process has the spool open (a node that serves, or one that drains): ask that node, or wait for its end"
    )]
    InUse,
}

impl Fault for KeyError {
    fn kind(&self) -> FaultKind {
        FaultKind::Record
    }
}

/// How far a lane has come in its open segment.
#[derive(Clone)]
pub struct Head {
    pub id: SegmentId,
    /// Facts that are in the file.
    pub count: u32,
    /// Hash of the block that they end with; of no meaning without facts.
    pub chain: [u8; 32],
    /// Signs this segment.
    pub key: Arc<SigningKey>,
}

/// Ended segments whose last head nobody has asked for yet; older ones are proven by their signed ends alone.
const ENDED_MAX: usize = 4096;

struct State {
    key: Arc<SigningKey>,
    changes: Vec<Change>,
    lanes: BTreeMap<(u32, u32), Arc<Mutex<Head>>>,
    ended: Vec<Head>,
}

/// Shared by the lanes of one process.
pub struct KeyRing {
    key_file: PathBuf,
    node: u128,
    state: Mutex<State>,
    /// Number of changes.
    changed: AtomicU32,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each is whole between two statements, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn file(error: impl ToString) -> KeyError {
    KeyError::File(error.to_string())
}

impl KeyRing {
    /// Reads the key file, which is made when absent, and the history beside it. A change that was cut off on its
    /// way is brought to its end, or was never one.
    ///
    /// # Errors
    /// A file cannot be read or written, or the history is not this key's.
    pub(crate) fn open(key_file: &Path, node: u128) -> Result<Self, KeyError> {
        let history = history::read(&history_file(key_file)).map_err(file)?;
        let changes = history.map_err(KeyError::History)?;
        finish(key_file, &changes)?;
        if !changes.is_empty() && !key_file.exists() {
            let lost = format!("{} is gone", key_file.display());
            return Err(KeyError::History(lost));
        }
        let bytes: [u8; 32] = fixed(key_file, rand::random::<[u8; 32]>).map_err(file)?;
        let key = SigningKey::from_bytes(&bytes);
        let (_, problems) = KeyHistory::beside(key_file, node).map_err(file)?;
        if let Some(problem) = problems.into_iter().next() {
            return Err(KeyError::History(problem));
        }
        let changed = u32::try_from(changes.len()).unwrap_or(u32::MAX);
        Ok(Self {
            key_file: key_file.to_owned(),
            node,
            state: Mutex::new(State {
                key: Arc::new(key),
                changes,
                lanes: BTreeMap::new(),
                ended: Vec::new(),
            }),
            changed: AtomicU32::new(changed),
        })
    }

    /// The key that signs what begins now.
    #[must_use]
    pub fn key(&self) -> Arc<SigningKey> {
        Arc::clone(&locked(&self.state).key)
    }

    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        locked(&self.state).changes.clone()
    }

    pub(crate) fn changed(&self) -> u32 {
        self.changed.load(Ordering::Relaxed)
    }

    /// A segment has begun, whatever was open in its lane has ended.
    pub(crate) fn begins(&self, id: SegmentId) -> Arc<Mutex<Head>> {
        let mut state = locked(&self.state);
        let fresh = Head {
            id,
            count: 0,
            chain: [0; 32],
            key: Arc::clone(&state.key),
        };
        let place = (id.epoch, id.lane);
        let Some(head) = state.lanes.get(&place).cloned() else {
            let head = Arc::new(Mutex::new(fresh));
            state.lanes.insert(place, Arc::clone(&head));
            return head;
        };
        let ended = std::mem::replace(&mut *locked(&head), fresh);
        if state.ended.len() < ENDED_MAX {
            state.ended.push(ended);
        }
        head
    }

    /// How far each lane has come, and segments that have ended since this was asked last.
    pub(crate) fn heads(&self) -> Vec<Head> {
        let mut state = locked(&self.state);
        let mut heads = std::mem::take(&mut state.ended);
        heads.extend(state.lanes.values().map(|head| locked(head).clone()));
        heads.retain(|head| head.count > 0);
        heads
    }

    /// Replaces the key. Open segments end with the old one, which nothing else is signed by; their lanes end them
    /// at once. The old secret's file is replaced.
    ///
    /// # Errors
    /// Another process writes to the spool as well, or files cannot be written: the old key stays then.
    pub fn rotate(&self, spool: &Path, now_s: i64) -> Result<Change, KeyError> {
        // No process opens the spool until this is done.
        let (opening, mut live) = epochs(spool)?;
        live.retain(|epoch| {
            let state = locked(&self.state);
            !state.lanes.keys().any(|lane| lane.0 == *epoch)
        });
        if !live.is_empty() {
            return Err(KeyError::InUse);
        }
        self.replace(&opening, now_s)
    }

    pub(super) fn replace(&self, opening: &Opening, now_s: i64) -> Result<Change, KeyError> {
        let mut state = locked(&self.state);
        let first = state.lanes.values().map(|head| {
            let id = locked(head).id;
            (id.epoch, id.lane, id.number.saturating_add(1))
        });
        let unsigned = Unsigned {
            number: u32::try_from(state.changes.len() + 1).unwrap_or(u32::MAX),
            at_s: now_s,
            epoch: opening.epoch,
            first: first.collect(),
        };
        let key = SigningKey::from_bytes(&rand::random());
        let change = Change::new(self.node, unsigned, &state.key, &key);
        let owner = fs::metadata(&self.key_file).map_err(file)?;
        let keep = |path: &Path, bytes: &[u8]| {
            write_new(path, bytes).map_err(file)?;
            chown(path, Some(owner.uid()), Some(owner.gid())).map_err(file)
        };
        keep(&next_file(&self.key_file), key.as_bytes())?;
        let mut text = String::new();
        for change in state.changes.iter().chain([&change]) {
            text.push_str(&change.line());
            text.push('\n');
        }
        keep(&history_file(&self.key_file), text.as_bytes())?;
        fs::rename(next_file(&self.key_file), &self.key_file).map_err(file)?;
        state.key = Arc::new(key);
        state.changes.push(change.clone());
        self.changed.fetch_add(1, Ordering::Relaxed);
        Ok(change)
    }
}

fn next_file(key_file: &Path) -> PathBuf {
    key_file.with_extension("key-next")
}

/// A process that died between writing the history and putting the new key in place.
fn finish(key_file: &Path, changes: &[Change]) -> Result<(), KeyError> {
    let next = next_file(key_file);
    if !next.exists() {
        return Ok(());
    }
    let waiting = crate::audit::verifying_key(&next).map_err(file)?;
    let named = changes
        .last()
        .is_some_and(|last| last.key == hex(waiting.as_bytes()));
    if named {
        fs::rename(&next, key_file).map_err(file)
    } else {
        fs::remove_file(&next).map_err(file)
    }
}
