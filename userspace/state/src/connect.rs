//! How the state server is reached, and how its news is heard.

use std::path::PathBuf;
use std::task::Poll;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

use crate::error::StateError;
use crate::server::CHANNEL;

/// Between two attempts to listen again.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
/// `SSLRequest` (protocol chapter, "Message Formats"): its length and the code 80877103.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// A database of a PostgreSQL server for the state of several nodes.
#[derive(Clone)]
pub struct ServerPlace {
    pub host: ServerHost,
    pub database: String,
    pub user: String,
    pub password: Option<Zeroizing<String>>,
}

/// Where the server listens.
#[derive(Clone)]
pub enum ServerHost {
    /// The socket file itself, such as `/run/postgresql/.s.PGSQL.5432`.
    Socket(PathBuf),
    /// Encrypted, unless `tls` is absent, which is for loopback alone.
    Tcp {
        host: String,
        port: u16,
        tls: Option<(TlsConnector, ServerName<'static>)>,
    },
}

impl std::fmt::Debug for ServerPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerPlace")
            .field("database", &self.database)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Drives the protocol of one [`Client`].
pub(crate) type Driver =
    tokio_postgres::Connection<Box<dyn DuplexStream>, tokio_postgres::tls::NoTlsStream>;

/// A stream in either direction, whatever it runs over.
pub(crate) trait DuplexStream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> DuplexStream for T {}

impl ServerPlace {
    /// Connects and signs in.
    pub(crate) async fn connect(&self) -> Result<(Client, Driver), StateError> {
        let mut config = Config::new();
        config
            .user(&self.user)
            .dbname(&self.database)
            .application_name("weir");
        if let Some(password) = &self.password {
            config.password(password.as_str());
        }
        let stream = self.stream().await.map_err(StateError::Unreachable)?;
        config
            .connect_raw(stream, NoTls)
            .await
            .map_err(|source| StateError::Server {
                doing: "sign in",
                source,
            })
    }

    async fn stream(&self) -> std::io::Result<Box<dyn DuplexStream>> {
        match &self.host {
            ServerHost::Socket(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            ServerHost::Tcp { host, port, tls } => {
                let mut stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                let Some((connector, name)) = tls else {
                    return Ok(Box::new(stream));
                };
                stream.write_all(&SSL_REQUEST).await?;
                if stream.read_u8().await? != b'S' {
                    return Err(std::io::Error::other("the state server has no TLS"));
                }
                Ok(Box::new(connector.connect(name.clone(), stream).await?))
            }
        }
    }
}

/// Listens until nobody watches any more. Also announces once after each start: what was said
/// while nobody listened is not known.
pub(crate) async fn listen(place: ServerPlace, changes: watch::Sender<u64>) {
    loop {
        if let Err(error) = listen_once(&place, &changes).await {
            tracing::warn!(%error, "news of other nodes' approvals comes late");
        }
        if changes.is_closed() {
            return;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

async fn listen_once(place: &ServerPlace, changes: &watch::Sender<u64>) -> Result<(), StateError> {
    let (client, mut driver) = place.connect().await?;
    let sql = format!("listen {CHANNEL}");
    let asked = client.batch_execute(&sql);
    let mut asked = std::pin::pin!(asked);
    let mut listening = None;
    loop {
        let message = std::future::poll_fn(|cx| {
            if listening.is_none()
                && let Poll::Ready(answer) = asked.as_mut().poll(cx)
            {
                listening = Some(answer);
                changes.send_modify(|count| *count = count.wrapping_add(1));
            }
            driver.poll_message(cx)
        });
        let message = message.await;
        if let Some(Err(source)) = listening {
            return Err(StateError::Server {
                doing: "ask for news",
                source,
            });
        }
        match message {
            Some(Ok(AsyncMessage::Notification(_))) => {
                changes.send_modify(|count| *count = count.wrapping_add(1));
            }
            Some(Ok(_)) => {}
            Some(Err(source)) => {
                return Err(StateError::Server {
                    doing: "listen",
                    source,
                });
            }
            None => return Ok(()),
        }
    }
}
