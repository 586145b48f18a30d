//! One PostgreSQL conversation, sans-IO: the shared data of all its states and the dispatch.
//!
//! States are named for what they wait for: `expect_startup`, `expect_token`, `expect_login`, `expect_names`,
//! `expect_query`. A frame is held whole until it is decided; what goes to the server is staged
//! until the receipt of its record is here.

use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use weir_decide::Permit;
use weir_govern::{
    CancelKey, ClientBytes, CloseReason, Event, Governor, Output, OwnToClient, OwnToServer,
    ServerBytes, Session, Side, Snapshot,
};
use weir_mask::{MaskKey, Patterns};
use weir_model::fact::{Fact, FactContext, FactKind};
use weir_model::ident::ApprovalId;
use weir_model::time::Now;
use weir_spool::Receipt;

use crate::catalog::{Catalog, Definitions};
use crate::effect::Effect;
use crate::expect_login::Login;
use crate::expect_query::Held;
use crate::objects::{Opened, Prepared};
use crate::pipeline::{Expect, Staged};
use crate::understand::{SqlLimits, Statement};
use crate::wire::backend::{ErrorText, put_error};
use crate::wire::{self, Frame};

/// Messages that may be staged or unanswered before the client has to wait.
const PIPELINE_MAX: usize = 10_000;

/// What a session is made with.
#[derive(Clone)]
pub struct PostgresConfig {
    pub target: Arc<str>,
    /// Answer `SSLRequest` with yes.
    pub tls_offered: bool,
    /// Refuse a session without TLS.
    pub tls_required: bool,
    /// Ask for an access token as the password. Never without TLS, whatever `tls_required` says.
    pub accept_token: bool,
    /// What the client is given to cancel with.
    pub cancel: CancelKey,
    pub mask_key: MaskKey,
    /// For values that policy wants looked through.
    pub patterns: Option<Arc<Patterns>>,
    /// Rows of a reply kept in the record.
    pub rows_head: usize,
    /// Key material of statement shapes.
    pub shape_seed: u64,
    /// Bytes of one message.
    pub message_bytes_max: usize,
    /// Of the target, shared by its sessions.
    pub definitions: Definitions,
    /// Monotonic microseconds, read around each stage of a request; always 0 without.
    pub clock: fn() -> u64,
}

impl Default for PostgresConfig {
    fn default() -> Self {
        Self {
            target: Arc::from(""),
            tls_offered: false,
            tls_required: false,
            accept_token: false,
            cancel: CancelKey {
                pid: 0,
                secret: Box::new([]),
            },
            mask_key: MaskKey::new([0; 32]),
            patterns: None,
            rows_head: 10,
            shape_seed: 0,
            message_bytes_max: 16 << 20,
            definitions: Definitions::default(),
            clock: || 0,
        }
    }
}

/// Where the conversation stands.
pub(crate) enum State {
    /// `SSLRequest`, `CancelRequest` or a start-up message.
    Startup { tls: bool },
    /// TLS with the client is being set up.
    Tls,
    /// The access token that was asked for.
    Token,
    /// Who is this?
    Principal,
    /// The upstream flow is being opened.
    Upstream,
    /// Logging in at the server.
    Login(Box<Login>),
    /// The catalog, for the first time.
    FirstCatalog,
    /// From the process before this one; waits for a catalog. The one it went by had this digest.
    Restored {
        catalog: Option<u64>,
        /// It could not be had, and is asked for again then, monotonic microseconds.
        again_us: Option<u64>,
        failures: u32,
    },
    /// Conversation.
    Query,
    /// Nothing more is taken from either side.
    Closed,
}

/// What `search_path`, role and the kind of transactions are at the server, as far as is known.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Names {
    pub(crate) search_path: Vec<Arc<str>>,
    pub(crate) role: Arc<str>,
    /// They may have changed: ask before the next decision.
    pub(crate) stale: bool,
    /// Transactions begin read-only at the server, by our own word.
    #[serde(default)]
    pub(crate) read_only: bool,
}

