//! What a flow has running on the control runtime: sign-in, upstream, catalog.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Duration, timeout};
use weir_govern::{
    CatalogRequest, CloseReason, ConnectRequest, Credential, Event, HoldRequest, Presented,
    ServerBytes,
};
use weir_model::ident::ApprovalId;
use weir_model::time::Now;

use super::Connection;
use crate::bind::{self, BoundFlow, Unbound};
use crate::catalog::{self, CatalogQuestion};
use crate::credentials::BackendLogin;
use crate::holds::Waiter;
use crate::stream::Stream;
use crate::subject::Subject;
use crate::upstream;

const CONNECT_TIME_MAX: Duration = Duration::from_secs(15);

const NO_CREDENTIAL: &str =
    "weir: the credential for this server cannot be had; ask the platform team";

/// A finished job.
pub(super) enum Done {
    Bound(Result<BoundFlow, Unbound>),
    Renewed(Result<Subject, Unbound>),
    Connected(Result<Stream, String>),
    Event(Event),
}

type Job = Pin<Box<dyn Future<Output = Done>>>;

/// At most one of each kind runs, since a session asks one thing at a time.
#[derive(Default)]
pub(super) struct Jobs(Vec<Job>);

impl Jobs {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn start(&mut self, job: impl Future<Output = Done> + 'static) {
        self.0.push(Box::pin(job));
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Done> {
        for index in 0..self.0.len() {
            let Some(job) = self.0.get_mut(index) else {
                break;
            };
            if let Poll::Ready(done) = job.as_mut().poll(cx) {
                drop(self.0.swap_remove(index));
                return Poll::Ready(done);
            }
        }
        Poll::Pending
    }
}

impl Connection {
    pub(super) fn start_identify(&mut self, presented: Option<Presented>) {
        let work = bind::bind_flow(
            Arc::clone(&self.node),
            Arc::clone(&self.workload),
            self.origin.clone(),
            presented,
        );
        let task = self.node.control.spawn(work);
        self.jobs.start(async move {
            Done::Bound(task.await.unwrap_or_else(|_panicked| {
                Err(Unbound {
                    code: "internal",
                    text: "weir: the sign-in of this workload failed",
                    operator: "the sign-in task panicked".to_owned(),
                })
            }))
        });
    }

    pub(super) fn start_connect(&mut self, request: &ConnectRequest) {
        tracing::debug!(session = %self.id, database = %request.database, "connect upstream");
        let (node, netns, server) = (Arc::clone(&self.node), self.origin.netns, self.origin.dst.0);
        let target = Arc::clone(&self.target);
        // The stream belongs to this thread's runtime, so this one is not spawned elsewhere.
        self.jobs.start(async move {
            let upstream = upstream::stream(&node, &target, netns, server);
            Done::Connected(match timeout(CONNECT_TIME_MAX, upstream).await {
                Ok(stream) => stream,
                Err(_elapsed) => Err("the server does not answer".to_owned()),
            })
        });
    }

    pub(super) fn start_catalog(&mut self, request: CatalogRequest) {
        let Some(login) = self.login() else {
            let failed = Event::CatalogFailed {
                text: NO_CREDENTIAL,
            };
            self.jobs.start(async { Done::Event(failed) });
            return;
        };
        let question = CatalogQuestion {
            login,
            target: Arc::clone(&self.target),
            database: request.database,
            netns: self.origin.netns,
            server: self.origin.dst.0,
            needed: request.needed,
        };
        let task = self
            .node
            .control
            .spawn(catalog::catalog(Arc::clone(&self.node), question));
        let id = self.id;
        self.jobs.start(async move {
            Done::Event(match task.await {
                Ok(Ok(catalog)) => Event::Catalog(catalog),
                Ok(Err(none)) => {
                    tracing::warn!(session = %id, detail = %none.detail, "no catalog");
                    Event::CatalogFailed { text: none.text }
                }
                Err(_panicked) => Event::CatalogFailed {
                    text: "weir: the catalog cannot be read",
                },
            })
        });
    }

    pub(super) fn start_hold(&mut self, request: HoldRequest) {
        let Some(context) = self.context.clone() else {
            return;
        };
        let mailbox = self.mailbox_sender.clone();
        self.waiter = Some(Waiter::start(&self.node, context, request, mailbox));
    }

    pub(super) fn abandon_hold(&mut self, approval: ApprovalId) {
        let node = Arc::clone(&self.node);
        drop(self.node.control.spawn(async move {
            if let Err(error) = node.state.abandon(approval).await {
                tracing::error!(%error, "an abandoned hold stays listed until it expires");
            }
        }));
    }

