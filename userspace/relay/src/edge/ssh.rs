//! Flows of SSH: sign-in first, then russh on both sides.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use weir_govern::{CloseReason, Event, Governor};
use weir_model::addr::NetnsCookie;
use weir_ssh::{Backend, Connect, Ending, Flow, HostIdentity, Login};

use super::{NoSession, Renewal, due, identify};
use crate::arrival::{self, Arrival};
use crate::bind;
use crate::credentials::BackendLogin;
use crate::gate::FlowGate;
use crate::node::{Node, SshSecret, SshTarget};
use crate::subject::Subject;
use crate::upstream;

const NO_CREDENTIAL: &str =
    "weir: the credential for this server cannot be had; ask the platform team";

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
            Ok(bound) => match backend(&arrival, &target, &bound.subject) {
                Ok(backend) => {
                    let now = weir_clock::now();
                    let mut governor =
                        bind::governor(&node, &arrival.target, &arrival.base, &bound, now);
                    governor.say_refused_as("denied");
                    let of = (&arrival.origin, &arrival.workload);
                    node.identified(id, of, &bound.subject, None);
                    let ends = (stream, target.identity, backend);
                    run(&mut arrival, ends, governor, bound.subject).await
                }
                Err(none) => turn_away(&arrival, stream, &target, none).await,
            },
            Err(none) => turn_away(&arrival, stream, &target, none).await,
        },
        (_, _) => CloseReason::Internal,
    };
    node.closed(id, None);
    node.metrics.closed(reason);
    node.metrics.flows_open.dec();
}

/// The account of this principal on the host.
fn backend(arrival: &Arrival, target: &SshTarget, subject: &Subject) -> Result<Backend, NoSession> {
    let refused = |detail: String| NoSession {
        code: "credential",
        text: NO_CREDENTIAL,
        detail,
        reason: CloseReason::Internal,
    };
    let Some(login) = arrival.target.credentials.of(&subject.principal) else {
        return Err(refused("its source has not answered".to_owned()));
    };
    let BackendLogin {
        user,
        secret,
        certificate,
    } = login;
    let login = match target.secret {
        SshSecret::Password => Login::Password(secret),
        SshSecret::Key => Login::key(&secret, certificate.as_ref().map(|text| text.as_str()))
            .map_err(|error| refused(error.to_string()))?,
    };
    Ok(Backend {
        keys: target.keys.clone(),
        login,
        user,
    })
}

async fn run(
    arrival: &mut Arrival,
    (stream, identity, backend): (TcpStream, HostIdentity, Backend),
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
    let flow = Rc::new(Flow::new(gate, connect, name, backend, patterns));
    let kill = end_of_binding(&mut arrival.mailbox, renewal, &flow.gate);
    let ending = weir_ssh::serve(Rc::clone(&flow), stream, &identity, kill).await;
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
