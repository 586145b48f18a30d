//! Everything that needs root, behind a small typed protocol; parses nothing that an agent, a
//! server, a container runtime or a policy wrote.
//!
//! Synchronous: one loop over `poll(2)`, and short-lived threads that enter namespaces, make
//! sockets and end.

#![deny(unsafe_code)]

mod arrivals;
mod cgroup;
pub mod client;
mod config;
mod destinations;
mod enrol;
mod evidence;
mod layout;
mod ledger;
mod listeners;
mod members;
mod message;
mod namespace;
mod nodes;
mod plugins;
mod pulse;
mod reset;
mod revoke;
mod runtimes;
mod serve;
mod takeover;
mod tokens;
mod watch;

pub use crate::config::{
    BrokerConfig, BrokerError, CredentialConfig, CredentialSource, Destination, Egress, Members,
    TokenSource, WorkloadConfig,
};
pub use crate::message::{
    ClassReport, FlowNote, Found, LedgerClass, LedgerReport, MemberKind, MemberReport, Passed,
    PodToken, ProcessReport, RefusalReport, World,
};
pub use crate::revoke::{Revoked, revoke};
pub use crate::runtimes::RuntimeAsk;
pub use crate::serve::run;
