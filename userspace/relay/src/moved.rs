//! Sessions that move from one node process to the next: what is said of a flow beside its
//! conversation.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use weir_decide::{Bound, Inherited};
use weir_govern::{CancelKey, Session};
use weir_model::fact::FactContext;
use weir_model::flow::FlowOrigin;
use weir_model::ident::{ApprovalId, Principal, SessionId};
use weir_model::time::Now;

use crate::host::Moving;
use crate::node::{Node, Target};
use crate::outbox::Outbox;
use crate::protocol::Protocol;
use crate::subject::Subject;

/// Of this form; the conversation inside has a version of its own.
const FLOW_VERSION: u32 = 2;

/// Both versions: a session moves only to a process with the same number.
pub const SNAPSHOT_VERSION: u32 = FLOW_VERSION * 1000 + Protocol::SNAPSHOTS;

/// Bytes of a snapshot; a session with more stays where it is until it ends.
pub const SNAPSHOT_BYTES_MAX: usize = 32 << 20;

/// A flow as it moves.
#[derive(Serialize, Deserialize)]
pub(crate) struct SavedFlow {
    pub(crate) id: SessionId,
    pub(crate) workload: Arc<str>,
    pub(crate) origin: FlowOrigin,
    pub(crate) target: Arc<str>,
    pub(crate) principal: Arc<Principal>,
    /// As recorded, before and after identification.
    pub(crate) base: FactContext,
    pub(crate) context: Arc<FactContext>,
    pub(crate) cancel: (i32, Box<[u8]>),
    pub(crate) opened_us: i64,
    pub(crate) held: Option<ApprovalId>,
    pub(crate) session: Vec<u8>,
    /// Read and not taken yet.
    pub(crate) client_in: Vec<u8>,
    pub(crate) server_in: Vec<u8>,
    /// Permitted, and not written yet.
    pub(crate) client_out: Vec<u8>,
    pub(crate) server_out: Vec<u8>,
}

/// A flow that has arrived, with the witness that it may be taken up.
pub(crate) struct Moved {
    pub(crate) flow: SavedFlow,
    pub(crate) client: std::net::TcpStream,
    pub(crate) server: std::net::TcpStream,
    witness: Inherited,
}

/// Why a session could not be taken up; its sockets are closed by that.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    #[error("its snapshot cannot be decoded: {0}")]
    Undecodable(#[from] rmp_serde::decode::Error),
    #[error("its target is not configured any more")]
    NoTarget,
    #[error("its workload is not configured any more")]
    NoWorkload,
    #[error("{0}")]
    Session(String),
}

impl SavedFlow {
    /// `None` when it is too large to move.
    pub(crate) fn encode(&self) -> Option<Vec<u8>> {
        let bytes = rmp_serde::to_vec_named(self).ok()?;
        (bytes.len() <= SNAPSHOT_BYTES_MAX).then_some(bytes)
    }

    pub(crate) fn cancel(&self) -> CancelKey {
        let (pid, secret) = self.cancel.clone();
        CancelKey { pid, secret }
    }
}

impl Moved {
    /// Of what the broker passed from the predecessor.
    pub(crate) fn decode(moving: Moving) -> Result<Self, NotTaken> {
        Ok(Self {
            flow: rmp_serde::from_slice(&moving.snapshot)?,
            client: moving.client.into(),
            server: moving.server.into(),
            witness: Inherited::from_predecessor(),
        })
    }

    /// Its target, and its conversation under the policy of this process.
    pub(crate) fn session(
        &self,
        node: &Node,
        now: Now,
    ) -> Result<(Arc<Target>, Box<dyn Session>), NotTaken> {
        let flow = &self.flow;
        let target = node
            .targets
            .by_name(&flow.target)
            .ok_or(NotTaken::NoTarget)?;
        if !node.workloads.contains_key(&flow.workload) {
            return Err(NotTaken::NoWorkload);
        }
        let policies = Arc::clone(&node.policies.borrow());
        let bound: Box<Bound> =
            Box::new(Subject::own(Arc::clone(&flow.principal)).bind(&policies, target));
        let inherited = (&self.witness, now);
        let session = target
            .protocol
            .restored(
                (node, target),
                (flow.cancel(), &flow.session),
                bound,
                inherited,
            )
            .map_err(NotTaken::Session)?;
        Ok((Arc::clone(target), session))
    }
}

/// What waits in it, as one piece.
pub(crate) fn all(outbox: &Outbox) -> Vec<u8> {
    outbox
        .parts()
        .flat_map(|part| part.chunk().to_vec())
        .collect()
}

pub(crate) fn outbox(bytes: Vec<u8>) -> Outbox {
    let mut outbox = Outbox::default();
    outbox.push(Bytes::from(bytes));
    outbox
}

pub(crate) fn buffer(bytes: &[u8]) -> BytesMut {
    BytesMut::from(bytes)
}
