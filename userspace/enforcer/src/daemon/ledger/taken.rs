//! What this node accepted, counted so that a kill loses nothing: each number is in a file before
//! the connection is served.
//!
//! Around an upgrade two processes accept, so each has a file of its own, named by its epoch of the
//! spool; the node's number is the sum of them all.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::Counts;

/// Behind a workload's name: those whose other end was gone. No name holds a zero.
const LEFT: &str = "\0left";
const SUFFIX: &str = "taken";
/// Bytes of one number. The first of a file is the birth of the kernel's counters, the second says
/// which workloads the others are for.
const SLOT: u64 = 8;
/// Files of earlier processes that are read.
const FILES_MAX: usize = 4096;

struct Inner {
    file: File,
    birth: u64,
    /// By workload: slot and number.
    numbers: BTreeMap<String, (u64, u64)>,
}

/// Accepted connections by workload.
pub(crate) struct Taken {
    directory: PathBuf,
    own: PathBuf,
    names: u64,
    inner: Mutex<Inner>,
}

fn number(file: &File, slot: u64) -> u64 {
    let mut bytes = [0; 8];
    match file.read_exact_at(&mut bytes, slot * SLOT) {
        Ok(()) => u64::from_le_bytes(bytes),
        // Not written yet.
        Err(_short) => 0,
    }
}

impl Taken {
    /// `workloads` in the order of the configuration: their slots.
    ///
    /// # Errors
    /// The file cannot be made.
    pub(crate) fn open(directory: &Path, epoch: u32, workloads: &[String]) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
        let own = directory.join(format!("{epoch}.{SUFFIX}"));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&own)?;
        let names = digest(workloads);
        file.write_all_at(&names.to_le_bytes(), SLOT)?;
        let all = workloads
            .iter()
            .flat_map(|workload| [workload.clone(), left_of(workload)]);
        let numbers = all.zip(2..).map(|(name, slot)| (name, (slot, 0))).collect();
        Ok(Self {
            directory: directory.to_owned(),
            own,
            names,
            inner: Mutex::new(Inner {
                file,
                birth: 0,
                numbers,
            }),
        })
    }

    /// One more, whose other end was gone already.
    pub(crate) fn left(&self, workload: &str) {
        self.note(&left_of(workload));
    }

    /// One more. A number that cannot be written is still counted here.
    pub(crate) fn note(&self, workload: &str) {
        let mut inner = self.locked();
        let Some((slot, number)) = inner.numbers.get_mut(workload) else {
            tracing::error!(
                workload,
                "a connection of a workload that is not configured"
            );
            return;
        };
        *number += 1;
        let (slot, number) = (*slot, *number);
        if let Err(error) = inner.file.write_all_at(&number.to_le_bytes(), slot * SLOT) {
            tracing::error!(%error, "the ledger's count is not kept");
        }
    }

    /// Of this process and all others that counted against the same counters of the kernel.
    pub(crate) fn counts(&self) -> Counts {
        let others = self.others();
        let inner = self.locked();
        let mut counts = Counts::new();
        for (name, (slot, own)) in &inner.numbers {
            let theirs = others
                .iter()
                .filter(|file| number(file, 0) == inner.birth && inner.birth != 0)
                .map(|file| number(file, *slot));
            counts.insert(name.clone(), own + theirs.sum::<u64>());
        }
        counts
    }

    /// Files for the same workloads.
    fn others(&self) -> Vec<File> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|suffix| suffix == SUFFIX))
            .filter(|path| *path != self.own)
            .take(FILES_MAX)
            .filter_map(|path| File::open(path).ok())
            .filter(|file| number(file, 1) == self.names)
            .collect()
    }

    /// The kernel's counters are these: what was counted against others begins at nothing, and
    /// their files go.
    pub(crate) fn begin(&self, birth: u64) {
        let mut inner = self.locked();
        if inner.birth == birth {
            return;
        }
        // Connections that came before the first look are of these counters.
        let anew = inner.birth != 0;
        inner.birth = birth;
        let mut written = inner.file.write_all_at(&birth.to_le_bytes(), 0);
        if anew {
            let slots: Vec<u64> = inner
                .numbers
                .values_mut()
                .map(|(slot, number)| {
                    *number = 0;
                    *slot
                })
                .collect();
            for slot in slots {
                written = written.and_then(|()| inner.file.write_all_at(&[0; 8], slot * SLOT));
            }
        }
        if let Err(error) = written {
            tracing::error!(%error, "the ledger's counts are not kept");
        }
        self.forget(birth);
    }

    fn forget(&self, birth: u64) {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        for path in entries.flatten().map(|entry| entry.path()) {
            let counts = path.extension().is_some_and(|suffix| suffix == SUFFIX);
            let old = File::open(&path).is_ok_and(|file| ![0, birth].contains(&number(&file, 0)));
            if counts
                && old
                && path != self.own
                && let Err(error) = fs::remove_file(&path)
            {
                tracing::warn!(%error, path = %path.display(), "an old count stays");
            }
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Name of the number of those that were gone.
pub(super) fn left_of(workload: &str) -> String {
    format!("{workload}{LEFT}")
}

/// Which workloads the slots are for.
fn digest(workloads: &[String]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for workload in workloads {
        hasher.update(&(workload.len() as u64).to_le_bytes());
        hasher.update(workload.as_bytes());
    }
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(hasher.finalize().as_bytes()) {
        *to = *from;
    }
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_processes_are_summed_and_begin_anew_with_other_counters() {
        let directory = std::env::temp_dir().join(format!("weir-taken-{}", std::process::id()));
        let names = ["a".to_owned(), "b".to_owned()];
        let open = |epoch, names: &[String]| Taken::open(&directory, epoch, names).unwrap();
        let first = open(1, &names);
        first.note("b");
        first.begin(7);
        first.note("b");
        first.note("nobody");
        first.left("a");
        assert_eq!(first.counts()["b"], 2);
        // The next process while the first one still takes.
        let second = open(2, &names);
        second.note("b");
        second.begin(7);
        first.note("b");
        for taken in [&first, &second] {
            assert_eq!((taken.counts()["b"], taken.counts()[&left_of("a")]), (4, 1));
        }
        drop(first);
        assert_eq!(second.counts()["b"], 4, "a kill loses nothing");
        // Slots of other workloads mean nothing.
        let other = open(3, &names[1..]);
        other.begin(7);
        assert_eq!(other.counts()["b"], 0);
        second.begin(8);
        assert_eq!(second.counts()["b"], 0);
        assert!(!directory.join("1.taken").exists());
        fs::remove_dir_all(directory).unwrap();
    }
}