/// A PostgreSQL session.
pub struct PostgresSession {
    pub(crate) config: PostgresConfig,
    pub(crate) limits: SqlLimits,
    pub(crate) state: State,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) governor: Option<Box<Governor>>,
    pub(crate) parameters: Vec<(String, String)>,
    pub(crate) database: Arc<str>,
    pub(crate) server_key: Option<(i32, Box<[u8]>)>,
    pub(crate) catalog: Option<Arc<Catalog>>,
    pub(crate) catalog_stale: bool,
    /// What made it stale concerns other sessions: the catalog that they share is read anew.
    pub(crate) catalog_shared: bool,
    /// Definitions that others see are changed in a transaction that ends with this batch, or later.
    pub(crate) redefines: Option<u64>,
    /// The server described another column than the catalog has: it is read anew.
    pub(crate) catalog_doubted: bool,
    /// So many changes had been seen when the catalog was asked for.
    pub(crate) definitions_seen: u64,
    /// The catalog is this session's own: of its open transaction, or with its temporary tables.
    pub(crate) catalog_live: bool,
    /// It was read within the transaction that is open, whose end may undo what it shows.
    pub(crate) catalog_in_transaction: bool,
    /// When the catalog was asked for last, and the time of the input at hand, monotonic microseconds.
    pub(crate) catalog_at_us: u64,
    pub(crate) clock_us: u64,
    /// Policy permits nothing that writes.
    pub(crate) only_reads: bool,
    pub(crate) names: Names,
    /// Last `ReadyForQuery` status: `I`, `T` or `E`.
    pub(crate) transaction: u8,
    pub(crate) prepared: HashMap<String, Arc<Prepared>>,
    /// Portals of the protocol and cursors of SQL.
    pub(crate) open: HashMap<String, Opened>,
    /// Ends of batches (Sync, simple query) sent and answered.
    pub(crate) batches_sent: u64,
    pub(crate) batches_done: u64,
    /// Counts changes of what names mean: `search_path`, role, catalog.
    pub(crate) epoch: u64,
    pub(crate) expected: VecDeque<Expect>,
    pub(crate) staged: VecDeque<Staged>,
    /// An answer is on its way that the next frame has to wait for.
    pub(crate) waiting: bool,
    /// The parked frame waits until everything before it is answered.
    pub(crate) draining: bool,
    /// Messages of the extended protocol are under way that no Sync has ended.
    pub(crate) batch_open: bool,
    /// The open transaction may have changed `search_path` or role, which its end undoes.
    pub(crate) names_touched: bool,
    /// By a message of this batch, or an earlier one.
    pub(crate) names_touched_in: u64,
    /// `search_path` was another one earlier in the open transaction.
    pub(crate) path_moved: bool,
    /// Syncs that a server which waits for COPY data takes no notice of, unless it fails before.
    pub(crate) early_syncs: u32,
    /// Whether policy masks any column of this catalog; `None` until it was looked at.
    pub(crate) masks_here: Option<bool>,
    pub(crate) held: Option<Box<Held>>,
    /// A write that runs, or waits, in a transaction that an approval ends.
    pub(crate) effect: Option<Box<Effect>>,
    /// It has run: what it did is looked at next.
    pub(crate) effect_looks: bool,
    /// After a refusal in the extended protocol, until the client's `Sync`.
    pub(crate) skipping: bool,
    /// The frame at the front waits until the server has answered everything.
    pub(crate) waits_idle: bool,
    /// The frame at the front is data for a COPY that the server has not asked them for yet.
    pub(crate) waits_copy: bool,
    /// Texts understood with the present catalog and names; an ORM sends the same ones again.
    pub(crate) understood: HashMap<Box<str>, Vec<Arc<Statement>>>,
    /// This text was not understood, and is tried again with a catalog that was read for it.
    pub(crate) retried_text: Option<Box<str>>,
    /// COPY FROM STDIN is under way, under this permit.
    pub(crate) copying_in: bool,
    pub(crate) copy_permit: Option<Arc<Permit>>,
    /// A result was cut off in this batch.
    pub(crate) fail_transaction: bool,
    /// Something ran in the open transaction beside what began it: it may keep locks.
    pub(crate) worked: bool,
    /// Code that is not seen here ran in the open transaction.
    pub(crate) unseen_in_transaction: bool,
    /// The cursor of somebody else that was asked about last, when it cannot be read.
    pub(crate) cursor_refused: Option<(String, Bytes)>,
    /// The newest receipt: what it covers needs no other.
    pub(crate) receipt: Option<Receipt>,
    /// A message that waits for catalog or names.
    pub(crate) parked: Option<Frame>,
    /// Parameter statuses of the login, for the greeting.
    pub(crate) greeting: Vec<(String, String)>,
    /// What the server said to the client's own names while it logged us in.
    pub(crate) greeting_notices: Vec<Bytes>,
    pub(crate) client_out: BytesMut,
    pub(crate) server_out: BytesMut,
    /// When the server was wanted, monotonic microseconds.
    pub(crate) wanted_us: u64,
    /// Since when rows of the reply at the front are masked, by the configuration's clock.
    pub(crate) masks_since_us: Option<u64>,
}

