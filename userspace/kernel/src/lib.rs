//! Every BPF object of Weir: load, attach, pin, take over, read, remove.
//!
//! Names of programs and maps do not leave this crate.

#![deny(unsafe_code)]

mod btf;
mod clsact;
mod heartbeat;
mod lineage;
mod object;
mod origins;
mod places;
mod probe;
mod sys;
mod system;
mod times;

/// Names the pin directory.
pub use weir_abi::ABI_VERSION;

pub use crate::heartbeat::{Heartbeat, OwnHeartbeat};
pub use crate::lineage::{Lineage, LineageLoss, ProcessId, ProcessRecord, Speakers};
pub use crate::origins::Origins;
pub use crate::probe::{Probe, probe};
pub use crate::sys::{accept_queue, netns_cookie};
pub use crate::system::{
    ClassCounts, ClassId, KernelError, ListenerEntry, Refusal, Root, System, uninstall,
};
pub use crate::times::{Measuring, ProgramTime, measure, program_times};
