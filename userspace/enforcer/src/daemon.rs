//! The two long-running processes of a node.

mod approvals;
mod arguments;
pub(crate) mod broker;
mod credentials;
mod discovery;
mod follower;
pub(crate) mod host;
pub(crate) mod identities;
mod intake;
mod ledger;
pub(crate) mod node;
mod pods;
pub(crate) mod prepare;
mod pulse;
mod serving;
pub(crate) mod targets;
mod upgrade;
mod witness;

use tracing_subscriber::EnvFilter;

/// Log lines go to standard error; `WEIR_LOG` sets levels (default `info`).
pub(crate) fn start_logging() {
    let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    // A second start within one process (tests) keeps the first subscriber.
    let _already = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}
