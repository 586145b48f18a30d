//! A process of this host becomes governed: `weir run`.
//!
//! It can only be moved to where less is allowed: below the cgroup of a configured workload.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cgroup;

const PREFIX: &str = "run-";
/// Process trees of one workload.
const TREES_MAX: usize = 1024;

/// Makes a cgroup below the workload's for the process and what it starts. Returns its id.
pub(crate) fn enrol(workload: &Path, governed: &[PathBuf], pid: u32) -> io::Result<u64> {
    if pid <= 1 {
        return Err(io::Error::other("that is no process of a person"));
    }
    let inside = |root: &PathBuf| cgroup::processes(root, |_| true).contains(&pid);
    if governed.iter().any(inside) {
        return Err(io::Error::other("the process is governed already"));
    }
    cgroup::make(workload).map_err(io::Error::other)?;
    if clean(workload)? >= TREES_MAX {
        return Err(io::Error::other("too many process trees of this workload"));
    }
    let tree = workload.join(format!("{PREFIX}{pid}-{}", uuid()?));
    let id = cgroup::make(&tree).map_err(io::Error::other)?;
    if let Err(error) = cgroup::enter(&tree, pid) {
        // Nobody is in it: best removed at once.
        let _gone = fs::remove_dir(&tree);
        return Err(io::Error::other(error));
    }
    Ok(id)
}

/// Sixteen hex digits: a pid that comes again is another tree.
fn uuid() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(text
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(16)
        .collect())
}

/// Removes trees that have ended, and counts the others.
fn clean(workload: &Path) -> io::Result<usize> {
    let mut live = 0;
    for entry in fs::read_dir(workload)?.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        // The kernel removes only what is empty.
        if ours && fs::remove_dir(entry.path()).is_err() {
            live += 1;
        }
    }
    Ok(live)
}