    pub(super) fn send_cancel(&mut self, bytes: ServerBytes) {
        let (node, netns, server) = (Arc::clone(&self.node), self.origin.netns, self.origin.dst.0);
        let target = Arc::clone(&self.target);
        let bytes = bytes.into_bytes();
        tokio::task::spawn_local(timeout(CONNECT_TIME_MAX, async move {
            match upstream::stream(&node, &target, netns, server).await {
                Ok(mut stream) => {
                    let sent = match stream.write_all(&bytes).await {
                        Ok(()) => stream.flush().await,
                        Err(error) => Err(error),
                    };
                    if sent.is_err() {
                        tracing::warn!("a cancel request was not taken by the server");
                    }
                    // The server closes once it has read it. Closing first, with something of TLS
                    // unread, would be a reset, which may overtake the request.
                    let mut rest = [0; 1024];
                    while matches!(stream.read(&mut rest).await, Ok(count) if count > 0) {}
                }
                Err(error) => tracing::warn!(%error, "a cancel request could not be sent"),
            }
        }));
    }

    /// Gives a finished job to the session.
    pub(super) fn take_done(&mut self, done: Done, now: Now) -> Result<(), CloseReason> {
        match done {
            Done::Event(Event::Move) => self.leaving = true,
            Done::Event(event) => self.session.handle(event, now),
            Done::Bound(Ok(flow)) => self.identified(&flow, now),
            Done::Bound(Err(unbound)) => {
                tracing::warn!(
                    session = %self.id, workload = %self.workload, code = unbound.code,
                    reason = %unbound.operator, "a flow could not be identified"
                );
                self.refusal = Some((unbound.code, unbound.operator));
                let event = Event::Unidentified {
                    code: unbound.code,
                    text: unbound.text,
                };
                self.session.handle(event, now);
            }
            Done::Renewed(Ok(subject)) => self.renewed(subject, now),
            Done::Renewed(Err(unbound)) => {
                tracing::warn!(session = %self.id, reason = %unbound.operator, "binding ended");
                self.session.handle(
                    Event::Kill {
                        code: "28000",
                        text: unbound.text,
                    },
                    now,
                );
            }
            Done::Connected(Ok(stream)) => {
                if let Some(subject) = &self.subject {
                    self.announce(subject, stream.local_addr());
                }
                self.server = Some(stream);
                self.connected(now);
            }
            Done::Connected(Err(error)) => {
                tracing::warn!(session = %self.id, %error, "the server cannot be reached");
                self.refusal = Some(("upstream", error));
                let text = "weir: the protected server cannot be reached";
                self.session.handle(Event::ConnectFailed { text }, now);
            }
        }
        Ok(())
    }

    fn connected(&mut self, now: Now) {
        let event = match self.login() {
            Some(login) => Event::Connected(Credential {
                user: login.user,
                password: login.secret,
                server_proven: self.target.upstream_tls.is_some(),
                channel_binding: self.server.as_ref().and_then(Stream::channel_binding),
            }),
            None => {
                self.refusal = Some(("credential", "its source has not answered".to_owned()));
                Event::ConnectFailed {
                    text: NO_CREDENTIAL,
                }
            }
        };
        self.session.handle(event, now);
    }

    fn login(&self) -> Option<BackendLogin> {
        let subject = self.subject.as_ref()?;
        self.target.credentials.of(&subject.principal)
    }

    fn identified(&mut self, flow: &BoundFlow, now: Now) {
        let governor = bind::governor(&self.node, &self.target, &self.base, flow, now);
        self.context = Some(Arc::clone(governor.context()));
        self.keep_subject(flow.subject.clone(), now);
        self.announce(&flow.subject, None);
        self.session
            .handle(Event::Identified(Box::new(governor)), now);
    }

    pub(super) fn announce(&self, subject: &Subject, upstream: Option<SocketAddr>) {
        let of = (&self.origin, &self.workload);
        self.node.identified(self.id, of, subject, upstream);
    }

    pub(super) fn keep_subject(&mut self, subject: Subject, now: Now) {
        let whose = (&*self.workload, self.origin.cgroup.0);
        let left_s = bind::look_again_s(&self.node, whose, &subject, now);
        let left_us = left_s.saturating_mul(1_000_000);
        self.binding_due_us = Some(now.mono_us.saturating_add(left_us));
        self.subject = Some(subject);
    }

    fn renewed(&mut self, subject: Subject, now: Now) {
        let policies = Arc::clone(&self.policies.borrow());
        let bound = subject.bind(&policies, &self.target);
        self.keep_subject(subject, now);
        self.session.handle(Event::Policy(Box::new(bound)), now);
    }

    /// The binding is about to end: sign in again, or end the session.
    pub(super) fn renew_binding(&mut self, now: Now) {
        // Not asked again while the answer is on its way; a failed one ends the session.
        self.binding_due_us = Some(now.mono_us.saturating_add(30_000_000));
        let (node, workload) = (Arc::clone(&self.node), Arc::clone(&self.workload));
        let cgroup = self.origin.cgroup.0;
        let Some(subject) = self.subject.clone() else {
            return;
        };
        let task = self
            .node
            .control
            .spawn(async move { bind::renew(&node, (&workload, cgroup), subject).await });
        self.jobs.start(async move {
            Done::Renewed(task.await.unwrap_or_else(|_panicked| {
                Err(Unbound {
                    code: "internal",
                    text: "weir: the sign-in of this workload failed",
                    operator: "the sign-in task panicked".to_owned(),
                })
            }))
        });
    }
}
