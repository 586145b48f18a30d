//! Kernel to user contract: layouts, names and numbers that the eBPF programs and user space share.
//!
//! Every type is `#[repr(C)]` without implicit padding; a change of any layout is a new
//! [`ABI_VERSION`] and so a new pin directory.

#![no_std]
#![cfg_attr(feature = "user", deny(unsafe_code))]
#![cfg_attr(not(feature = "user"), forbid(unsafe_code))]

pub mod count;
pub mod flow;
pub mod lineage;
pub mod names;
pub mod rule;
#[cfg(feature = "user")]
mod user;
pub mod verdict;

pub use count::{CLASSES_MAX, COUNTERS, Counter, counter_index};
pub use flow::{Event, FlowKey, Origin};
pub use lineage::{Process, ProcessKey, Speaker};
pub use rule::{Destination, Netns, PORT_ANY, PORT_SOME};
pub use verdict::{Reason, UnknownReason};

/// Names the pin directory: `v<ABI_VERSION>` below the configured path.
pub const ABI_VERSION: u32 = 1;

/// Address family numbers of Linux.
pub const AF_INET: u32 = 2;
pub const AF_INET6: u32 = 10;

/// The class of a governed process that no workload claims: it has every protected destination.
pub const CLASS_NONE: u32 = 0;

/// The class of cgroups that lie below a governed one and are known not to be governed: no
/// destination is protected from them.
pub const CLASS_EXEMPT: u32 = CLASSES_MAX - 1;

/// Largest class of a workload.
pub const CLASS_WORKLOAD_MAX: u32 = CLASS_EXEMPT - 1;

/// Never in a map: no ancestor of the cgroup is governed.
pub const CLASS_OUTSIDE: u32 = u32::MAX;

/// Of the host's namespace and devices, which workloads share: the class is the process's or the
/// packet's own.
pub const CLASS_HOST: u32 = u32::MAX - 1;

/// Bits of a `MARKS` entry. Inbound: the socket was accepted, so it may answer whoever came.
pub const MARK_INBOUND: u32 = 1;
/// The socket was connected by an exempt process, so the ledger does not miss it.
pub const MARK_EXEMPT: u32 = 2;

/// Ancestors of a cgroup that the programs look at, counted from the root.
pub const CGROUP_DEPTH_MAX: u32 = 12;

/// An origin that nobody accepted within this time is void, nanoseconds.
pub const FLOW_LIFE_NS: u64 = 8_000_000_000;
