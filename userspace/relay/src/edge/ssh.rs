//! Flows of SSH: sign-in first, then russh on both sides.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use weir_govern::{CloseReason, Event, Governor};
use weir_model::addr::NetnsCookie;
use weir_ssh::{Connect, Ending, Flow};

use super::{NoSession, Renewal, due, identify};
use crate::arrival::{self, Arrival};
use crate::bind;
use crate::gate::FlowGate;
use crate::node::{Node, SshTarget};
use crate::subject::Subject;
use crate::upstream;

/// Opens the flow's connection from the workload's own namespace.
struct TargetConnect {
    node: Arc<Node>,
    netns: NetnsCookie,
    server: SocketAddr,
}

impl Connect for TargetConnect {
    type Io = TcpStream;

    async fn connect(&self) -> Result<TcpStream, String> {
        upstream::tcp(&self.node, self.netns, self.server).await
    }
}

/// Serves a flow of SSH until it is closed.
pub(crate) async fn serve(mut arrival: Arrival) {
    let node = Arc::clone(&arrival.node);
    let id = arrival.id;
    let reason = match (arrival.stream.take(), arrival.target.ssh.clone()) {
        (Some(stream), Some(target)) => match identify(&arrival).await {
            Ok(bound) => {
                let now = weir_clock::now();
                let mut governor =
                    bind::governor(&node, &arrival.target, &arrival.base, &bound, now);
                governor.say_refused_as("denied");
                let of = (&arrival.origin, &arrival.workload);
                node.identified(id, of, &bound.subject, None);
                run(&mut arrival, stream, target, governor, bound.subject).await
            }
            Err(none) => turn_away(&arrival, stream, &target, none).await,
        },
        (_, _) => CloseReason::Internal,
    };
    node.closed(id, None);
    node.metrics.closed(reason);
    node.metrics.flows_open.dec();
}

async fn run(
    arrival: &mut Arrival,
    stream: TcpStream,
    target: SshTarget,
    governor: Governor,
    subject: Subject,
) -> CloseReason {
    let renewal = Renewal {
        node: Arc::clone(&arrival.node),
        workload: Arc::clone(&arrival.workload),
        cgroup: arrival.origin.cgroup.0,
        due: due(
            &arrival.node,
            (&arrival.workload, arrival.origin.cgroup.0),
            &subject,
        ),
    };
    let gate = FlowGate::new(
        Arc::clone(&arrival.node),
        Rc::clone(&arrival.pen),
        Arc::clone(&arrival.target),
        (subject, &arrival.workload, &arrival.origin),
        governor,
    );
    let connect = TargetConnect {
        node: Arc::clone(&arrival.node),
        netns: arrival.origin.netns,
        server: arrival.origin.dst.0,
    };
    let name = Arc::clone(&arrival.target.name);
    let patterns = arrival.node.patterns.clone();
    let flow = Rc::new(Flow::new(gate, connect, name, target.backend, patterns));
    let kill = end_of_binding(&mut arrival.mailbox, renewal, &flow.gate);
    let ending = weir_ssh::serve(Rc::clone(&flow), stream, &target.identity, kill).await;
    let reason = close_reason(ending);
    flow.gate.close("closed", reason.label());
    reason
}

/// Returns what the agent is told when the flow may not go on.
async fn end_of_binding(
    mailbox: &mut mpsc::Receiver<Event>,
    mut renewal: Renewal,
    gate: &FlowGate,
) -> String {
    loop {
        tokio::select! {
            event = mailbox.recv() => {
                if let Some(Event::Kill { text, .. }) = event {
                    return text.to_owned();
                }
                if let Some(Event::GrantEnded { approval }) = event
                    && gate.runs_under(approval)
                {
                    return "weir: the grant under which this ran is over".to_owned();
                }
            }
            () = sleep_until(renewal.due) => {
                if !renewal.renew(gate).await {
                    return "weir: the sign-in of this workload ended".to_owned();
                }
            }
        }
    }
}

/// Tells the client by a banner, which every client shows, why it is not let in.
async fn turn_away(
    arrival: &Arrival,
    stream: TcpStream,
    target: &SshTarget,
    none: NoSession,
) -> CloseReason {
    tracing::info!(session = %arrival.id, code = none.code, detail = %none.detail, "no session");
    let now = weir_clock::now();
    arrival::record_refused(&arrival.pen, &arrival.base, none.code, &none.detail, now);
    weir_ssh::turn_away(stream, &target.identity, none.text.to_owned()).await;
    none.reason
}

const fn close_reason(ending: Ending) -> CloseReason {
    match ending {
        Ending::ClientLeft => CloseReason::ClientLeft,
        Ending::NoSignIn => CloseReason::TimedOut,
        Ending::Malformed => CloseReason::Malformed,
        Ending::Killed => CloseReason::Killed,
    }
}
