//! What the console asks the rest of the node, and what it gets.

use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;
use weir_model::ident::{Principal, RevokedKind, SessionId};
use weir_state::Revocation;

/// An answer that takes a while.
pub type Future<T> = Pin<Box<dyn std::future::Future<Output = T> + Send>>;

/// Why an answer cannot be had, in words for whoever looks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Away(pub String);

/// One live flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub session: SessionId,
    pub workload: String,
    pub target: String,
    /// `oid`; empty until it is known.
    pub principal: String,
    pub client_addr: String,
    pub server_addr: String,
    pub pid: u32,
    pub comm: String,
    /// Unix microseconds.
    pub opened_us: i64,
}

/// What recorded sessions are looked for by; every text is a part of what is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Search {
    /// In statements, command lines, principals and addresses, in any case.
    pub text: String,
    /// Exactly.
    pub workload: String,
    /// Exactly.
    pub target: String,
    /// Only sessions in which something was refused or held.
    pub remarkable: bool,
    pub days: u32,
    pub limit: u32,
}

/// A recorded session in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionRow {
    pub session: String,
    pub started: String,
    pub workload: String,
    pub principal: String,
    pub target: String,
    pub protocol: String,
    pub exe: String,
    pub requests: u64,
    pub denied: u64,
    pub held: u64,
    pub rows: u64,
    pub masked: u64,
}

/// Facts of one session in order, each with the columns' names.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    pub facts: Vec<Value>,
    /// There are more behind these.
    pub more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFile {
    pub name: String,
    pub text: String,
}

/// What somebody wants explained.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    pub workload: String,
    pub target: String,
    pub statement: String,
}

/// What policy would say, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    pub text: String,
}

/// The node as the console sees it.
pub trait House: Send + Sync + 'static {
    /// Live flows of this node, oldest first.
    fn flows(&self) -> Vec<Flow>;

    /// Ends what `entry` names and keeps it out; how many live sessions were told. In force before
    /// it is written.
    fn revoke(&self, entry: Revocation) -> Future<Result<usize, Away>>;

    /// Takes an entry back; false when there was none.
    fn lift(&self, kind: RevokedKind, value: String) -> Future<Result<bool, Away>>;

    /// Recorded sessions, newest first.
    fn search(&self, search: Search) -> Future<Result<Vec<SessionRow>, Away>>;

    /// Facts of a session from `from` (its `seq`) on, at most `limit`.
    fn facts(&self, session: SessionId, from: u32, limit: u32) -> Future<Result<Recorded, Away>>;

    /// The recorded terminal that a request opened, as an asciicast.
    fn cast(&self, session: SessionId, seq: u64) -> Future<Result<Option<String>, Away>>;

    /// The policies in force, by file.
    fn policies(&self) -> Result<Vec<PolicyFile>, Away>;

    /// `None` where nothing can be explained.
    fn explain(&self, question: Question) -> Option<Future<Result<Explained, Away>>>;
}

/// A sign-in under way, as the authority's client keeps it.
pub struct Pending {
    /// Where the browser goes.
    pub url: String,
    /// What comes back beside the code.
    pub state: String,
    /// Kept for [`SignIn::redeem`]; nothing of it reaches the browser.
    pub kept: Box<dyn std::any::Any + Send + Sync>,
}

/// Somebody who came back from the authority.
#[derive(Clone, Debug)]
pub struct SignedIn {
    pub principal: Arc<Principal>,
    /// Name to show; nothing is decided by it.
    pub shown: String,
}

/// Sign-in by the browser at the authority.
pub trait SignIn: Send + Sync + 'static {
    /// With `again` credentials are asked for anew.
    fn begin(&self, again: bool) -> Future<Result<Pending, Away>>;

    /// Uses the pending sign-in up. `query` is what the browser came back with.
    fn redeem(
        &self,
        kept: Box<dyn std::any::Any + Send + Sync>,
        query: String,
    ) -> Future<Result<SignedIn, Away>>;
}
