//! The cgroup v2 tree: where it is mounted, ids, and who is inside.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::config::{BrokerError, file};

/// Depth and number of cgroups looked at below one workload.
const WALK_MAX: usize = 4096;

/// The mount point of cgroup v2; on hybrid hosts it is not `/sys/fs/cgroup`.
pub(crate) fn mount() -> Result<PathBuf, BrokerError> {
    let path = Path::new("/proc/self/mountinfo");
    let text = fs::read_to_string(path).map_err(|source| file(path, source))?;
    for line in text.lines() {
        let Some((before, after)) = line.split_once(" - ") else {
            continue;
        };
        if after.starts_with("cgroup2 ")
            && let Some(mount) = before.split(' ').nth(4)
        {
            return Ok(PathBuf::from(mount));
        }
    }
    Err(BrokerError::NoCgroup2)
}

/// A directory of the tree by its path below the mount.
pub(crate) fn directory(mount: &Path, below: &str) -> PathBuf {
    mount.join(below.trim_start_matches('/'))
}

/// Makes a cgroup that only root may move processes into, and returns its id.
pub(crate) fn make(path: &Path) -> Result<u64, BrokerError> {
    fs::create_dir_all(path).map_err(|source| file(path, source))?;
    let procs = path.join("cgroup.procs");
    fs::set_permissions(&procs, fs::Permissions::from_mode(0o600))
        .map_err(|source| file(&procs, source))?;
    id(path)
}

/// Makes a cgroup when it is not there; one that somebody else manages stays as it is.
pub(crate) fn ensure(path: &Path) -> Result<u64, BrokerError> {
    if path.is_dir() { id(path) } else { make(path) }
}

/// The cgroup id: its directory's inode number.
pub(crate) fn id(path: &Path) -> Result<u64, BrokerError> {
    Ok(fs::metadata(path)
        .map_err(|source| file(path, source))?
        .ino())
}

/// Moves a process (all its threads).
pub(crate) fn enter(path: &Path, pid: u32) -> Result<(), BrokerError> {
    let procs = path.join("cgroup.procs");
    fs::write(&procs, pid.to_string()).map_err(|source| file(&procs, source))
}

/// Every process in a cgroup and below, but for cgroups that are not `wanted`, by id.
pub(crate) fn processes(path: &Path, wanted: impl Fn(u64) -> bool) -> Vec<u32> {
    let mut found = Vec::new();
    for (_, directory) in tree(path, wanted) {
        if let Ok(text) = fs::read_to_string(directory.join("cgroup.procs")) {
            found.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
        }
    }
    found
}

/// A cgroup and those below it with their ids, limited.
pub(crate) fn tree(path: &Path, wanted: impl Fn(u64) -> bool) -> Vec<(u64, PathBuf)> {
    let mut found = Vec::new();
    let mut left = vec![path.to_owned()];
    while let Some(directory) = left.pop() {
        if found.len() >= WALK_MAX {
            break;
        }
        let Some(id) = id(&directory).ok().filter(|id| wanted(*id)) else {
            continue;
        };
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(entry.path());
            }
        }
        found.push((id, directory));
    }
    found
}
