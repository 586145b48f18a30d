//! Everything that needs root, behind a small typed protocol; parses nothing that an agent, a
//! server or a policy wrote.
//!
//! Synchronous: one loop over `poll(2)`, and short-lived threads that enter namespaces, make
//! sockets and end.

#![deny(unsafe_code)]

mod cgroup;
pub mod client;
mod config;
mod enrol;
mod evidence;
mod ledger;
mod listeners;
mod message;
mod namespace;
mod nodes;
mod plugins;
mod reset;
mod revoke;
mod serve;
mod tokens;

pub use crate::config::{
    BrokerConfig, BrokerError, CredentialConfig, CredentialSource, Destination, TokenSource,
    WorkloadConfig,
};
pub use crate::message::{
    ClassReport, FlowNote, LedgerClass, LedgerReport, Passed, ProcessReport, RefusalReport,
};
pub use crate::revoke::{Revoked, revoke};
pub use crate::serve::run;
