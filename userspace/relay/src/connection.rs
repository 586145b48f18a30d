//! One flow, from its accepted socket to its last byte: one task, one loop.
//!
//! Each turn: take what came in, let the session act, put its facts into the spool, hand the
//! receipt back, carry out its outputs, and only then wait again. Nothing is written that is not
//! an output of the session.

mod handover;
mod jobs;
mod last_words;
mod turn;

use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Sleep};
use weir_decide::PolicySet;
use weir_govern::{CancelKey, CloseReason, Event, Output, Session, Side};
use weir_model::fact::{Fact, FactContext, FactKind};
use weir_model::flow::FlowOrigin;
use weir_model::ident::SessionId;
use weir_model::time::Now;

use self::jobs::Jobs;
use crate::arrival::{self, Arrival};
use crate::holds::Waiter;
use crate::node::{Node, Target};
use crate::outbox::Outbox;
use crate::speaker::Speaker;
use crate::stream::Stream;
use crate::subject::Subject;
use crate::worker::Pen;

/// A flow that has no session after this is closed (start-up, TLS, sign-in together).
const START_TIME_MAX: Duration = Duration::from_secs(60);
/// TLS handshake with the agent.
const TLS_TIME_MAX: Duration = Duration::from_secs(10);

/// First byte of a TLS record that holds a handshake (RFC 8446, section 5.1).
const TLS_HANDSHAKE: u8 = 22;

/// Sides whose stream has not sent all that it has taken.
#[derive(Default)]
struct Flushing {
    client: bool,
    server: bool,
}

/// Everything of one flow.
struct Connection {
    node: Arc<Node>,
    pen: Rc<Pen>,
    id: SessionId,
    workload: Arc<str>,
    origin: FlowOrigin,
    target: Arc<Target>,
    base: FactContext,
    session: Box<dyn Session>,
    client: Stream,
    server: Option<Stream>,
    client_in: BytesMut,
    server_in: BytesMut,
    client_out: Outbox,
    server_out: Outbox,
    flushing: Flushing,
    client_ended: bool,
    server_ended: bool,
    jobs: Jobs,
    mailbox: mpsc::Receiver<Event>,
    mailbox_sender: mpsc::Sender<Event>,
    facts: Vec<Fact>,
    speaker: Speaker,
    timer: std::pin::Pin<Box<Sleep>>,
    timer_due_us: Option<u64>,
    upgrade: bool,
    closing: Option<CloseReason>,
    cancel: Option<CancelKey>,
    context: Option<Arc<FactContext>>,
    subject: Option<Subject>,
    policies: watch::Receiver<Arc<PolicySet>>,
    binding_due_us: Option<u64>,
    opened_us: i64,
    /// What waits for a reviewer.
    waiter: Option<Waiter>,
    /// There is a successor, and this flow has not moved to it yet.
    leaving: bool,
    /// Why the flow could not be served, for the record.
    refusal: Option<(&'static str, String)>,
}

/// Serves a flow of a byte-stream protocol until it is closed.
pub(crate) async fn serve(arrival: Arrival) {
    let Arrival {
        node,
        pen,
        id,
        workload,
        origin,
        target,
        base,
        stream,
        mailbox,
        mailbox_sender,
    } = arrival;
    let cancel = CancelKey {
        pid: positive(rand::random()),
        secret: random_secret(),
    };
    let Some(session) = target.protocol.session(&node, &target, cancel) else {
        arrival::record_refused(&pen, &base, "internal", "", weir_clock::now());
        node.registry.close(id, None);
        node.metrics.flows_open.dec();
        return;
    };
    let connection = Connection {
        pen,
        id,
        workload,
        speaker: Speaker::new(&origin),
        origin,
        target,
        base,
        session,
        client: stream.map_or(Stream::Gone, Stream::Plain),
        server: None,
        client_in: BytesMut::new(),
        server_in: BytesMut::new(),
        client_out: Outbox::default(),
        server_out: Outbox::default(),
        flushing: Flushing::default(),
        client_ended: false,
        server_ended: false,
        jobs: Jobs::default(),
        mailbox,
        mailbox_sender,
        facts: Vec::new(),
        timer: Box::pin(tokio::time::sleep(START_TIME_MAX)),
        timer_due_us: None,
        upgrade: false,
        closing: None,
        cancel: None,
        context: None,
        subject: None,
        policies: node.policies.clone(),
        binding_due_us: None,
        opened_us: weir_clock::now().wall_us,
        waiter: None,
        leaving: false,
        refusal: None,
        node,
    };
    connection.run_to_end().await;
}

pub(crate) use self::handover::serve_moved;

/// How serving a flow ends.
enum Ended {
    Closed(CloseReason),
    /// It goes on in the next process.
    Moved,
}

/// Process ids are positive in the protocols that show them.
const fn positive(value: i32) -> i32 {
    value & i32::MAX
}

fn random_secret() -> Box<[u8]> {
    // PostgreSQL 3.2 has room for it; older clients get its beginning.
    let secret: [u8; 32] = rand::random();
    Box::new(secret)
}

impl Connection {
    async fn run_to_end(mut self) {
        match self.run().await {
            Ended::Closed(reason) => self.end(reason),
            Ended::Moved => self.left(),
        }
    }

