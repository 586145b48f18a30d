//! One agent's connection.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use weir_govern::Gate;

use crate::api::Api;
use crate::exchange::exchange;
use crate::local::LocalExec;
use crate::upstream::{Dial, Upstream};

/// Of a request's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: usize = 128;
/// Requests at one time on one connection.
const STREAMS_MAX: u32 = 100;
/// A request's head has to arrive within this.
const HEAD_TIME_MAX: Duration = Duration::from_secs(20);
/// An HTTP/2 peer that says nothing is asked this often, and given up after as long.
const PING_EVERY: Duration = Duration::from_secs(30);

/// What all requests of one connection share.
pub struct Flow<G, A, D> {
    pub gate: G,
    pub api: A,
    pub upstream: Upstream<D>,
    upgrade_runs: Cell<bool>,
    stop: Cell<Option<&'static str>>,
    stopping: Notify,
}

impl<G, A, D> Flow<G, A, D> {
    pub fn new(gate: G, api: A, upstream: Upstream<D>) -> Self {
        Self {
            gate,
            api,
            upstream,
            upgrade_runs: Cell::new(false),
            stop: Cell::new(None),
            stopping: Notify::new(),
        }
    }

    /// Ends an upgraded connection with a word to the agent; false when there is none, so that the
    /// flow can only be dropped. [`serve`] returns when it is said.
    pub fn stop(&self, text: &'static str) -> bool {
        self.stop.set(Some(text));
        self.stopping.notify_waiters();
        self.upgrade_runs.get()
    }

    /// Waits for [`Flow::stop`].
    pub(crate) async fn stopped(&self) -> &'static str {
        loop {
            // Registered before the look, so that no word is missed.
            let stopping = self.stopping.notified();
            if let Some(text) = self.stop.get() {
                return text;
            }
            stopping.await;
        }
    }
}

/// What goes on once a connection was upgraded. Not a part of the flow, which it holds.
#[derive(Clone, Default)]
pub(crate) struct GoesOn(Rc<RefCell<Option<Later>>>);

type Later = Pin<Box<dyn Future<Output = ()>>>;

impl GoesOn {
    pub(crate) fn set(&self, upgraded: impl Future<Output = ()> + 'static) {
        *self.0.borrow_mut() = Some(Box::pin(upgraded));
    }
}

/// As agreed on by ALPN; a client that names none speaks HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http1,
    Http2,
}

/// Serves requests until the agent leaves; an upgraded connection until that is over.
///
/// # Errors
/// What hyper says of a peer that broke the protocol; for the operator's log.
pub async fn serve<G, A, D, S>(
    flow: Rc<Flow<G, A, D>>,
    stream: S,
    version: Version,
) -> Result<(), hyper::Error>
where
    G: Gate + 'static,
    A: Api,
    D: Dial,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let goes_on = GoesOn::default();
    let (served, slot) = (Rc::clone(&flow), goes_on.clone());
    let service = service_fn(move |request| {
        let (flow, slot) = (Rc::clone(&served), slot.clone());
        async move { Ok::<_, Infallible>(exchange(flow, slot, request).await) }
    });
    let io = TokioIo::new(stream);
    match version {
        Version::Http1 => {
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIME_MAX)
                .max_buf_size(HEAD_BYTES_MAX)
                .max_headers(HEADERS_MAX)
                .serve_connection(io, service)
                .with_upgrades()
                .await?;
            let upgraded = goes_on.0.borrow_mut().take();
            if let Some(upgraded) = upgraded {
                flow.upgrade_runs.set(true);
                upgraded.await;
                flow.upgrade_runs.set(false);
            }
            Ok(())
        }
        Version::Http2 => {
            http2::Builder::new(LocalExec)
                .timer(TokioTimer::new())
                .keep_alive_interval(PING_EVERY)
                .keep_alive_timeout(PING_EVERY)
                .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
                .max_concurrent_streams(STREAMS_MAX)
                .serve_connection(io, service)
                .await
        }
    }
}
