//! A flow leaves for the next node process, or comes from the one before.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Duration, sleep};
use weir_govern::{Event, Session, Snapshot};
use weir_model::fact::FactContext;
use weir_model::ident::{ApprovalId, SessionId};
use weir_model::time::Now;

use super::jobs::{Done, Jobs};
use super::{Connection, Flushing, START_TIME_MAX};
use crate::arrival::{MAILBOX_MAX, record_refused};
use crate::grants;
use crate::holds::Waiter;
use crate::host::Moving;
use crate::moved::{self, Moved, SavedFlow};
use crate::node::Node;
use crate::registry::{FlowRow, Owner};
use crate::speaker::Speaker;
use crate::stream::Stream;
use crate::subject::Subject;
use crate::worker::Pen;

/// A successor that did not take the flow is asked again after this.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

impl Connection {
    /// Moves to the successor if that is possible now; true when the flow is not ours any more.
    ///
    /// Nothing is read or written from the snapshot on until the answer is here. Where it cannot
    /// move now it is tried again after the next turn.
    pub(super) async fn hand_over(&mut self) -> bool {
        let quiet = self.jobs.is_empty()
            && self.closing.is_none()
            && !self.client_ended
            && !self.server_ended;
        if !quiet {
            return false;
        }
        let plain = |stream: &Stream| matches!(stream, Stream::Plain(_));
        if !plain(&self.client) || !self.server.as_ref().is_some_and(plain) {
            // What is encrypted ends here.
            self.leaving = false;
            return false;
        }
        let Some(snapshot) = self.session.snapshot() else {
            return false;
        };
        let held = snapshot.held;
        if let Some(waiter) = self.waiter.take() {
            waiter.stop().await;
        }
        if let Ok(event) = self.mailbox.try_recv() {
            // The outcome of the hold, perhaps: the session has to hear it first.
            let decided = matches!(event, Event::HoldEnded(_));
            self.session.handle(event, weir_clock::now());
            self.wait_again(held.filter(|_| !decided));
            return false;
        }
        let Some(moving) = self.moving(snapshot) else {
            self.leaving = false;
            self.wait_again(held);
            return false;
        };
        match self.node.host.hand_over(moving).await {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(session = %self.id, %error, "the successor did not take a flow");
                self.leaving = false;
                self.wait_again(held);
                self.jobs.start(async {
                    sleep(AGAIN_AFTER).await;
                    Done::Event(Event::Move)
                });
                false
            }
        }
    }

    /// Goes on waiting for the reviewer. A verdict on what is not held any more is ignored.
    fn wait_again(&mut self, held: Option<ApprovalId>) {
        if let Some(approval) = held {
            let mailbox = self.mailbox_sender.clone();
            self.waiter = Some(Waiter::again(&self.node, (self.id, approval), mailbox));
        }
    }

    /// Everything of the flow, with its facts made durable. `None` when it cannot move at all.
    fn moving(&self, snapshot: Snapshot) -> Option<Moving> {
        let (client, server) = (socket(&self.client)?, socket(self.server.as_ref()?)?);
        if let Err(error) = self.pen.commit(self.id, weir_clock::now()) {
            tracing::error!(%error, session = %self.id, "a flow cannot move: nothing is recorded");
            return None;
        }
        let cancel = self.cancel.clone()?;
        let subject = self.subject.as_ref()?;
        if subject.attested.is_some() {
            // Its token came over TLS, which stays; a snapshot has room for one principal only.
            return None;
        }
        let flow = SavedFlow {
            id: self.id,
            workload: Arc::clone(&self.workload),
            origin: self.origin.clone(),
            target: Arc::clone(&self.target.name),
            principal: Arc::clone(&subject.principal),
            base: self.base.clone(),
            context: Arc::clone(self.context.as_ref()?),
            cancel: (cancel.pid, cancel.secret),
            opened_us: self.opened_us,
            held: snapshot.held,
            session: snapshot.bytes,
            client_in: self.client_in.to_vec(),
            server_in: self.server_in.to_vec(),
            client_out: moved::all(&self.client_out),
            server_out: moved::all(&self.server_out),
        };
        Some(Moving {
            client,
            server,
            snapshot: flow.encode()?,
        })
    }

    /// The flow goes on elsewhere: nothing of it is said or recorded here.
    pub(super) fn left(self) {
        self.node.registry.close(self.id, self.cancel.as_ref());
        self.node.host.flow_moved(self.id);
        self.node
            .metrics
            .flows_moved
            .with_label_values(&["out"])
            .inc();
        self.node.metrics.flows_open.dec();
    }
}

