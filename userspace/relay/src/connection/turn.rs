//! Waiting for the next thing and taking it in.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::time::{Duration, Instant};
use weir_govern::{CloseReason, Event};

use super::jobs::Done;
use super::{Connection, START_TIME_MAX};
use crate::speaker;
use crate::stream::Stream;

/// Bytes asked for in one read.
const READ_BYTES: usize = 16 * 1024;
/// A client that has to wait may still fill this much, so that its leaving is noticed.
const WAITING_BYTES_MAX: usize = 64 * 1024;
/// The other side is not read while more than this waits to be written.
const OUT_BYTES_MAX: usize = 256 * 1024;

/// What one wait brought.
#[derive(Default)]
struct Woken {
    client: bool,
    server: bool,
    done: Option<Done>,
    event: Option<Event>,
    timer: bool,
}

impl Woken {
    const fn anything(&self) -> bool {
        self.client || self.server || self.done.is_some() || self.event.is_some() || self.timer
    }
}

impl Connection {
    /// Waits until something happened, then gives it to the session.
    pub(super) async fn turn(&mut self) -> Result<(), CloseReason> {
        self.arm_timer();
        let woken = poll_fn(|cx| self.poll_wake(cx)).await?;
        let now = weir_clock::now();
        if let Some(done) = woken.done {
            self.take_done(done, now)?;
        }
        match woken.event {
            Some(Event::Move) => self.leaving = true,
            Some(event) => self.session.handle(event, now),
            None => {}
        }
        if woken.timer {
            self.timer_due_us = None;
            let session_due_us = self.session.poll_timeout().map(|(due_us, _why)| due_us);
            if session_due_us.is_some_and(|due_us| due_us <= now.mono_us) {
                self.session.handle(Event::Timeout, now);
            } else if self.context.is_none() {
                return Err(CloseReason::TimedOut);
            } else if self
                .binding_due_us
                .is_none_or(|due_us| due_us <= now.mono_us)
            {
                self.renew_binding(now);
            }
        }
        if self.policy_changed() {
            self.rebind_policy(now);
        }
        if woken.server {
            self.session.handle_server(&mut self.server_in, now);
            release(&mut self.server_in);
            if self.server_ended {
                self.session.handle(Event::ServerClosed, now);
            }
        }
        if woken.client {
            if !self.client_in.is_empty() {
                self.attribute().await;
                let now = weir_clock::now();
                self.session.handle_client(&mut self.client_in, now);
                release(&mut self.client_in);
            }
            if self.client_ended {
                self.session.handle(Event::ClientClosed, now);
            }
        }
        Ok(())
    }

    /// Asks who sent what just came in. Before the session is bound the next bytes will tell.
    async fn attribute(&mut self) {
        let Some(context) = self.context.clone() else {
            return;
        };
        if let Some(speaker) = self.speaker.changed(&self.node) {
            let context = speaker::attributed(&self.node, &context, &speaker).await;
            self.context = Some(Arc::clone(&context));
            self.session
                .handle(Event::Attributed(context), weir_clock::now());
        }
    }

    /// The session's own deadline or the end of the binding, whichever comes first; else the start-up
    /// limit.
    fn arm_timer(&mut self) {
        let session = self.session.poll_timeout().map(|(due_us, _why)| due_us);
        let due = session.into_iter().chain(self.binding_due_us).min();
        if due == self.timer_due_us {
            return;
        }
        self.timer_due_us = due;
        let wait = match due {
            Some(due_us) => Duration::from_micros(due_us.saturating_sub(weir_clock::now().mono_us)),
            None => START_TIME_MAX,
        };
        self.timer.as_mut().reset(Instant::now() + wait);
    }

    fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<Result<Woken, CloseReason>> {
        let mut woken = Woken::default();
        // TLS may have taken all of it and not have sent it yet.
        if !self.client_out.is_empty() || self.flushing.client {
            let before = self.client_out.len();
            let drained = self.client.poll_drain(cx, &mut self.client_out);
            self.flushing.client = drained.is_pending();
            if let Poll::Ready(Err(_)) = drained {
                return Poll::Ready(Err(CloseReason::ClientLeft));
            }
            let written = before - self.client_out.len();
            self.node.metrics.bytes_to_client.inc_by(written as u64);
        }
        if let Some(server) = &mut self.server
            && (!self.server_out.is_empty() || self.flushing.server)
        {
            let before = self.server_out.len();
            let drained = server.poll_drain(cx, &mut self.server_out);
            self.flushing.server = drained.is_pending();
            // A server that refuses bytes may still have said why: that is read below.
            let failed = matches!(drained, Poll::Ready(Err(_)));
            let written = before - self.server_out.len();
            self.node.metrics.bytes_to_server.inc_by(written as u64);
            if failed {
                let left = self.server_out.len();
                bytes::Buf::advance(&mut self.server_out, left);
            }
        }
        self.poll_client(cx, &mut woken);
        self.poll_server(cx, &mut woken);
        if let Poll::Ready(done) = self.jobs.poll_next(cx) {
            woken.done = Some(done);
        }
        if let Poll::Ready(Some(event)) = self.mailbox.poll_recv(cx) {
            woken.event = Some(event);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            woken.timer = true;
        }
        if woken.anything() {
            Poll::Ready(Ok(woken))
        } else {
            Poll::Pending
        }
    }

    fn poll_client(&mut self, cx: &mut Context<'_>, woken: &mut Woken) {
        if self.client_ended {
            return;
        }
        let room = if self.session.wants_client() {
            self.server_out.len() < OUT_BYTES_MAX
        } else {
            self.client_in.len() < WAITING_BYTES_MAX
        };
        if !room {
            return;
        }
        match fill(&mut self.client, &mut self.client_in, cx) {
            Poll::Ready(ended) => {
                woken.client = true;
                self.client_ended = ended;
            }
            Poll::Pending => {}
        }
    }

    fn poll_server(&mut self, cx: &mut Context<'_>, woken: &mut Woken) {
        let Some(server) = &mut self.server else {
            return;
        };
        if self.server_ended
            || self.client_out.len() >= OUT_BYTES_MAX
            || !self.session.wants_server()
        {
            return;
        }
        match fill(server, &mut self.server_in, cx) {
            Poll::Ready(ended) => {
                woken.server = true;
                self.server_ended = ended;
            }
            Poll::Pending => {}
        }
    }

    fn policy_changed(&mut self) -> bool {
        self.context.is_some() && self.policies.has_changed().unwrap_or(false)
    }

    fn rebind_policy(&mut self, now: weir_model::time::Now) {
        let policies = Arc::clone(&self.policies.borrow_and_update());
        if let Some(subject) = &self.subject {
            let bound = subject.bind(&policies, &self.target);
            self.session.handle(Event::Policy(Box::new(bound)), now);
        }
    }
}

/// One read; ready with true at the end (or at an error, which is an end too).
fn fill(stream: &mut Stream, buffer: &mut BytesMut, cx: &mut Context<'_>) -> Poll<bool> {
    buffer.reserve(READ_BYTES);
    match stream.poll_fill(cx, buffer) {
        Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(true),
        Poll::Ready(Ok(_)) => Poll::Ready(false),
        Poll::Pending => {
            release(buffer);
            Poll::Pending
        }
    }
}

/// An idle flow keeps no buffer.
fn release(buffer: &mut BytesMut) {
    if buffer.is_empty() {
        *buffer = BytesMut::new();
    }
}
