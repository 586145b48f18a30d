//! A flow that just came in: its target found, its socket ready, listed.

use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use weir_accept::Accepted;
use weir_govern::Event;
use weir_model::fact::{Fact, FactContext, FactKind};
use weir_model::flow::FlowOrigin;
use weir_model::ident::SessionId;
use weir_model::time::Now;

use crate::node::{Node, Target};
use crate::protocol::Kind;
use crate::registry::{FlowRow, Owner};
use crate::worker::Pen;
use crate::{bind, connection, edge};

/// Events from other flows, reviewers and administrators that may wait.
pub(crate) const MAILBOX_MAX: usize = 16;

/// What every kind of flow starts with.
pub(crate) struct Arrival {
    pub(crate) node: Arc<Node>,
    pub(crate) pen: Rc<Pen>,
    pub(crate) id: SessionId,
    pub(crate) workload: Arc<str>,
    pub(crate) origin: FlowOrigin,
    pub(crate) target: Arc<Target>,
    pub(crate) base: FactContext,
    /// Taken by whoever reads it.
    pub(crate) stream: Option<TcpStream>,
    pub(crate) mailbox: mpsc::Receiver<Event>,
    pub(crate) mailbox_sender: mpsc::Sender<Event>,
}

/// Serves one accepted flow until it is closed.
pub(crate) async fn serve(node: Arc<Node>, pen: Rc<Pen>, flow: Accepted) {
    let Some(arrival) = arrive(node, pen, flow) else {
        return;
    };
    match arrival.target.protocol.kind() {
        Kind::ByteStream => connection::serve(arrival).await,
        Kind::Http => edge::serve(arrival).await,
        Kind::Ssh => edge::serve_ssh(arrival).await,
    }
}

fn arrive(node: Arc<Node>, pen: Rc<Pen>, flow: Accepted) -> Option<Arrival> {
    let (stream, origin, workload) = flow.into_parts();
    let id = SessionId(uuid::Uuid::now_v7().as_u128());
    let now = weir_clock::now();
    let target = node.targets.find(origin.dst.0).cloned();
    let base = bind::context(&node, id, &workload, &origin, target.as_deref());
    let Some(target) = target else {
        record_refused(
            &pen,
            &base,
            "no_target",
            "no target covers this destination",
            now,
        );
        node.metrics
            .flows_refused
            .with_label_values(&["kernel"])
            .inc();
        return None;
    };
    let stream = match prepare(stream) {
        Ok(stream) => stream,
        Err(error) => {
            record_refused(&pen, &base, "socket", &error.to_string(), now);
            return None;
        }
    };
    let (mailbox_sender, mailbox) = mpsc::channel(MAILBOX_MAX);
    let row = FlowRow {
        session: id,
        workload: Arc::clone(&workload),
        target: Arc::clone(&target.name),
        client_addr: base.client_addr.clone(),
        server_addr: base.server_addr.clone(),
        pid: origin.pid,
        comm: origin.comm.clone(),
        owner: Owner::default(),
        opened_us: now.wall_us,
    };
    node.registry.open(row, mailbox_sender.clone());
    node.metrics.flows_accepted.inc();
    node.metrics.flows_open.inc();
    Some(Arrival {
        node,
        pen,
        id,
        workload,
        origin,
        target,
        base,
        stream: Some(stream),
        mailbox,
        mailbox_sender,
    })
}

fn prepare(stream: std::net::TcpStream) -> std::io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    let stream = TcpStream::from_std(stream)?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Records a flow that never had a session.
pub(crate) fn record_refused(pen: &Pen, base: &FactContext, status: &str, reason: &str, now: Now) {
    let mut fact = Fact::new(Arc::new(base.clone()), FactKind::Error, 1, now.wall_us);
    status.clone_into(&mut fact.status);
    reason.clone_into(&mut fact.reason);
    if let Err(error) = pen.push(std::slice::from_ref(&fact)) {
        tracing::error!(%error, "a refused flow could not be recorded");
    }
}