    async fn run(&mut self) -> Ended {
        if let Err(reason) = self.direct_tls().await {
            return Ended::Closed(reason);
        }
        loop {
            if self.settle()
                && let Some(reason) = self.closing
            {
                self.last_words(reason).await;
                return Ended::Closed(reason);
            }
            if self.upgrade {
                if let Err(reason) = self.upgrade_client().await {
                    return Ended::Closed(reason);
                }
                continue;
            }
            if self.leaving && self.hand_over().await {
                return Ended::Moved;
            }
            if let Err(reason) = self.turn().await {
                return Ended::Closed(reason);
            }
        }
    }

    /// Facts to the spool, receipts back, outputs carried out, until the session is quiet.
    /// True when the flow is to be closed.
    fn settle(&mut self) -> bool {
        loop {
            let now = weir_clock::now();
            self.session.drain_facts(&mut self.facts);
            if !self.facts.is_empty() && self.record(now) {
                continue;
            }
            if self.closing.is_some() {
                return true;
            }
            if self.upgrade {
                return false;
            }
            match self.session.poll_output() {
                Some(output) => self.carry_out(output),
                None => {
                    if !self.feed_waiting_client(now) {
                        return false;
                    }
                }
            }
        }
    }

    /// A client's frames may have waited in the buffer for a receipt or a reviewer.
    fn feed_waiting_client(&mut self, now: Now) -> bool {
        if self.client_in.is_empty() || !self.session.wants_client() {
            return false;
        }
        let before = self.client_in.len();
        self.session.handle_client(&mut self.client_in, now);
        self.client_in.len() != before
    }

    /// Puts the drained facts into the spool. True when the session got an answer and has to be
    /// drained again.
    fn record(&mut self, now: Now) -> bool {
        let waited_for = self.facts.iter().any(|fact| match fact.kind {
            FactKind::Request | FactKind::Approval => true,
            FactKind::Flow
            | FactKind::Identity
            | FactKind::Reply
            | FactKind::Error
            | FactKind::Ledger
            | FactKind::Terminal
            // The request that names it is waited for, and comes behind it.
            | FactKind::Value
            | FactKind::Node => false,
        });
        self.node.metrics.facts.inc_by(self.facts.len() as u64);
        let pushed = self.pen.push(&self.facts);
        self.facts.clear();
        let outcome = match pushed {
            Ok(()) if waited_for => self.pen.commit(self.id, now),
            Ok(()) => return false,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(Some(receipt)) => self.session.handle(Event::Recorded(receipt), now),
            Ok(None) => self.session.handle(Event::RecordFailed, now),
            Err(error) => {
                tracing::error!(%error, session = %self.id, "a request could not be recorded");
                self.session.handle(Event::RecordFailed, now);
            }
        }
        true
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::ToServer(bytes) => self.server_out.push(bytes.into_bytes()),
            Output::ToClient(bytes) => self.client_out.push(bytes.into_bytes()),
            Output::UpgradeTls(Side::Client) => self.upgrade = true,
            // The upstream flow is encrypted before the session gets it.
            Output::UpgradeTls(Side::Server) => self.closing = Some(CloseReason::Internal),
            Output::Identify => self.start_identify(None),
            Output::Present(token) => self.start_identify(Some(token)),
            Output::Connect(request) => self.start_connect(&request),
            Output::Catalog(request) => self.start_catalog(request),
            Output::Hold(request) => self.start_hold(*request),
            Output::AbandonHold(approval) => self.abandon_hold(approval),
            Output::RegisterCancel(key) => {
                self.node.registry.register_cancel(key.clone(), self.id);
                self.cancel = Some(key);
            }
            Output::AskCancel(key) => {
                let found = self.node.registry.ask_cancel(&key, &self.workload);
                if !found {
                    self.node.host.pass_cancel(&key, &self.workload);
                }
                tracing::debug!(session = %self.id, found, "cancel asked");
            }
            Output::SendCancel(bytes) => self.send_cancel(bytes),
            Output::Close(reason) => self.closing = Some(reason),
        }
    }

