//! Connections of an HTTP flow to its server: from the workload's namespace, encrypted, and proven
//! by the target's pinned name and CA before anything is said.

use std::net::SocketAddr;
use std::sync::Arc;

use http::uri::Authority;
use tokio::net::TcpStream;
use tokio::time::{Duration, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use weir_http::Dial;
use weir_model::addr::NetnsCookie;

use crate::node::{Node, Target, UpstreamTls};
use crate::upstream;

/// TCP and TLS together.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(15);

pub(crate) struct TargetDial {
    node: Arc<Node>,
    tls: UpstreamTls,
    netns: NetnsCookie,
    server: SocketAddr,
    authority: Authority,
}

impl TargetDial {
    /// # Errors
    /// The target has no CA to prove its server by.
    pub(crate) fn new(
        node: Arc<Node>,
        target: Arc<Target>,
        netns: NetnsCookie,
        server: SocketAddr,
    ) -> Result<Self, String> {
        let Some(tls) = target.upstream_tls.clone() else {
            return Err("the target names no CA for its server".to_owned());
        };
        let name = tls.name.to_str();
        let host = if name.contains(':') {
            format!("[{name}]:{}", server.port())
        } else {
            format!("{name}:{}", server.port())
        };
        let authority = Authority::try_from(host).map_err(|error| error.to_string())?;
        Ok(Self {
            node,
            tls,
            netns,
            server,
            authority,
        })
    }

    async fn connect(
        &self,
        connector: &TlsConnector,
    ) -> Result<(TlsStream<TcpStream>, bool), String> {
        let stream = upstream::tcp(&self.node, self.netns, self.server).await?;
        let stream = connector
            .connect(self.tls.name.clone(), stream)
            .await
            .map_err(|error| format!("TLS with the server: {error}"))?;
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        Ok((stream, h2))
    }
}

impl Dial for TargetDial {
    type Io = TlsStream<TcpStream>;

    async fn dial(&self) -> Result<(Self::Io, bool), String> {
        self.dial_by(&self.tls.connector).await
    }

    async fn dial_http1(&self) -> Result<Self::Io, String> {
        let mut config = ClientConfig::clone(self.tls.connector.config());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let (io, _) = self.dial_by(&connector).await?;
        Ok(io)
    }

    fn authority(&self) -> Authority {
        self.authority.clone()
    }
}

impl TargetDial {
    async fn dial_by(
        &self,
        connector: &TlsConnector,
    ) -> Result<(TlsStream<TcpStream>, bool), String> {
        match timeout(CONNECT_TIME_MAX, self.connect(connector)).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err("the server does not answer".to_owned()),
        }
    }
}
