//! What the relay needs from the privileged side of the node.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;

use weir_govern::CancelKey;
use weir_identify::Secret;
use weir_model::addr::{CgroupId, NetnsCookie, SocketCookie};
use weir_model::fault::{Fault, FaultKind};
use weir_model::flow::{ProcessAsk, ProcessEvidence};
use weir_model::ident::SessionId;

use crate::speaker::NewSpeaker;

/// A future that the control runtime can run.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, HostError>> + Send>>;

/// The broker, as seen from here. Implemented over its socket by `enforcer`, by fakes in tests.
pub trait Host: Send + Sync {
    /// An unconnected, non-blocking TCP socket made inside that namespace.
    fn upstream(&self, netns: NetnsCookie, ipv6: bool) -> Answer<OwnedFd>;

    /// The service-account token of the workload, or of that pod of it.
    fn assertion(&self, workload: &str, pod: Option<PodAsk>) -> Answer<Secret>;

    /// The pod, by its uid, that a cgroup belongs to; `None` when it is nobody's that was told of.
    fn pod(&self, cgroup: CgroupId) -> Answer<Option<String>>;

    /// Moves a process below the workload's cgroup; returns the id of the cgroup made for it.
    fn enrol(&self, workload: &str, pid: u32) -> Answer<u64>;

    /// Who sent last on a client's socket, when that is another process than the one that
    /// connected; `None` also where the kernel does not say.
    fn speaker(&self, socket: SocketCookie) -> Option<NewSpeaker>;

    /// Gives a session to the node process that serves now. After an error it is still ours.
    fn hand_over(&self, moving: Moving) -> Answer<()>;

    /// A flow is served, or its server is reached: the privileged side can reset it from now on.
    fn flow_opened(&self, note: FlowNote);

    fn flow_closed(&self, session: SessionId);

    /// A flow is the next process' now, which tells of it from here on.
    fn flow_moved(&self, session: SessionId);

    /// Tells processes that still drain that an agent of this workload cancels what the session
    /// with this key runs: it may be theirs.
    fn pass_cancel(&self, key: &CancelKey, workload: &str);

    /// Evidence on the process behind a flow; fails when it is gone or is another one by now.
    fn process(&self, ask: ProcessAsk) -> Answer<ProcessEvidence>;
}

/// Whose token, and where it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodAsk {
    pub uid: String,
    /// Projected volume and the path below it, where the kubelet keeps it.
    pub volume: Option<(String, String)>,
}

/// By what a flow's connections are found when they have to end.
#[derive(Clone, Debug)]
pub struct FlowNote {
    pub session: SessionId,
    pub netns: NetnsCookie,
    pub client: SocketAddr,
    /// Our end towards the server, once there is one.
    pub upstream: Option<SocketAddr>,
    pub workload: Arc<str>,
    pub principal: Arc<str>,
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
