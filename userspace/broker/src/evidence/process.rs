//! What `/proc` says of a process, checked against its start.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use weir_model::limit::ARGV_BYTES_MAX;

/// Clock ticks are hundredths of a second on every Linux that Weir runs on.
pub(super) const NS_PER_TICK: u64 = 10_000_000;

/// Fields of `/proc/PID/stat`.
pub(super) struct Stat {
    pub(super) comm: String,
    pub(super) ppid: u32,
    pub(super) start_ticks: u64,
}

/// The name may hold spaces and brackets.
pub(super) fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let open = text.find('(')?;
    let close = text.rfind(')')?;
    let comm = text.get(open + 1..close)?.to_owned();
    let rest: Vec<&str> = text.get(close + 2..)?.split(' ').collect();
    Some(Stat {
        comm,
        ppid: rest.get(1)?.parse().ok()?,
        start_ticks: rest.get(19)?.parse().ok()?,
    })
}

/// Does the number still belong to the process that started then.
pub(super) fn lives(pid: u32, start_ticks: u64) -> bool {
    stat(pid).is_some_and(|stat| stat.start_ticks == start_ticks)
}

pub(super) fn exe_link(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/exe"))
}

pub(super) fn exe(pid: u32) -> String {
    fs::read_link(exe_link(pid)).map_or_else(
        |_| String::new(),
        |path| path.to_string_lossy().into_owned(),
    )
}

/// Device and inode, as `stat` gives them.
pub(super) fn exe_id(pid: u32) -> Option<(u64, u64)> {
    let metadata = fs::metadata(exe_link(pid)).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

pub(super) fn argv(pid: u32) -> Vec<String> {
    let Ok(bytes) = fs::read(format!("/proc/{pid}/cmdline")) else {
        return Vec::new();
    };
    let cut = bytes.len() > ARGV_BYTES_MAX;
    let kept = bytes.get(..ARGV_BYTES_MAX).unwrap_or(&bytes);
    if kept.is_empty() {
        return Vec::new();
    }
    let ended = kept.strip_suffix(&[0]).unwrap_or(kept);
    let words = ended.split(|byte| *byte == 0);
    let mut argv: Vec<String> = words
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    if cut {
        argv.push("…".to_owned());
    }
    argv
}

/// Path below the cgroup v2 mount.
pub(super) fn cgroup(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(ToOwned::to_owned)
}

pub(super) fn uid(pid: u32) -> Option<u32> {
    Some(fs::metadata(format!("/proc/{pid}")).ok()?.uid())
}

pub(super) fn netns_inode(pid: u32) -> u64 {
    fs::metadata(format!("/proc/{pid}/ns/net")).map_or(0, |metadata| metadata.ino())
}

/// Every number of `/proc`.
pub(super) fn all() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}
