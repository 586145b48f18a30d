//! What the relay needs from the privileged side of the node.

use std::os::fd::OwnedFd;
use std::pin::Pin;

use weir_identify::Secret;
use weir_model::addr::{NetnsCookie, SocketCookie};
use weir_model::fault::{Fault, FaultKind};
use weir_model::flow::{ProcessAsk, ProcessEvidence};

use crate::speaker::NewSpeaker;

/// A future that the control runtime can run.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, HostError>> + Send>>;

/// The broker, as seen from here. Implemented over its socket by `enforcer`, by fakes in tests.
pub trait Host: Send + Sync {
    /// An unconnected, non-blocking TCP socket made inside that namespace.
    fn upstream(&self, netns: NetnsCookie, ipv6: bool) -> Answer<OwnedFd>;

    /// The workload's own service-account token.
    fn assertion(&self, workload: &str) -> Answer<Secret>;

    /// Who sent last on a client's socket, when that is another process than the one that
    /// connected; `None` also where the kernel does not say.
    fn speaker(&self, socket: SocketCookie) -> Option<NewSpeaker>;

    /// Evidence on the process behind a flow; fails when it is gone or is another one by now.
    fn process(&self, ask: ProcessAsk) -> Answer<ProcessEvidence>;
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
