//! SSH: both sides by russh, every channel and every operation decided on its own.
//!
//! Who the agent is comes from the kernel, so any key or password that it offers is accepted and
//! forgotten. What its channels ask for (RFC 4254) becomes requests: a command line, a shell, an
//! operation of the file transfer protocol, a destination. russh's tasks only move packets; what
//! is decided here runs on the flow's own thread, beside its gate.

#![forbid(unsafe_code)]
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "russh's messages, errors and algorithms may grow; what is not known is left alone or refused"
)]
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

mod agent;
mod carry;
mod command;
mod forward;
mod inputs;
mod keys;
mod noted;
mod output;
mod path;
mod question;
mod serve;
mod session;
mod sftp;
mod throttle;
mod upstream;
pub mod vocabulary;

pub use crate::keys::{HostIdentity, KeyError, Login, ServerKeys, new_authority};
pub use crate::question::command_line;
pub use crate::serve::{Connect, Ending, Flow, serve, turn_away};
pub use crate::upstream::Backend;
