//! What this node accepted, counted so that a kill loses nothing: each number is in a file before
//! the connection is served.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::Counts;

/// Behind a workload's name: those whose other end was gone. No name holds a zero.
const LEFT: &str = "\0left";
const FILE: &str = "ledger.taken";
/// Bytes of one number; the first of the file is the birth of the kernel's counters.
const SLOT: u64 = 8;

struct Inner {
    file: File,
    birth: u64,
    /// By workload: slot and number.
    numbers: BTreeMap<String, (u64, u64)>,
}

/// Accepted connections by workload.
pub(crate) struct Taken(Mutex<Inner>);

impl Taken {
    /// `workloads` in the order of the configuration: their slots.
    ///
    /// # Errors
    /// The file cannot be read or made.
    pub(crate) fn open(directory: &Path, workloads: &[String]) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join(FILE))?;
        let read = |slot: u64| -> u64 {
            let mut bytes = [0; 8];
            match file.read_exact_at(&mut bytes, slot * SLOT) {
                Ok(()) => u64::from_le_bytes(bytes),
                // Not written yet.
                Err(_short) => 0,
            }
        };
        let birth = read(0);
        // Other workloads than before: their slots would be confused.
        let names = blake3_of(workloads);
        let same = read(1) == names;
        let mut numbers = BTreeMap::new();
        let all = workloads
            .iter()
            .flat_map(|workload| [workload.clone(), left_of(workload)]);
        for (slot, name) in (2..).zip(all) {
            let number = if same { read(slot) } else { 0 };
            numbers.insert(name, (slot, number));
        }
        let taken = Inner {
            birth: if same { birth } else { 0 },
            file,
            numbers,
        };
        taken.file.write_all_at(&names.to_le_bytes(), SLOT)?;
        Ok(Self(Mutex::new(taken)))
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

    pub(crate) fn counts(&self) -> Counts {
        let inner = self.locked();
        let numbers = inner.numbers.iter();
        numbers
            .map(|(workload, (_, number))| (workload.clone(), *number))
            .collect()
    }

    /// The kernel's counters are these: numbers that belong to others begin at nothing.
    pub(crate) fn begin(&self, birth: u64) {
        let mut inner = self.locked();
        if inner.birth == birth {
            return;
        }
        let first = inner.birth == 0;
        inner.birth = birth;
        let mut written = inner.file.write_all_at(&birth.to_le_bytes(), 0);
        let slots: Vec<u64> = inner
            .numbers
            .values_mut()
            .map(|(slot, number)| {
                // Connections that came before the first look are of these counters.
                if !first {
                    *number = 0;
                }
                *slot
            })
            .collect();
        if !first {
            for slot in slots {
                written = written.and_then(|()| inner.file.write_all_at(&[0; 8], slot * SLOT));
            }
        }
        if let Err(error) = written {
            tracing::error!(%error, "the ledger's counts are not kept");
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Name of the number of those that were gone.
pub(super) fn left_of(workload: &str) -> String {
    format!("{workload}{LEFT}")
}

/// Which workloads the slots are for.
fn blake3_of(workloads: &[String]) -> u64 {
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
    fn numbers_outlive_the_process_and_begin_anew_with_other_counters() {
        let directory = std::env::temp_dir().join(format!("weir-taken-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let names = ["a".to_owned(), "b".to_owned()];
        let open = |names: &[String]| Taken::open(&directory, names).unwrap();
        let taken = open(&names);
        taken.note("b");
        taken.begin(7);
        taken.note("b");
        taken.note("nobody");
        taken.left("a");
        assert_eq!(taken.counts()["b"], 2);
        drop(taken);
        let again = open(&names);
        again.begin(7);
        assert_eq!((again.counts()["b"], again.counts()[&left_of("a")]), (2, 1));
        again.begin(8);
        assert_eq!(again.counts()["b"], 0);
        again.note("a");
        drop(again);
        assert_eq!(open(&names).counts()["a"], 1);
        // Slots of other workloads mean nothing.
        assert_eq!(open(&names[1..]).counts()["b"], 0);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
