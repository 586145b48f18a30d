//! Flows whose bytes a library owns: TLS first, then sign-in, then HTTP; or SSH.

mod dial;
mod ssh;

use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, sleep_until, timeout};
use tokio_rustls::server::TlsStream;
use weir_govern::{CloseReason, Event};
use weir_http::{Flow, Upstream, Version};

use self::dial::TargetDial;
use crate::arrival::{self, Arrival};
use crate::bind::{self, BoundFlow};
use crate::gate::FlowGate;
use crate::protocol::{self, HttpApi};
use crate::subject::Subject;

pub(crate) use self::ssh::serve as serve_ssh;

/// TLS handshake with the agent.
const TLS_TIME_MAX: Duration = Duration::from_secs(10);
/// A stream that is ended by us is told why within this.
const LAST_WORD_MAX: Duration = Duration::from_secs(3);

const INTERNAL: &str = "weir: an internal error; the operators can see it";

/// Why a flow has no session.
struct NoSession {
    code: &'static str,
    /// For the agent, where its protocol can be told.
    text: &'static str,
    detail: String,
    reason: CloseReason,
}

/// Serves a flow of a protocol over HTTP until it is closed.
pub(crate) async fn serve(mut arrival: Arrival) {
    let node = Arc::clone(&arrival.node);
    let id = arrival.id;
    let reason = match open(&mut arrival).await {
        Ok(session) => session.run(&mut arrival.mailbox).await,
        Err(none) => {
            tracing::info!(session = %id, code = none.code, detail = %none.detail, "no session");
            let now = weir_clock::now();
            arrival::record_refused(&arrival.pen, &arrival.base, none.code, &none.detail, now);
            none.reason
        }
    };
    node.closed(id, None);
    node.metrics.closed(reason);
    node.metrics.flows_open.dec();
}

struct HttpSession {
    flow: Rc<Flow<FlowGate, HttpApi, TargetDial>>,
    stream: TlsStream<TcpStream>,
    version: Version,
    renewal: Renewal,
}

/// Encrypts, identifies, and puts the parts together.
async fn open(arrival: &mut Arrival) -> Result<HttpSession, NoSession> {
    let stream = encrypt(arrival).await?;
    let bound = identify(arrival).await?;
    let version = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Version::Http2,
        Some(_) | None => Version::Http1,
    };
    let now = weir_clock::now();
    let (node, target) = (&arrival.node, &arrival.target);
    let mut governor = bind::governor(node, target, &arrival.base, &bound, now);
    governor.say_refused_as("403");
    let subject = bound.subject;
    let of = (&arrival.origin, &arrival.workload);
    node.identified(arrival.id, of, &subject, None);
    let due = due(node, (&arrival.workload, arrival.origin.cgroup.0), &subject);
    let gate = FlowGate::new(
        Arc::clone(node),
        Rc::clone(&arrival.pen),
        Arc::clone(target),
        (subject.clone(), &arrival.workload, &arrival.origin),
        governor,
    );
    let internal = |detail: &str| NoSession {
        code: "internal",
        text: INTERNAL,
        detail: detail.to_owned(),
        reason: CloseReason::Internal,
    };
    if !target.accept_token {
        let acts = protocol::acts(target, &subject, arrival.id);
        gate.acting()
            .become_of(acts.ok_or_else(|| internal("its credential cannot be had"))?);
    }
    let api = protocol::http_api(node, target, gate.acting().clone());
    let api = api.ok_or_else(|| internal("the protocol is not one over HTTP"))?;
    let dial = TargetDial::new(
        Arc::clone(node),
        Arc::clone(target),
        arrival.origin.netns,
        arrival.origin.dst.0,
    )
    .map_err(|detail| NoSession {
        code: "upstream",
        text: INTERNAL,
        detail,
        reason: CloseReason::Internal,
    })?;
    Ok(HttpSession {
        flow: Rc::new(Flow::new(gate, api, Upstream::new(dial))),
        stream,
        version,
        renewal: Renewal {
            node: Arc::clone(node),
            workload: Arc::clone(&arrival.workload),
            cgroup: arrival.origin.cgroup.0,
            due,
        },
    })
}

