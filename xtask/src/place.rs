//! Where things are: the repository, the caches, the cgroup v2 tree.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Root of the repository.
pub(crate) fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// What is fetched once per user: `~/.cache/weir`.
pub(crate) fn cache() -> Result<PathBuf> {
    let home = std::env::var_os("HOME").context("HOME is not set")?;
    Ok(PathBuf::from(home).join(".cache/weir"))
}

/// One line of `/proc/self/mountinfo`.
#[derive(Clone, Debug)]
pub(crate) struct Mount {
    pub(crate) point: PathBuf,
    /// Per-mount options, as in `rw,nosuid,nodev`.
    pub(crate) options: String,
    pub(crate) kind: String,
}

/// Every mount of this process.
pub(crate) fn mounts() -> Result<Vec<Mount>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").context("reading mountinfo")?;
    Ok(text.lines().filter_map(parse_mount).collect())
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (front, back) = line.split_once(" - ")?;
    let fields: Vec<&str> = front.split(' ').collect();
    Some(Mount {
        point: PathBuf::from(unescape(fields.get(4)?)),
        options: (*fields.get(5)?).to_owned(),
        kind: back.split(' ').next()?.to_owned(),
    })
}

/// The kernel writes space, tab, newline and backslash as `\ooo`.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest
            .get(at + 1..at + 4)
            .and_then(|octal| u8::from_str_radix(octal, 8).ok());
        match code {
            Some(byte) => {
                out.push(char::from(byte));
                rest = &rest[at + 4..];
            }
            None => {
                out.push('\\');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// The mount point of the cgroup v2 tree, wherever a hybrid host has it.
pub(crate) fn cgroup2() -> Result<PathBuf> {
    match mounts()?.into_iter().find(|mount| mount.kind == "cgroup2") {
        Some(mount) => Ok(mount.point),
        None => bail!("no cgroup v2 tree is mounted (mount -t cgroup2 none /sys/fs/cgroup)"),
    }
}

/// Fails with what to do unless the effective user is root.
pub(crate) fn need_root(what: &str) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("{what} needs root: eBPF, namespaces and cgroups cannot be made without it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mountinfo_line_is_read_with_its_escapes() {
        let line = "36 35 98:0 / /mnt/a\\040b rw,nosuid,noatime shared:1 - ext3 /dev/root rw";
        let mount = parse_mount(line).unwrap();
        assert_eq!(mount.point, Path::new("/mnt/a b"));
        assert_eq!(mount.options, "rw,nosuid,noatime");
        assert_eq!(mount.kind, "ext3");
    }
}
