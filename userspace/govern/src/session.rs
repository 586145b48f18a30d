//! What `relay` and a byte-stream protocol say to each other.
//!
//! A session is sans-IO: inputs are calls with `Now`, everything it wants is an [`Output`].
//! `relay` drains facts and outputs after each input, in this order: facts to the spool, the
//! receipt back in as [`Event::Recorded`], then outputs.

use std::any::Any;
use std::sync::Arc;

use ::bytes::BytesMut;
use weir_decide::{Bound, HoldNeeded};
use weir_model::effect::Effect;
use weir_model::fact::{Fact, FactContext};
use weir_model::ident::ApprovalId;
use weir_model::time::Now;
use weir_spool::Receipt;

use crate::{ClientBytes, Governor, ServerBytes, Verdict};

/// A decoded conversation of a byte-stream protocol.
pub trait Session: Send {
    /// Takes whole frames from the front of `input`; what stays is an incomplete frame, or frames
    /// that have to wait (see [`Session::wants_client`]). Called again with the same buffer.
    fn handle_client(&mut self, input: &mut BytesMut, now: Now);

    /// The same for bytes from the server.
    fn handle_server(&mut self, input: &mut BytesMut, now: Now);

    /// Anything else that happened.
    fn handle(&mut self, event: Event, now: Now);

    /// Moves the facts made since the last call into `sink`. They must be in the spool before
    /// [`Event::Recorded`] is given back.
    fn drain_facts(&mut self, sink: &mut Vec<Fact>);

    /// The next thing to do, in order; `None` when there is nothing until the next input.
    fn poll_output(&mut self) -> Option<Output>;

    /// Monotonic microseconds at which [`Event::Timeout`] is due, and what for.
    fn poll_timeout(&self) -> Option<(u64, &'static str)>;

    /// False while the client must wait (held request, unrecorded request, full buffers). The
    /// relay then stops reading from it, but still notices that it left.
    fn wants_client(&self) -> bool;

    /// False while output to the client is not wanted.
    fn wants_server(&self) -> bool;

    /// The whole conversation for the next node process, in the protocol's own versioned form;
    /// `None` while it cannot move (start-up, a question of our own under way, a hold that is not
    /// stored yet) or never can. Called with facts and outputs drained; changes nothing.
    fn snapshot(&self) -> Option<Snapshot> {
        None
    }

    /// Approvals under which requests run that are not finished.
    fn under(&self) -> Vec<ApprovalId> {
        Vec::new()
    }

    /// Called once, last. Notes the end of the flow through the governor ([`Governor::note`] with
    /// `FactKind::Flow`, status `closed`) and answers true; false when there is no governor yet,
    /// so that `relay` records the flow itself.
    fn finish(&mut self, reason: CloseReason, now: Now) -> bool;
}

/// A session on its way to the next node process.
#[derive(Debug)]
pub struct Snapshot {
    pub bytes: Vec<u8>,
    /// The request that waits for a reviewer, if one does.
    pub held: Option<ApprovalId>,
}

/// Inputs that are not bytes.
pub enum Event {
    /// The client side is encrypted now; asked for by [`Output::UpgradeTls`].
    TlsUp(Side),
    /// Identification succeeded; the governor carries principal, policy and session facts.
    Identified(Box<Governor>),
    /// It failed; the text is fixed and fit for the agent.
    Unidentified {
        code: &'static str,
        text: &'static str,
    },
    /// The upstream flow is open; the credential is used once, for the login.
    Connected(Credential),
    /// It could not be opened; the text is fixed and fit for the agent.
    ConnectFailed { text: &'static str },
    /// All facts drained before this are in the spool.
    Recorded(Receipt),
    /// They are not: refuse what waits for them and close.
    RecordFailed,
    /// A new policy: decide anew from here on.
    Policy(Box<Bound>),
    /// Another process speaks on the client's socket: the record's columns from here on.
    Attributed(Arc<FactContext>),
    /// Answer to [`Output::Catalog`]; the protocol knows the type.
    Catalog(Arc<dyn Any + Send + Sync>),
    /// No catalog could be had; the text is fixed and fit for the agent.
    CatalogFailed { text: &'static str },
    /// The hold has an id that a reviewer can name.
    HoldOpened { seq: u32, approval: ApprovalId },
    /// The hold could not be stored: refuse the request.
    HoldFailed { seq: u32 },
    /// What came of the hold.
    HoldEnded(Verdict),
    /// Nobody has to be asked about this hold: a grant covers it, or it was decided before.
    HoldSettled { seq: u32, verdict: Verdict },
    /// This grant is over: whatever still runs under it ends.
    GrantEnded { approval: ApprovalId },
    /// The agent asked, over another flow, to cancel what this session runs.
    CancelAsked,
    /// The time given by `poll_timeout` has come.
    Timeout,
    /// The client closed its side.
    ClientClosed,
    /// The server closed its side.
    ServerClosed,
    /// A successor serves: move to it as soon as that goes. For `relay`; a session never sees it.
    Move,
    /// An administrator, revocation or shutdown ends the session; text for the agent.
    Kill {
        code: &'static str,
        text: &'static str,
    },
}

/// Which end of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// What the session wants done.
#[derive(Debug)]
pub enum Output {
    ToServer(ServerBytes),
    ToClient(ClientBytes),
    /// Everything before this output has to be written first. Bytes already read past the request
    /// belong to the TLS layer.
    UpgradeTls(Side),
    /// Bind the flow's workload to a principal for this database; answered by `Identified` or
    /// `Unidentified`.
    Identify,
    /// The same for a client that presented a token: its subject and the workload together.
    Present(Presented),
    /// Open the upstream flow; answered by `Connected` or `ConnectFailed`.
    Connect(ConnectRequest),
    /// Read the catalog; answered by `Catalog` or `CatalogFailed`.
    Catalog(CatalogRequest),
    /// Ask a human; answered by `HoldOpened`/`HoldFailed`, then `HoldEnded`.
    Hold(Box<HoldRequest>),
    /// The held request is gone (client left or cancelled).
    AbandonHold(ApprovalId),
    /// From now on this key cancels this session.
    RegisterCancel(CancelKey),
    /// The client of this (short) flow asks to cancel the session with that key.
    AskCancel(CancelKey),
    /// Write these bytes on a new upstream flow of its own, then close it.
    SendCancel(ServerBytes),
    /// Flush what is pending to the client, then close both flows.
    Close(CloseReason),
}

/// What a client gave as its token: unproven, possibly a person's real password. It is validated
/// and wiped; it is never recorded, shown or passed on.
pub struct Presented(zeroize::Zeroizing<String>);

impl Presented {
    #[must_use]
    pub const fn new(text: zeroize::Zeroizing<String>) -> Self {
        Self(text)
    }

    /// For the validator alone.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Presented {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Presented(…)")
    }
}

/// What the upstream login needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectRequest {
    /// Database (or the protocol's equivalent) that the client named.
    pub database: Arc<str>,
}

/// Which catalog is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogRequest {
    pub database: Arc<str>,
    pub needed: CatalogNeeded,
}