async fn encrypt(arrival: &mut Arrival) -> Result<TlsStream<TcpStream>, NoSession> {
    let refused = |detail: &str, reason| NoSession {
        code: "tls",
        text: INTERNAL,
        detail: detail.to_owned(),
        reason,
    };
    let Some(acceptor) = arrival.target.tls.clone() else {
        return Err(refused(
            "the target has no certificate",
            CloseReason::Internal,
        ));
    };
    let Some(stream) = arrival.stream.take() else {
        return Err(refused("the socket is gone", CloseReason::Internal));
    };
    match timeout(TLS_TIME_MAX, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => {
            tracing::info!(%error, session = %arrival.id, "TLS with the agent failed");
            Err(refused(
                "the handshake with the agent failed",
                CloseReason::Malformed,
            ))
        }
        Err(_elapsed) => Err(refused(
            "the handshake took too long",
            CloseReason::TimedOut,
        )),
    }
}

async fn identify(arrival: &Arrival) -> Result<BoundFlow, NoSession> {
    let work = bind::bind_flow(
        Arc::clone(&arrival.node),
        Arc::clone(&arrival.workload),
        arrival.origin.clone(),
        None,
    );
    match arrival.node.control.spawn(work).await {
        Ok(Ok(bound)) => Ok(bound),
        Ok(Err(unbound)) => Err(NoSession {
            code: unbound.code,
            text: unbound.text,
            detail: unbound.operator,
            reason: CloseReason::Unidentified,
        }),
        Err(_panicked) => Err(NoSession {
            code: "internal",
            text: INTERNAL,
            detail: "the sign-in task panicked".to_owned(),
            reason: CloseReason::Internal,
        }),
    }
}

/// Keeps the binding alive while the flow lasts.
struct Renewal {
    node: Arc<crate::Node>,
    workload: Arc<str>,
    cgroup: u64,
    due: Instant,
}

fn due(node: &crate::Node, whose: (&str, u64), subject: &Subject) -> Instant {
    let left_s = bind::look_again_s(node, whose, subject, weir_clock::now());
    Instant::now() + Duration::from_secs(left_s)
}

impl Renewal {
    async fn renew(&mut self, gate: &FlowGate) -> bool {
        let (node, workload) = (Arc::clone(&self.node), Arc::clone(&self.workload));
        let (cgroup, subject) = (self.cgroup, gate.subject());
        let task = self
            .node
            .control
            .spawn(async move { bind::renew(&node, (&workload, cgroup), subject).await });
        match task.await {
            Ok(Ok(subject)) => {
                self.follow(&subject);
                gate.renewed(subject);
                true
            }
            Ok(Err(ended)) => {
                tracing::warn!(workload = %self.workload, reason = %ended.operator, "binding ended");
                false
            }
            Err(_panicked) => false,
        }
    }

    /// The next look is when this subject needs it.
    fn follow(&mut self, subject: &Subject) {
        self.due = due(&self.node, (&self.workload, self.cgroup), subject);
    }
}

impl HttpSession {
    async fn run(self, mailbox: &mut mpsc::Receiver<Event>) -> CloseReason {
        let Self {
            flow,
            stream,
            version,
            mut renewal,
        } = self;
        let served = weir_http::serve(Rc::clone(&flow), stream, version);
        tokio::pin!(served);
        let reason = loop {
            tokio::select! {
                ended = &mut served => break match ended {
                    Ok(()) => CloseReason::ClientLeft,
                    Err(error) => {
                        tracing::info!(%error, "HTTP with the agent ended");
                        CloseReason::ClientLeft
                    }
                },
                event = mailbox.recv() => {
                    let why = match event {
                        Some(Event::Kill { .. }) => Some("an operator ended this session"),
                        Some(Event::GrantEnded { approval }) if flow.gate.runs_under(approval) => {
                            Some("the grant under which this request ran is over")
                        }
                        Some(_) | None => None,
                    };
                    if let Some(why) = why {
                        if flow.stop(why) {
                            // Said in time, or cut off.
                            let _said = timeout(LAST_WORD_MAX, &mut served).await;
                        }
                        break CloseReason::Killed;
                    }
                }
                subject = flow.gate.new_subject() => renewal.follow(&subject),
                () = sleep_until(renewal.due) => {
                    if !renewal.renew(&flow.gate).await {
                        if flow.stop("the sign-in of this workload has ended") {
                            let _said = timeout(LAST_WORD_MAX, &mut served).await;
                        }
                        break CloseReason::Unidentified;
                    }
                }
            }
        };
        flow.gate.close("closed", reason.label());
        reason
    }
}
