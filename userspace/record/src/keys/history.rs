//! All keys of a node, and which of them may have signed a segment.

use std::io::Read as _;
use std::path::Path;

use ed25519_dalek::VerifyingKey;
use weir_spool::SegmentId;

use super::Change;
use crate::hex::hex;

/// Changes of one node's key, and bytes of the file of them.
const CHANGES_MAX: usize = 1024;
const HISTORY_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Public keys in order, the changes between them.
#[derive(Clone, Debug)]
pub struct KeyHistory {
    /// One more than changes.
    keys: Vec<VerifyingKey>,
    changes: Vec<Change>,
}

/// Whose signature it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The key of that segment.
    Valid,
    /// A key that was replaced before this segment began, at so many seconds since 1970.
    Replaced {
        at_s: i64,
    },
    /// A key that begins with a later segment.
    TooEarly,
    Unknown,
}

impl KeyHistory {
    /// A key that was never changed.
    #[must_use]
    pub fn of(key: VerifyingKey) -> Self {
        Self {
            keys: vec![key],
            changes: Vec::new(),
        }
    }

    /// As far as changes lead from a trusted key, both ways; what is wrong with the rest is said in the list.
    #[must_use]
    pub fn trusting(changes: &[Change], node: u128, trusted: &VerifyingKey) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let digits = hex(trusted.as_bytes());
        let after = changes
            .iter()
            .position(|change| change.previous == digits)
            .or_else(|| {
                changes
                    .iter()
                    .rposition(|c| c.key == digits)
                    .map(|at| at + 1)
            });
        let Some(at) = after else {
            if !changes.is_empty() {
                problems
                    .push("the key history does not lead to this key: forged or cut".to_owned());
            }
            return (Self::of(*trusted), problems);
        };
        let mut history = Self::of(*trusted);
        let (before, later) = changes.split_at(at);
        for change in before.iter().rev() {
            let next = history.keys.first();
            match linked(change, node).and_then(|(previous, key)| {
                let joins = Some(&key) == next && history.joins_in_front(change);
                joins
                    .then_some(previous)
                    .ok_or("it does not lead to the key after it")
            }) {
                Ok(previous) => {
                    history.keys.insert(0, previous);
                    history.changes.insert(0, change.clone());
                }
                Err(why) => {
                    problems.push(format!("key change {}: {why}", change.number));
                    break;
                }
            }
        }
        for change in later {
            let last = history.keys.last();
            match linked(change, node).and_then(|(previous, key)| {
                let joins = Some(&previous) == last && history.joins_behind(change);
                joins
                    .then_some(key)
                    .ok_or("it does not follow the key before it")
            }) {
                Ok(key) => {
                    history.keys.push(key);
                    history.changes.push(change.clone());
                }
                Err(why) => {
                    problems.push(format!("key change {}: {why}", change.number));
                    break;
                }
            }
        }
        (history, problems)
    }

    fn joins_in_front(&self, change: &Change) -> bool {
        self.changes
            .first()
            .is_none_or(|first| first.number == change.number.saturating_add(1))
    }

    fn joins_behind(&self, change: &Change) -> bool {
        self.changes
            .last()
            .is_none_or(|last| change.number == last.number.saturating_add(1))
    }

    /// The history beside a key file, which has to end with that file's key.
    ///
    /// # Errors
    /// A file cannot be read; what is wrong inside is in the list.
    pub fn beside(key_file: &Path, node: u128) -> std::io::Result<(Self, Vec<String>)> {
        let key = crate::audit::verifying_key(key_file)?;
        let (changes, mut problems) = match read(&super::history_file(key_file))? {
            Ok(changes) => (changes, Vec::new()),
            Err(why) => (Vec::new(), vec![why]),
        };
        let digits = hex(key.as_bytes());
        if changes.last().is_some_and(|last| last.key != digits) {
            problems.push("the key history does not end with this node's key".to_owned());
        }
        if changes.first().is_some_and(|first| first.number != 1) {
            problems.push("the first key changes are missing".to_owned());
        }
        let (history, more) = Self::trusting(&changes, node, &key);
        problems.extend(more);
        Ok((history, problems))
    }

    /// A key as `weir audit key` prints it, or a history as `weir audit key --history` does.
    ///
    /// # Errors
    /// The file cannot be read, or holds neither.
    pub fn trusted_file(file: &Path) -> std::io::Result<(VerifyingKey, Vec<Change>)> {
        let text = text_of(file)?;
        let (changes, key) = match text.trim().rsplit_once('\n') {
            Some((changes, key)) => (changes, key),
            None => ("", text.trim()),
        };
        let key = crate::audit::public_key(key.trim())?;
        let changes = parse(changes).map_err(std::io::Error::other)?;
        Ok((key, changes))
    }

    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The newest key.
    #[must_use]
    pub fn newest(&self) -> Option<&VerifyingKey> {
        self.keys.last()
    }

    /// The key that signs this segment.
    #[must_use]
    pub fn key_of(&self, id: SegmentId) -> Option<&VerifyingKey> {
        self.keys.get(self.index_of(id))
    }

    fn index_of(&self, id: SegmentId) -> usize {
        let last = self
            .changes
            .iter()
            .rposition(|change| change.begins_before(id));
        last.map_or(0, |at| at + 1)
    }

    /// Whose signature of this segment `holds` is true for.
    pub fn signer(&self, id: SegmentId, holds: impl Fn(&VerifyingKey) -> bool) -> Signer {
        let own = self.index_of(id);
        if self.keys.get(own).is_some_and(&holds) {
            return Signer::Valid;
        }
        match self.keys.iter().position(holds) {
            Some(index) if index > own => Signer::TooEarly,
            Some(index) => Signer::Replaced {
                at_s: self.changes.get(index).map_or(0, |change| change.at_s),
            },
            None => Signer::Unknown,
        }
    }
}

fn linked(change: &Change, node: u128) -> Result<(VerifyingKey, VerifyingKey), &'static str> {
    change.keys(node)
}

impl Signer {
    /// What is wrong with the signature, `None` when nothing is.
    #[must_use]
    pub fn wrong(self) -> Option<String> {
        match self {
            Self::Valid => None,
            Self::Replaced { at_s } => Some(format!(
                "is of an expired key, which was replaced at {at_s} (seconds since 1970) before this segment began"
            )),
            Self::TooEarly => Some("is of a later key, which begins after this segment".to_owned()),
            Self::Unknown => Some("is not this node's: of an unknown key, or changed".to_owned()),
        }
    }
}

fn text_of(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)?
        .take(HISTORY_BYTES_MAX + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > HISTORY_BYTES_MAX {
        return Err(std::io::Error::other("it is larger than 16 MiB"));
    }
    Ok(text)
}

/// The changes of a file, none without one; `Err` inside for a line that is none.
pub(super) fn read(file: &Path) -> std::io::Result<Result<Vec<Change>, String>> {
    match text_of(file) {
        Ok(text) => Ok(parse(&text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Ok(Vec::new())),
        Err(error) => Err(error),
    }
}

fn parse(text: &str) -> Result<Vec<Change>, String> {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    if lines.len() > CHANGES_MAX {
        return Err(format!(
            "the key history has more than {CHANGES_MAX} changes"
        ));
    }
    let read = |(at, line): (usize, &&str)| {
        serde_json::from_str(line)
            .map_err(|_| format!("line {} of the key history cannot be read", at + 1))
    };
    lines.iter().enumerate().map(read).collect()
}
