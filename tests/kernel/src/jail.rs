//! From host root to root in a container: cgroup, namespaces, capabilities.

use std::fs::File;
use std::io;
use std::path::Path;

use caps::{CapSet, Capability, CapsHashSet};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// What containerd gives by default.
const CONTAINER: [Capability; 13] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FSETID,
    Capability::CAP_FOWNER,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_KILL,
];

/// Moves the calling thread into a network namespace.
///
/// # Errors
/// The file is no namespace, or we may not.
pub fn enter_namespace(path: &Path) -> io::Result<()> {
    Ok(setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?)
}

/// Moves this process into a cgroup.
///
/// # Errors
/// It is not there.
pub fn enter_cgroup(path: &Path) -> io::Result<()> {
    std::fs::write(path.join("cgroup.procs"), std::process::id().to_string())
}

/// A mount namespace of its own without the host's `/sys/fs`, and a container's capabilities.
/// The pid namespace stays the host's, which only helps the attacker.
///
/// # Errors
/// Any step failed: nothing may be tried from a jail that is none.
pub fn drop_host() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none)?;
    mount(
        Some("tmpfs"),
        "/sys/fs",
        Some("tmpfs"),
        MsFlags::empty(),
        none,
    )?;
    drop_capabilities()
}

/// A container's capabilities only, for good.
///
/// # Errors
/// As above.
pub fn drop_capabilities() -> io::Result<()> {
    let kept: CapsHashSet = CONTAINER.into_iter().collect();
    let failed = io::Error::other;
    for capability in caps::all() {
        if !kept.contains(&capability)
            && caps::has_cap(None, CapSet::Bounding, capability).map_err(failed)?
        {
            caps::drop(None, CapSet::Bounding, capability).map_err(failed)?;
        }
    }
    caps::clear(None, CapSet::Inheritable).map_err(failed)?;
    caps::set(None, CapSet::Effective, &kept).map_err(failed)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed)
}
