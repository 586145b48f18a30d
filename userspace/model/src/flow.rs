//! A flow: one kernel connection, and what the kernel saw of its maker.

use crate::addr::{CgroupId, ClientAddr, NetnsCookie, OrigDst, SocketCookie};
use serde::{Deserialize, Serialize};

/// What the connect hook recorded, read back from the accepted socket's storage.
///
/// The cgroup id is the binding key of the identity; everything about the process is evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowOrigin {
    pub dst: OrigDst,
    pub client: ClientAddr,
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    pub tid: u32,
    pub uid: u32,
    pub cgroup: CgroupId,
    pub netns: NetnsCookie,
    pub cookie: SocketCookie,
    /// Start of the thread group leader, nanoseconds since boot; with `pid` it names one process.
    pub start_boottime_ns: u64,
    /// `CLOCK_MONOTONIC` at the connect, nanoseconds.
    pub connected_ktime_ns: u64,
    /// At most 15 bytes, lossy UTF-8.
    pub comm: String,
}

/// Which process, as it was at which time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessAsk {
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// Start of the thread group leader, nanoseconds since boot.
    pub start_boottime_ns: u64,
    /// `CLOCK_MONOTONIC`, nanoseconds: a process that executed something else since is asked for
    /// as it was.
    pub at_ktime_ns: u64,
    /// Where it was then; 0 when not known.
    pub cgroup_id: u64,
}

impl FlowOrigin {
    /// The process that connected, at that time.
    #[must_use]
    pub const fn process(&self) -> ProcessAsk {
        ProcessAsk {
            pid: self.pid,
            start_boottime_ns: self.start_boottime_ns,
            at_ktime_ns: self.connected_ktime_ns,
            cgroup_id: self.cgroup.0,
        }
    }
}

/// What could be learnt of the process behind a flow. Evidence for the record, never a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessEvidence {
    pub pid: u32,
    pub ppid: u32,
    pub uid: u32,
    pub comm: String,
    /// Path of the executable as the initial mount namespace or the process' own sees it.
    pub exe: String,
    /// `dev:inode` of the executable.
    pub exe_id: String,
    /// SHA-256 of the executable, lower-case hexadecimal; empty when it could not be read.
    pub exe_sha256: String,
    /// Container id and pod uid, by the names that runtimes give to cgroups.
    pub container: String,
    pub pod: String,
    /// Where the image is known from: `kernel` (seen when it was executed), `seed` (it ran before
    /// Weir did), `proc` (looked at later).
    pub lineage: String,
    /// At most [`crate::limit::ARGV_BYTES_MAX`], secrets replaced before it gets here.
    pub argv: Vec<String>,
    /// Nearest first, up to the agent's root process; `pid exe`.
    pub parents: Vec<String>,
    /// Path below the cgroup v2 mount.
    pub cgroup_path: String,
    /// Inode of the network namespace.
    pub netns_inode: u64,
}
