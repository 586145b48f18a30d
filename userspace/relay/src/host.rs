//! What the relay needs from the privileged side of the node.

use std::os::fd::OwnedFd;
use std::pin::Pin;

use weir_govern::CancelKey;
use weir_identify::Secret;
use weir_model::addr::NetnsCookie;
use weir_model::fault::{Fault, FaultKind};
use weir_model::flow::ProcessEvidence;

/// A future that the control runtime can run.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, HostError>> + Send>>;

/// The broker, as seen from here. Implemented over its socket by `enforcer`, by fakes in tests.
pub trait Host: Send + Sync {
    /// An unconnected, non-blocking TCP socket made inside that namespace.
    fn upstream(&self, netns: NetnsCookie, ipv6: bool) -> Answer<OwnedFd>;

    /// The workload's own service-account token.
    fn assertion(&self, workload: &str) -> Answer<Secret>;

    /// Moves a process below the workload's cgroup; returns the id of the cgroup made for it.
    fn enrol(&self, workload: &str, pid: u32) -> Answer<u64>;

    /// Gives a session to the node process that serves now. After an error it is still ours.
    fn hand_over(&self, moving: Moving) -> Answer<()>;

    /// Tells processes that still drain that an agent of this workload cancels what the session
    /// with this key runs: it may be theirs.
    fn pass_cancel(&self, key: &CancelKey, workload: &str);

    /// Evidence on the process behind a flow; fails when it is gone or is another one by now.
    fn process(&self, pid: u32, start_boottime_ns: u64) -> Answer<ProcessEvidence>;
}

/// A session on its way to the next node process.
#[derive(Debug)]
pub struct Moving {
    /// The agent's socket.
    pub client: OwnedFd,
    /// The server's.
    pub server: OwnedFd,
    /// What [`crate::SNAPSHOT_VERSION`] stands for.
    pub snapshot: Vec<u8>,
}

/// The broker could not do it.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("the broker does not answer")]
    Gone,
    #[error("the broker refused: {0}")]
    Refused(String),
}

impl Fault for HostError {
    fn kind(&self) -> FaultKind {
        FaultKind::Kernel
    }
}
