//! The socket: TLS, time limits, a limit on connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::guard::Peer;

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;
/// For a handshake, and for the head of a request.
const SHAKE_HANDS: Duration = Duration::from_secs(10);
/// A page that follows what happens is held open; it comes again after that.
const CONNECTION_LIFE: Duration = Duration::from_secs(3600);
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// After an error of accept(2), such as too many descriptors.
const BREATHE: Duration = Duration::from_millis(100);

/// Certificate and key of the console.
pub struct Tls(Arc<ServerConfig>);

impl Tls {
    /// From PEM texts: the chain, leaf first, and its key.
    ///
    /// # Errors
    /// In words for the log.
    pub fn parse(chain: &str, key: &str) -> Result<Self, String> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| "the certificate is not PEM".to_owned())?;
        if chain.is_empty() {
            return Err("there is no certificate in the file".to_owned());
        }
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .map_err(|_| "there is no private key in the file".to_owned())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| error.to_string())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(…)")
    }
}

/// A console's listener.
pub struct Listening {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
}

/// Listens; serves nothing yet.
///
/// # Errors
/// The address is taken or not of this machine.
pub async fn listen(addr: SocketAddr, tls: Option<&Tls>) -> io::Result<Listening> {
    Ok(Listening {
        listener: TcpListener::bind(addr).await?,
        tls: tls.map(|tls| TlsAcceptor::from(Arc::clone(&tls.0))),
    })
}

impl Listening {
    /// # Errors
    /// As `getsockname(2)`.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is dropped.
    pub async fn serve(self, router: Router) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        // Connections end with their listener.
        let mut connections = JoinSet::new();
        // Never closed: it is ours.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "the console cannot accept");
                    tokio::time::sleep(BREATHE).await;
                    continue;
                }
            };
            let (router, tls) = (router.clone(), self.tls.clone());
            while connections.try_join_next().is_some() {}
            connections.spawn(async move {
                serve_one(stream, peer, router, tls).await;
                drop(place);
            });
        }
    }
}

async fn serve_one(stream: TcpStream, peer: SocketAddr, router: Router, tls: Option<TlsAcceptor>) {
    let router = router.layer(axum::middleware::map_request(
        move |mut request: Request| async move {
            request.extensions_mut().insert(Peer(peer.ip()));
            request
        },
    ));
    match tls {
        None => speak(stream, router).await,
        Some(tls) => match timeout(SHAKE_HANDS, tls.accept(stream)).await {
            Ok(Ok(stream)) => speak(stream, router).await,
            Ok(Err(error)) => tracing::debug!(%error, "console: no TLS"),
            Err(_late) => {}
        },
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(SHAKE_HANDS)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Ok(Err(error)) = timeout(CONNECTION_LIFE, serving).await {
        tracing::debug!(%error, "console: connection");
    }
}