impl PostgresSession {
    #[must_use]
    pub fn new(config: PostgresConfig) -> Self {
        let mut shape_key = [0; 32];
        for (to, from) in shape_key.iter_mut().zip(config.shape_seed.to_le_bytes()) {
            *to = from;
        }
        let limits = SqlLimits {
            text_bytes_max: config.message_bytes_max,
            shape_key,
            ..SqlLimits::default()
        };
        Self {
            config,
            limits,
            state: State::Startup { tls: false },
            outputs: VecDeque::new(),
            governor: None,
            parameters: Vec::new(),
            database: Arc::from(""),
            server_key: None,
            catalog: None,
            catalog_stale: false,
            catalog_shared: false,
            redefines: None,
            catalog_doubted: false,
            definitions_seen: 0,
            catalog_live: false,
            catalog_in_transaction: false,
            catalog_at_us: 0,
            clock_us: 0,
            only_reads: false,
            names: Names::default(),
            transaction: b'I',
            prepared: HashMap::new(),
            open: HashMap::new(),
            batches_sent: 0,
            batches_done: 0,
            epoch: 0,
            expected: VecDeque::new(),
            staged: VecDeque::new(),
            waiting: false,
            draining: false,
            batch_open: false,
            names_touched: false,
            names_touched_in: 0,
            path_moved: false,
            early_syncs: 0,
            masks_here: None,
            held: None,
            effect: None,
            effect_looks: false,
            skipping: false,
            waits_idle: false,
            waits_copy: false,
            understood: HashMap::new(),
            retried_text: None,
            copying_in: false,
            copy_permit: None,
            fail_transaction: false,
            worked: false,
            unseen_in_transaction: false,
            cursor_refused: None,
            receipt: None,
            parked: None,
            greeting: Vec::new(),
            greeting_notices: Vec::new(),
            client_out: BytesMut::new(),
            server_out: BytesMut::new(),
            wanted_us: 0,
            masks_since_us: None,
        }
    }

    /// Everything sent so far was answered and nothing waits.
    pub(crate) fn idle(&self) -> bool {
        self.expected.is_empty() && self.staged.is_empty()
    }

    pub(crate) fn tell_client(&mut self, kind: OwnToClient, put: impl FnOnce(&mut BytesMut)) {
        let mut out = std::mem::take(&mut self.client_out);
        put(&mut out);
        let bytes = out.split().freeze();
        self.client_out = out;
        self.outputs
            .push_back(Output::ToClient(ClientBytes::own(kind, bytes)));
    }

    pub(crate) fn own_to_server(&mut self, kind: OwnToServer, put: impl FnOnce(&mut BytesMut)) {
        let mut out = std::mem::take(&mut self.server_out);
        put(&mut out);
        let bytes = out.split().freeze();
        self.server_out = out;
        self.outputs
            .push_back(Output::ToServer(ServerBytes::own(kind, bytes)));
    }

    pub(crate) fn pass_to_client(&mut self, kind: OwnToClient, bytes: Bytes) {
        self.outputs
            .push_back(Output::ToClient(ClientBytes::own(kind, bytes)));
    }

