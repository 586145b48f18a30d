//! The private mount tree of an agent.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

use super::super::model::{LABS, RUNS};
use crate::place::{self, Mount};

/// Weir's own folders on the host; agents see empty ones.
const HIDDEN: [&str; 4] = [LABS, RUNS, "/var/lib/weir", "/etc/weir"];
/// File systems through which the kernel or Weir could be reached.
const HIDDEN_KINDS: [&str; 7] = [
    "bpf",
    "cgroup",
    "cgroup2",
    "debugfs",
    "tracefs",
    "securityfs",
    "configfs",
];
/// Replaced as a whole.
const REPLACED: [&str; 4] = ["/proc", "/sys", "/dev", "/run"];
/// Stays writable and shared with the host.
const SHARED: [&str; 2] = ["/tmp", "/var/tmp"];
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Builds the tree; called in a fresh mount namespace of our own.
pub(crate) fn build() -> Result<()> {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .context("making the mounts private")?;
    let before = place::mounts()?;
    for shared in SHARED {
        let path = Path::new(shared);
        if path.is_dir() && !before.iter().any(|mount| mount.point == path) {
            // With what is mounted below it, which would else be covered and not be found.
            let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(path), path, None::<&str>, flags, None::<&str>)
                .with_context(|| format!("binding {}", path.display()))?;
        }
    }
    for mount in place::mounts()? {
        restrict(&mount)?;
    }
    tmpfs(
        Path::new("/run"),
        "mode=755",
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
    )?;
    throw_away_home()?;
    devices()?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("sysfs"), "/sys", Some("sysfs"), flags, None::<&str>).context("mounting /sys")?;
    let elsewhere = before
        .iter()
        .filter(|mount| HIDDEN_KINDS.contains(&mount.kind.as_str()))
        .filter(|mount| !replaced(&mount.point))
        .map(|mount| mount.point.clone());
    let hidden = HIDDEN
        .iter()
        .map(PathBuf::from)
        .filter(|path| !replaced(path));
    for path in hidden
        .chain(elsewhere)
        .chain([PathBuf::from("/sys/firmware")])
    {
        if path.is_dir() {
            tmpfs(&path, "mode=000,size=4k", flags)?;
        }
    }
    Ok(())
}

fn replaced(path: &Path) -> bool {
    REPLACED.iter().any(|top| path.starts_with(top))
}

/// No device nodes anywhere; read-only except what is shared.
fn restrict(found: &Mount) -> Result<()> {
    if replaced(&found.point) || !found.point.exists() {
        return Ok(());
    }
    let mut flags = kept_flags(&found.options) | MsFlags::MS_NODEV;
    if !SHARED.iter().any(|shared| found.point.starts_with(shared)) {
        flags |= MsFlags::MS_RDONLY;
    }
    change(&found.point, flags)
}

fn kept_flags(options: &str) -> MsFlags {
    options.split(',').fold(MsFlags::empty(), |flags, option| {
        flags
            | match option {
                "ro" => MsFlags::MS_RDONLY,
                "nosuid" => MsFlags::MS_NOSUID,
                "nodev" => MsFlags::MS_NODEV,
                "noexec" => MsFlags::MS_NOEXEC,
                "noatime" => MsFlags::MS_NOATIME,
                "nodiratime" => MsFlags::MS_NODIRATIME,
                "relatime" => MsFlags::MS_RELATIME,
                _ => MsFlags::empty(),
            }
    })
}

/// With what is mounted below: a covered mount point could not be restricted.
pub(crate) fn bind(from: &Path, to: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(from), to, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("binding {}", to.display()))
}

/// Changes the flags of the mount at `path`, for this namespace only.
pub(super) fn change(path: &Path, flags: MsFlags) -> Result<()> {
    let flags = flags | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("restricting {}", path.display()))
}

fn tmpfs(path: &Path, options: &str, flags: MsFlags) -> Result<()> {
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options))
        .with_context(|| format!("covering {}", path.display()))
}

/// Histories and caches may be written below `/root` and are gone at the end; where the kernel has
/// no overlay file system the folder stays read-only.
fn throw_away_home() -> Result<()> {
    for folder in ["/run/home", "/run/home/upper", "/run/home/work"] {
        fs::create_dir(folder).with_context(|| format!("making {folder}"))?;
    }
    let options = "lowerdir=/root,upperdir=/run/home/upper,workdir=/run/home/work";
    let _without_overlay = mount(
        Some("overlay"),
        "/root",
        Some("overlay"),
        MsFlags::MS_NODEV,
        Some(options),
    );
    Ok(())
}

/// A container's `/dev`, built aside and then moved over the host's.
fn devices() -> Result<()> {
    let aside = Path::new("/run/dev");
    fs::create_dir(aside).context("making /run/dev")?;
    tmpfs(aside, "mode=755", MsFlags::MS_NOSUID)?;
    for device in DEVICES {
        let node = aside.join(device);
        fs::File::create(&node).with_context(|| format!("making {}", node.display()))?;
        bind(&Path::new("/dev").join(device), &node)?;
    }
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(to, aside.join(name)).with_context(|| format!("linking /dev/{name}"))?;
    }
    for folder in ["pts", "shm"] {
        fs::create_dir(aside.join(folder)).with_context(|| format!("making /dev/{folder}"))?;
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let options = Some("newinstance,ptmxmode=0666,mode=0620");
    mount(
        Some("devpts"),
        &aside.join("pts"),
        Some("devpts"),
        flags,
        options,
    )
    .context("mounting /dev/pts")?;
    tmpfs(
        &aside.join("shm"),
        "mode=1777,size=64m",
        flags | MsFlags::MS_NODEV,
    )?;
    mount(
        Some(aside),
        "/dev",
        None::<&str>,
        MsFlags::MS_MOVE,
        None::<&str>,
    )
    .context("moving /dev into place")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_that_a_mount_has_are_kept() {
        let flags = kept_flags("rw,nosuid,noexec,relatime");
        assert_eq!(
            flags,
            MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_RELATIME
        );
    }
}