    /// TLS from the first byte, where the protocol would else ask for it in its own stream. A client
    /// that does so names the protocol (ALPN), so that nobody else's TLS is taken for it.
    async fn direct_tls(&mut self) -> Result<(), CloseReason> {
        // A flow that moved here is in the clear, and its client may be silent for hours.
        let moved = self.context.is_some();
        if moved || self.target.tls.is_none() || self.target.protocol.tls_request().is_none() {
            return Ok(());
        }
        let Stream::Plain(plain) = &self.client else {
            return Ok(());
        };
        let mut first = [0];
        match tokio::time::timeout(START_TIME_MAX, plain.peek(&mut first)).await {
            Ok(Ok(_)) if first == [TLS_HANDSHAKE] => {}
            // Anything else, an end too, is for the session to see.
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(_)) => return Err(CloseReason::ClientLeft),
            Err(_elapsed) => return Err(CloseReason::TimedOut),
        }
        self.upgrade_client().await?;
        if self.client.protocol_named() {
            Ok(())
        } else {
            Err(CloseReason::Malformed)
        }
    }

    async fn upgrade_client(&mut self) -> Result<(), CloseReason> {
        self.flush_client().await?;
        self.upgrade = false;
        if !self.client_in.is_empty() {
            // Bytes behind the TLS request were sent before the handshake: an injection
            // (CVE-2021-23222), never plain text of the session.
            return Err(CloseReason::Malformed);
        }
        let Some(acceptor) = self.target.tls.clone() else {
            return Err(CloseReason::Internal);
        };
        let Some(plain) = self.client.take_plain() else {
            return Err(CloseReason::Misbehaved);
        };
        match tokio::time::timeout(TLS_TIME_MAX, acceptor.accept(plain)).await {
            Ok(Ok(stream)) => self.client = Stream::Tls(Box::new(stream.into())),
            Ok(Err(error)) => {
                tracing::info!(%error, session = %self.id, "TLS with the agent failed");
                return Err(CloseReason::Malformed);
            }
            Err(_elapsed) => return Err(CloseReason::TimedOut),
        }
        self.session
            .handle(Event::TlsUp(Side::Client), weir_clock::now());
        Ok(())
    }

    /// Records the end and leaves the registries.
    fn end(&mut self, reason: CloseReason) {
        let now = weir_clock::now();
        if self.session.finish(reason, now) {
            self.session.drain_facts(&mut self.facts);
            if let Err(error) = self.pen.push(&self.facts) {
                tracing::error!(%error, session = %self.id, "the end of a flow is not recorded");
            }
        } else {
            let (code, detail) = self
                .refusal
                .take()
                .unwrap_or((reason.label(), String::new()));
            arrival::record_refused(&self.pen, &self.base, code, &detail, now);
        }
        self.node.closed(self.id, self.cancel.as_ref());
        self.node.metrics.closed(reason);
        self.node.metrics.flows_open.dec();
    }
}