    /// A last error for the client, then the end.
    pub(crate) fn fatal(&mut self, code: &str, text: &str, reason: CloseReason) {
        if matches!(self.state, State::Closed) {
            return;
        }
        let error = ErrorText {
            severity: "FATAL",
            code,
            message: text,
            ..ErrorText::default()
        };
        self.tell_client(OwnToClient::Denial, |out| put_error(out, &error));
        self.close(reason);
    }

    pub(crate) fn close(&mut self, reason: CloseReason) {
        if matches!(self.state, State::Closed) {
            return;
        }
        if let Some(held) = self.held.take()
            && let Some(approval) = held.approval
        {
            self.outputs.push_back(Output::AbandonHold(approval));
        }
        self.staged.clear();
        self.state = State::Closed;
        self.outputs.push_back(Output::Close(reason));
    }

    /// Client bytes that are no message.
    pub(crate) fn malformed(&mut self, error: wire::WireError, now: Now) {
        let (code, text) = match error {
            wire::WireError::TooLarge => (
                "54000",
                "weir: the message is larger than this gateway takes",
            ),
            wire::WireError::NotUtf8 => ("22021", "weir: the message is not UTF-8"),
            wire::WireError::Short
            | wire::WireError::Trailing
            | wire::WireError::Length
            | wire::WireError::Unknown(_) => ("08P01", "weir: the message cannot be decoded"),
        };
        if let Some(governor) = &mut self.governor {
            let rule = if error == wire::WireError::TooLarge {
                "weir:too-large"
            } else {
                "weir:malformed"
            };
            let _recorded = governor.refuse(rule, text, Arc::from(""), now);
        }
        let reason = if error == wire::WireError::TooLarge {
            CloseReason::LimitReached
        } else {
            CloseReason::Malformed
        };
        self.fatal(code, text, reason);
    }

    fn recorded(&mut self, receipt: &Receipt, now: Now) {
        self.receipt = Some(*receipt);
        self.release(receipt);
        self.drained(now);
    }
}

impl Session for PostgresSession {
    fn handle_client(&mut self, input: &mut BytesMut, now: Now) {
        self.clock_us = now.mono_us;
        loop {
            let before = input.len();
            match &self.state {
                State::Startup { .. } => self.startup(input, now),
                State::Token => self.token_frame(input),
                State::Query => {
                    if !self.wants_client() {
                        return;
                    }
                    self.client_frame(input, now);
                }
                State::Closed => input.clear(),
                State::Tls
                | State::Principal
                | State::Upstream
                | State::Login(_)
                | State::FirstCatalog
                | State::Restored { .. } => return,
            }
            if input.len() == before || input.is_empty() {
                return;
            }
        }
    }

    fn handle_server(&mut self, input: &mut BytesMut, now: Now) {
        self.clock_us = now.mono_us;
        match &self.state {
            State::Login(_) => self.login_frames(input, now),
            State::FirstCatalog | State::Query => {
                let mark = self.keeps_back().then_some(self.outputs.len());
                self.server_frames(input, now);
                if let Some(mark) = mark {
                    self.keep_back(mark);
                    self.look_at_effect(now);
                }
            }
            State::Restored { .. } => {}
            State::Closed => input.clear(),
            State::Startup { .. }
            | State::Tls
            | State::Token
            | State::Principal
            | State::Upstream => {
                input.clear();
                let text = "weir: the server spoke before it was asked";
                self.fatal("08P01", text, CloseReason::UpstreamFailed);
            }
        }
    }

