//! The admin interface of a running node: a root-only unix socket for people and scripts, and
//! `/live /ready /metrics` over loopback TCP.
//!
//! A peer in the governed subtree is refused whatever its uid: under `weir run`, or with a host
//! path mounted into a container, an agent may well be uid 0. Approving and denying need a
//! reviewer's own sign-in on top, which this process holds in memory and nowhere else.

pub(crate) mod api;
mod audit;
mod browser;
pub(crate) mod client;
mod grants;
mod peer;
pub(crate) mod revocations;
mod routes;
mod run;
mod server;
mod signin;

pub(crate) use self::peer::PeerRule;
pub(crate) use self::run::Runs;
pub(crate) use self::server::{AdminState, serve_tcp, serve_unix};
pub(crate) use self::signin::SignIns;
