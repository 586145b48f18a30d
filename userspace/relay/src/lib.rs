//! Moves bytes between an agent and a server, runs the session in between, keeps the limits.
//!
//! A shell: one task per flow, pinned to one worker thread, with one explicit loop. It writes
//! nothing but [`weir_govern::ServerBytes`] and [`weir_govern::ClientBytes`], and knows a protocol
//! only in [`protocol`], by one registration line each.

#![forbid(unsafe_code)]

mod arrival;
mod asker;
mod attested;
mod bind;
mod catalog;
mod connection;
mod credentials;
mod edge;
mod found;
mod gate;
mod grants;
mod holds;
mod host;
mod killed;
mod metrics;
mod moved;
mod node;
mod outbox;
mod protocol;
mod registry;
mod speaker;
mod stream;
mod subject;
mod upstream;
mod worker;

pub use crate::asker::{Asker, NoAsker};
pub use crate::attested::{PodIdentities, PodIdentity};
pub use crate::credentials::{BackendLogin, BackendUser, Credentials, Rotated};
pub use crate::found::FoundPlaces;
pub use crate::host::{Answer, FlowNote, Host, HostError, Moving, PodAsk};
pub use crate::metrics::Metrics;
pub use crate::moved::{SNAPSHOT_BYTES_MAX, SNAPSHOT_VERSION};
pub use crate::node::{
    Node, NodeParts, Settings, SshSecret, SshTarget, Target, Targets, UpstreamTls, WorkloadBinding,
};
pub use crate::protocol::Protocol;
pub use crate::registry::{FlowRow, KillOutcome, Owner};
pub use crate::speaker::NewSpeaker;
pub use crate::worker::{Intake, WeakIntake, Workers};