/// A descriptor of its own, of a socket that is not encrypted.
fn socket(stream: &Stream) -> Option<OwnedFd> {
    match stream {
        Stream::Plain(stream) => stream.as_fd().try_clone_to_owned().ok(),
        Stream::Tls(_) | Stream::Gone => None,
    }
}

fn stream(socket: std::net::TcpStream) -> std::io::Result<Stream> {
    socket.set_nonblocking(true)?;
    TcpStream::from_std(socket).map(Stream::Plain)
}

/// Serves a flow of the process before this one until it is closed.
pub(crate) async fn serve_moved(node: Arc<Node>, pen: Rc<Pen>, moved: Moved) {
    let now = weir_clock::now();
    let (id, base) = (moved.flow.id, moved.flow.base.clone());
    match take_up(Arc::clone(&node), Rc::clone(&pen), moved, now) {
        Ok(connection) => connection.run_to_end().await,
        Err(why) => {
            tracing::error!(session = %id, why, "a moved flow is closed");
            // The session's own numbers cannot be gone on with: it is a fact of the node.
            let of_node = FactContext {
                session_id: 0,
                ..base
            };
            let why = format!("session {id}: {why}");
            record_refused(&pen, &of_node, "not_moved", &why, now);
            node.closed(id, None);
        }
    }
}

/// The session noted the move: its receipt covers everything that was recorded before.
fn record_move(
    pen: &Pen,
    session: &mut dyn Session,
    id: SessionId,
    now: Now,
) -> Result<(), String> {
    let mut facts = Vec::new();
    session.drain_facts(&mut facts);
    match pen.push(&facts).and_then(|()| pen.commit(id, now)) {
        Ok(Some(receipt)) => session.handle(Event::Recorded(receipt), now),
        Ok(None) => return Err("its move could not be recorded".to_owned()),
        Err(error) => return Err(error.to_string()),
    }
    Ok(())
}

fn take_up(node: Arc<Node>, pen: Rc<Pen>, moved: Moved, now: Now) -> Result<Connection, String> {
    let (target, mut session) = moved.session(&node, now).map_err(|why| why.to_string())?;
    let Moved {
        flow,
        client,
        server,
        ..
    } = moved;
    let sockets = stream(client).and_then(|client| Ok((client, stream(server)?)));
    let (client, server) = sockets.map_err(|error| error.to_string())?;
    record_move(&pen, &mut *session, flow.id, now)?;
    let (mailbox_sender, mailbox) = mpsc::channel(MAILBOX_MAX);
    let cancel = flow.cancel();
    let row = FlowRow {
        session: flow.id,
        workload: Arc::clone(&flow.workload),
        target: Arc::clone(&target.name),
        client_addr: flow.base.client_addr.clone(),
        server_addr: flow.base.server_addr.clone(),
        pid: flow.origin.pid,
        comm: flow.origin.comm.clone(),
        owner: Owner::default(),
        opened_us: flow.opened_us,
    };
    node.registry.open(row, mailbox_sender.clone());
    node.registry.register_cancel(cancel.clone(), flow.id);
    node.metrics.flows_moved.with_label_values(&["in"]).inc();
    node.metrics.flows_open.inc();
    let waiter = flow
        .held
        .map(|approval| Waiter::again(&node, (flow.id, approval), mailbox_sender.clone()));
    let mut connection = Connection {
        pen,
        id: flow.id,
        workload: flow.workload,
        speaker: Speaker::again(&flow.origin, flow.context.pid),
        origin: flow.origin,
        target,
        base: flow.base,
        session,
        client,
        server: Some(server),
        client_in: moved::buffer(&flow.client_in),
        server_in: moved::buffer(&flow.server_in),
        client_out: moved::outbox(flow.client_out),
        server_out: moved::outbox(flow.server_out),
        flushing: Flushing::default(),
        client_ended: false,
        server_ended: false,
        jobs: Jobs::default(),
        mailbox,
        mailbox_sender,
        facts: Vec::new(),
        timer: Box::pin(sleep(START_TIME_MAX)),
        timer_due_us: None,
        upgrade: false,
        closing: None,
        cancel: Some(cancel),
        context: Some(flow.context),
        subject: None,
        policies: node.policies.clone(),
        binding_due_us: None,
        opened_us: flow.opened_us,
        waiter,
        leaving: false,
        refusal: None,
        node,
    };
    connection.settle_in(Subject::own(flow.principal), now);
    Ok(connection)
}

impl Connection {
    /// Whose it is, and what its requests run under, counts in this process from now on.
    fn settle_in(&mut self, subject: Subject, now: Now) {
        let upstream = self.server.as_ref().and_then(Stream::local_addr);
        self.announce(&subject, upstream);
        self.keep_subject(subject, now);
        for approval in self.session.under() {
            grants::follow(&self.node, self.id, approval);
        }
    }
}
