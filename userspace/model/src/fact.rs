//! A fact: one recorded event, in exactly the shape of a row of `weir.fact`.
//!
//! Everything that is the same for a whole session sits in [`FactContext`], shared by its facts.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i8)]
pub enum FactKind {
    Flow = 1,
    Identity = 2,
    Request = 3,
    Reply = 4,
    Approval = 5,
    Error = 6,
    Ledger = 7,
    Node = 8,
    /// A piece of a recorded terminal; `reply_to` names the request that opened it.
    Terminal = 9,
    /// A piece of a text that is too large for the fact that names it: the same column of it.
    Value = 10,
}

/// What policy, or a human, said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(i8)]
pub enum DecisionKind {
    #[default]
    None = 0,
    Allow = 1,
    Deny = 2,
    Hold = 3,
    Approved = 4,
    Rejected = 5,
    Expired = 6,
    Observe = 7,
}

/// The columns that do not change within a session (or within the node's own facts).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactContext {
    /// 0 for facts of the node itself.
    pub session_id: u128,
    pub cluster: String,
    pub node: String,
    /// Configured name of the workload.
    pub workload: String,
    /// Agent name as configured or signed in; often equal to the workload.
    pub agent: String,
    pub target: String,
    /// `postgres`, …
    pub protocol: String,
    /// Entra tenant GUID.
    pub tenant: String,
    /// `oid`.
    pub principal: String,
    /// `azp`.
    pub application: String,
    pub on_behalf_of: String,
    pub groups: Vec<String>,
    pub roles: Vec<String>,
    /// `uti`.
    pub token_id: String,
    /// `federated`, `person`, empty before identification.
    pub evidence: String,
    pub uid: u32,
    pub pid: u32,
    pub ppid: u32,
    pub comm: String,
    pub exe: String,
    /// `device:inode`.
    pub exe_id: String,
    /// SHA-256 of the executable, lower-case hexadecimal; empty when it could not be read.
    pub exe_sha256: String,
    /// JSON array.
    pub argv: String,
    /// Nearest first, `pid exe`.
    pub parents: Vec<String>,
    pub cgroup_id: u64,
    pub cgroup_path: String,
    /// Container id and pod uid, where the cgroup's name says them.
    pub container: String,
    pub pod: String,
    /// Where the process is known from: `kernel`, `seed`, `proc`; empty when it is not.
    pub lineage: String,
    pub netns_inode: u64,
    /// `address:port` of the agent's end.
    pub client_addr: String,
    /// `address:port` the agent asked for.
    pub server_addr: String,
    pub policy_version: u32,
}

/// One event. Everything not set stays at its zero value.
#[derive(Clone, Debug)]
pub struct Fact {
    pub context: Arc<FactContext>,
    pub kind: FactKind,
    /// Microseconds since the Unix epoch, UTC (the column keeps milliseconds).
    pub event_time_us: i64,
    /// Position within the session, from 1, without gaps.
    pub seq: u32,
    /// `seq` of the request that this reply, approval or error belongs to; 0 for none.
    pub reply_to: u32,
    pub statement: Arc<str>,
    /// JSON array text.
    pub parameters: String,
    pub shape: u64,
    /// Actions, such as `select`.
    pub effects: Arc<[String]>,
    /// `Kind:id`, such as `Table:demo/shop/public/customers`.
    pub objects: Arc<[String]>,
    pub decision: DecisionKind,
    /// Deciding policy id, or the fixed name of a rule of Weir's own (`weir:…`).
    pub rule: Arc<str>,
    pub reason: String,
    pub approval_id: u128,
    pub approver: String,
    pub held_ms: u32,
    /// From the request's arrival to the end of its reply.
    pub duration_us: u64,
    /// Of that, until the server's first byte.
    pub server_us: u64,
    /// Of an identity: the sign-in, and evidence on the process.
    pub identify_us: u32,
    /// Of a session's first request: from wanting the server until it had taken the credential.
    pub credential_us: u32,
    /// Of a request: understanding it. What is known from before takes nothing.
    pub decode_us: u32,
    /// Of a request: the decision.
    pub decide_us: u32,
    /// Of a reply: masking its values. Rows that pass as they are take nothing.
    pub mask_us: u32,
    pub rows: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// What is recorded of the masked reply, as JSON lines where it has rows: its head, and what policy asks for.
    pub response_masked: String,
    /// The text above is not the whole reply.
    pub truncated: bool,
    /// The first 16 bytes of the SHA-256 of what the agent was sent, most significant first; 0 when it was sent
    /// nothing, or when the session moved to another process meanwhile.
    pub reply_digest: u128,
    pub masked_values: u64,
    /// `object: kind` of each mask that was applied.
    pub mask_rules: Arc<[String]>,
    /// `ok`, or the protocol's error code.
    pub status: String,
    pub labels: Vec<(String, String)>,
}

impl Fact {
    /// A fact with everything but its place in time at zero.
    #[must_use]
    pub fn new(context: Arc<FactContext>, kind: FactKind, seq: u32, event_time_us: i64) -> Self {
        Self {
            context,
            kind,
            event_time_us,
            seq,
            reply_to: 0,
            statement: Arc::from(""),
            parameters: String::new(),
            shape: 0,
            effects: Arc::default(),
            objects: Arc::default(),
            decision: DecisionKind::None,
            rule: Arc::from(""),
            reason: String::new(),
            approval_id: 0,
            approver: String::new(),
            held_ms: 0,
            duration_us: 0,
            server_us: 0,
            identify_us: 0,
            credential_us: 0,
            decode_us: 0,
            decide_us: 0,
            mask_us: 0,
            rows: 0,
            bytes_in: 0,
            bytes_out: 0,
            response_masked: String::new(),
            truncated: false,
            reply_digest: 0,
            masked_values: 0,
            mask_rules: Arc::default(),
            status: String::new(),
            labels: Vec::new(),
        }
    }
}