/// How new a catalog has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CatalogNeeded {
    /// Not too old.
    Recent,
    /// Read when so many changes of definitions had been seen.
    Since(u64),
    /// Read from now on: the session knows that something changed.
    New,
}

/// A request that waits for a human.
#[derive(Debug)]
pub struct HoldRequest {
    pub seq: u32,
    pub needed: HoldNeeded,
    pub statement: Arc<str>,
    pub parameters: String,
    pub database: Arc<str>,
    /// `effect Kind:id` lines.
    pub accesses: Vec<String>,
    /// Digest of the normalised statement; 0 when the protocol has none.
    pub shape: u64,
    /// The hold keeps locks of an open transaction, so its own, shorter limit applies.
    pub in_transaction: bool,
    /// What it did so far, where that is what is approved.
    pub effect: Option<Effect>,
}

/// The key with which a client cancels a session: what we handed out, never the server's.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CancelKey {
    pub pid: i32,
    /// 4 bytes in protocol 3.0, up to 256 in 3.2.
    pub secret: Box<[u8]>,
}

impl std::fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelKey")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

/// The injected backend credential.
pub struct Credential {
    pub user: String,
    pub password: zeroize::Zeroizing<String>,
    /// The upstream flow is encrypted and the server's certificate was checked.
    pub server_proven: bool,
    /// `tls-server-end-point` of the upstream flow, where the login can be bound to it.
    pub channel_binding: Option<Vec<u8>>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Why a session ends; label and record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The client said good-bye or closed.
    ClientLeft,
    /// The server did.
    ServerLeft,
    /// Bytes that the protocol does not allow.
    Malformed,
    /// Legal bytes at the wrong time.
    Misbehaved,
    Unidentified,
    UpstreamFailed,
    LimitReached,
    RecordFailed,
    TimedOut,
    Killed,
    /// A flow that did its one thing, such as a cancel request.
    Done,
    Internal,
}

impl CloseReason {
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ClientLeft => "client_left",
            Self::ServerLeft => "server_left",
            Self::Malformed => "malformed",
            Self::Misbehaved => "misbehaved",
            Self::Unidentified => "unidentified",
            Self::UpstreamFailed => "upstream_failed",
            Self::LimitReached => "limit_reached",
            Self::RecordFailed => "record_failed",
            Self::TimedOut => "timed_out",
            Self::Killed => "killed",
            Self::Done => "done",
            Self::Internal => "internal",
        }
    }
}