    fn handle(&mut self, event: Event, now: Now) {
        self.clock_us = now.mono_us;
        match event {
            Event::TlsUp(Side::Client) => self.state = State::Startup { tls: true },
            Event::TlsUp(Side::Server) => {}
            Event::Identified(governor) => self.identified(governor, now),
            Event::Unidentified { code: _, text } => {
                self.fatal("28000", text, CloseReason::Unidentified);
            }
            Event::Connected(credential) => self.connected(credential),
            Event::ConnectFailed { text } => {
                self.fatal("08006", text, CloseReason::UpstreamFailed);
            }
            Event::Recorded(receipt) => self.recorded(&receipt, now),
            Event::RecordFailed => {
                let text = "weir: the request could not be recorded, so it was not forwarded";
                self.fatal("53100", text, CloseReason::RecordFailed);
            }
            Event::Policy(bound) => {
                self.masks_here = None;
                if let Some(governor) = &mut self.governor {
                    governor.rebind(bound);
                }
                self.note_policy();
            }
            Event::Attributed(context) => {
                if let Some(governor) = &mut self.governor {
                    governor.attribute(FactContext::clone(&context), now);
                }
            }
            Event::Catalog(answer) => self.catalog_here(answer, now),
            Event::CatalogFailed { text } => self.catalog_failed(text, now),
            Event::HoldOpened { seq, approval } => self.hold_opened(seq, approval),
            Event::HoldFailed { seq } => self.hold_failed(seq, now),
            Event::HoldEnded(verdict) => self.hold_ended(&verdict, now),
            Event::HoldSettled { seq, verdict } => self.hold_settled(seq, &verdict, now),
            Event::GrantEnded { approval } => self.grant_ended(approval),
            Event::CancelAsked => self.cancel_asked(now),
            Event::Timeout => {
                self.ask_catalog_again();
                self.time_is_up(now);
            }
            Event::Move => {}
            Event::ClientClosed => {
                if self.server_key.is_some() && !matches!(self.state, State::Closed) {
                    self.own_to_server(OwnToServer::Terminate, |out| {
                        wire::message(out, b'X', |_| {});
                    });
                }
                self.close(CloseReason::ClientLeft);
            }
            Event::ServerClosed => {
                let text = "weir: the protected server closed the connection";
                self.fatal("08006", text, CloseReason::ServerLeft);
            }
            Event::Kill { code, text } => self.fatal(code, text, CloseReason::Killed),
        }
    }

    fn drain_facts(&mut self, sink: &mut Vec<Fact>) {
        if let Some(governor) = &mut self.governor {
            governor.drain_facts(sink);
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<(u64, &'static str)> {
        match &self.state {
            State::Restored { again_us, .. } => again_us.map(|due_us| (due_us, "catalog")),
            State::Query => {
                let due_us = self.governor.as_ref()?.time_is_up_us()?;
                Some((due_us, "budget"))
            }
            State::Startup { .. }
            | State::Tls
            | State::Token
            | State::Principal
            | State::Upstream
            | State::Login(_)
            | State::FirstCatalog
            | State::Closed => None,
        }
    }

    fn wants_client(&self) -> bool {
        match &self.state {
            State::Startup { .. } | State::Token => true,
            State::Query => {
                !self.waiting
                    && self.held.is_none()
                    && (!self.waits_idle || self.idle())
                    && (!self.waits_copy || !self.copy_is_ahead())
                    && self.expected.len() + self.staged.len() < PIPELINE_MAX
            }
            State::Tls
            | State::Principal
            | State::Upstream
            | State::Login(_)
            | State::FirstCatalog
            | State::Restored { .. }
            | State::Closed => false,
        }
    }

    fn wants_server(&self) -> bool {
        !matches!(self.state, State::Restored { .. })
    }

    fn snapshot(&self) -> Option<Snapshot> {
        self.save()
    }

    fn under(&self) -> Vec<ApprovalId> {
        let governor = self.governor.as_ref();
        governor.map_or_else(Vec::new, |governor| governor.under().collect())
    }

    fn finish(&mut self, reason: CloseReason, now: Now) -> bool {
        // What it was about to change may be done all the same.
        if self.redefines.take().is_some() {
            self.config.definitions.changed();
        }
        let Some(governor) = &mut self.governor else {
            return false;
        };
        let open: Vec<u32> = governor.unanswered().collect();
        for seq in open {
            let reply = weir_govern::Reply {
                status: "unanswered".to_owned(),
                ..Default::default()
            };
            governor.complete(seq, reply, now);
        }
        governor.note(FactKind::Flow, "closed", reason.label(), now);
        true
    }
}
