//! Listening: each connection's peer is checked before a byte of it is read.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::{Duration, timeout};
use weir_identify::Identify;
use weir_record::SpoolDir;
use weir_record::keys::KeyRing;
use weir_relay::Node;
use weir_state::State;

use super::routes;
use super::{PeerRule, Runs, SignIns};
use crate::config::Config;

/// Requests at once; more wait.
const AT_ONCE_MAX: usize = 64;
/// A port that is taken is tried again after this.
const TAKEN_AGAIN: Duration = Duration::from_millis(200);
const REQUEST_TIME_MAX: Duration = Duration::from_secs(60);

/// What the routes need.
pub(crate) struct AdminState {
    pub(crate) node: Arc<Node>,
    pub(crate) state: State,
    pub(crate) identify: Arc<Identify>,
    pub(crate) signins: SignIns,
    pub(crate) runs: Runs,
    pub(crate) metrics: prometheus::Registry,
    pub(crate) readiness: Box<dyn Fn() -> Vec<String> + Send + Sync>,
    pub(crate) config: Config,
    /// The node's signing keys, and the spool that they belong to.
    pub(crate) keys: (Arc<KeyRing>, PathBuf),
}

impl AdminState {
    /// Nobody is signed in yet.
    pub(crate) fn new(
        (node, state, identify): (Arc<Node>, State, Arc<Identify>),
        metrics: prometheus::Registry,
        readiness: Box<dyn Fn() -> Vec<String> + Send + Sync>,
        (config, spool): (Config, &SpoolDir),
    ) -> Arc<Self> {
        Arc::new(Self {
            node,
            state,
            identify,
            signins: SignIns::default(),
            runs: Runs::default(),
            metrics,
            readiness,
            config,
            keys: (spool.keys(), spool.directory().to_owned()),
        })
    }
}

/// The uid of the peer, which [`PeerRule`] let in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerUid(pub(crate) u32);

/// The process of the peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerPid(pub(crate) u32);

/// Serves the root-only socket for ever.
pub(crate) async fn serve_unix(
    listener: UnixListener,
    rule: PeerRule,
    state: Arc<AdminState>,
) -> Result<()> {
    let router = routes::all(state);
    let places = Arc::new(Semaphore::new(AT_ONCE_MAX));
    loop {
        let place = Arc::clone(&places)
            .acquire_owned()
            .await
            .context("admin socket")?;
        let (stream, _) = listener.accept().await.context("admin socket")?;
        let peer = stream.peer_cred().context("admin socket")?;
        if let Err(refused) = rule.admit(peer.uid(), peer.pid()) {
            tracing::warn!(uid = peer.uid(), pid = peer.pid(), %refused, "admin socket");
            continue;
        }
        let uid = PeerUid(peer.uid());
        let pid = PeerPid(u32::try_from(peer.pid().unwrap_or(0)).unwrap_or(0));
        let router = router.clone().layer(axum::middleware::map_request(
            move |mut request: Request| async move {
                request.extensions_mut().insert(uid);
                request.extensions_mut().insert(pid);
                request
            },
        ));
        tokio::spawn(async move {
            let service = TowerToHyperService::new(router);
            let builder = Builder::new(TokioExecutor::new());
            let serving = builder.serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = timeout(REQUEST_TIME_MAX, serving).await {
                tracing::debug!(%error, "admin connection");
            }
            drop(place);
        });
    }
}

/// Serves liveness, readiness and metrics on loopback.
pub(crate) async fn serve_tcp(addr: SocketAddr, state: Arc<AdminState>) -> Result<()> {
    let listener = loop {
        match TcpListener::bind(addr).await {
            Ok(listener) => break listener,
            // The process before this one lets go of it when it drains.
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                tracing::debug!(%addr, "admin.http is still taken");
                tokio::time::sleep(TAKEN_AGAIN).await;
            }
            Err(error) => {
                return Err(error).with_context(|| format!("admin.http: listening on {addr}"));
            }
        }
    };
    let router: Router = routes::health(state);
    axum::serve(listener, router).await.context("admin.http")
}
