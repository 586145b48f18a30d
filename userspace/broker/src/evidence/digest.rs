//! SHA-256 of executables: each file once, within a budget.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use sha2::{Digest, Sha256};

/// Larger files have no digest.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// What may be read at once, and per second afterwards: agents can make as many binaries as they
/// like.
const BURST_BYTES: u64 = 1 << 30;
const BYTES_PER_S: u64 = 64 << 20;
/// Digests that are kept.
const KEPT_MAX: usize = 4096;
const CHUNK_BYTES: usize = 256 * 1024;
/// A file that changed this recently may change again, or be replaced under the same inode, within
/// one tick of the file system's clock: its digest is not kept.
const SETTLED_S: i64 = 2;

/// When a digest is asked for.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) monotonic_ns: u64,
    /// Unix time, as file systems use it.
    pub(super) wall_s: i64,
}

/// A file in one state: whoever writes to it changes the times.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Version {
    dev: u64,
    ino: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Version {
    fn of(file: &File) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        metadata.is_file().then(|| Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.size(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

pub(super) struct Digests {
    kept: HashMap<Version, String>,
    budget_bytes: u64,
    filled_ns: u64,
}

impl Digests {
    pub(super) fn new(now_ns: u64) -> Self {
        Self {
            kept: HashMap::new(),
            budget_bytes: BURST_BYTES,
            filled_ns: now_ns,
        }
    }

    /// Lower-case hexadecimal; `None` when the file is too large, the budget is used up, or
    /// somebody wrote meanwhile.
    pub(super) fn of(&mut self, file: &mut File, now: Moment) -> Option<String> {
        let before = Version::of(file)?;
        if let Some(known) = self.kept.get(&before) {
            return Some(known.clone());
        }
        self.fill(now.monotonic_ns);
        if before.size > FILE_BYTES_MAX || before.size > self.budget_bytes {
            return None;
        }
        self.budget_bytes -= before.size;
        let digest = read(file, before.size)?;
        if Version::of(file) != Some(before) {
            return None;
        }
        if before.ctime.0.saturating_add(SETTLED_S) < now.wall_s {
            if self.kept.len() >= KEPT_MAX {
                self.kept.clear();
            }
            self.kept.insert(before, digest.clone());
        }
        Some(digest)
    }

    fn fill(&mut self, now_ns: u64) {
        let passed_ns = u128::from(now_ns.saturating_sub(self.filled_ns));
        let more = passed_ns * u128::from(BYTES_PER_S) / 1_000_000_000;
        let more = u64::try_from(more).unwrap_or(BURST_BYTES);
        self.budget_bytes = self.budget_bytes.saturating_add(more).min(BURST_BYTES);
        self.filled_ns = now_ns;
    }
}

/// A file that grows while it is read is given up.
fn read(file: &mut File, size: u64) -> Option<String> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut total = 0;
    loop {
        let count = file.read(&mut chunk).ok()?;
        if count == 0 {
            break;
        }
        total += count as u64;
        if total > size {
            return None;
        }
        hasher.update(chunk.get(..count)?);
    }
    let hex = hasher.finalize();
    Some(hex.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    /// Without a name, so that nothing is left.
    fn file(content: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!(
            "weir-digest-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let mut options = File::options();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(path).unwrap();
        file.write_all(content).unwrap();
        file.rewind().unwrap();
        file
    }

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn at(monotonic_ns: u64) -> Moment {
        Moment {
            monotonic_ns,
            wall_s: i64::MAX,
        }
    }

    #[test]
    fn a_settled_file_is_read_once_and_again_when_it_changed() {
        let mut digests = Digests::new(0);
        let mut first = file(b"abc");
        assert_eq!(digests.of(&mut first, at(0)).as_deref(), Some(ABC));
        // At its end: read again it would be the digest of nothing.
        assert_eq!(digests.of(&mut first, at(0)).as_deref(), Some(ABC));
        first.write_all(b"d").unwrap();
        first.rewind().unwrap();
        assert_ne!(digests.of(&mut first, at(0)).as_deref(), Some(ABC));
    }

    #[test]
    fn a_file_that_just_changed_is_not_remembered() {
        let mut digests = Digests::new(0);
        let mut file = file(b"abc");
        let now = Moment {
            monotonic_ns: 0,
            wall_s: file.metadata().unwrap().ctime() + 1,
        };
        assert_eq!(digests.of(&mut file, now).as_deref(), Some(ABC));
        assert!(digests.kept.is_empty());
    }

    #[test]
    fn the_budget_ends_and_is_filled_again() {
        let mut digests = Digests::new(0);
        digests.budget_bytes = 4;
        assert!(digests.of(&mut file(b"abcd"), at(0)).is_some());
        let mut second = file(b"efghi");
        assert_eq!(digests.of(&mut second, at(0)), None);
        assert!(digests.of(&mut second, at(1_000_000_000)).is_some());
        assert_eq!(
            digests.of(&mut File::open("/dev/null").unwrap(), at(0)),
            None
        );
    }
}
