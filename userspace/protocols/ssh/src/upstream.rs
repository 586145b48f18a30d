//! The server's end: proven by its key, signed in to with Weir's credential, one connection for
//! all channels of a flow.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use russh::client::{AuthResult, Config, Handle, Handler, Msg, Session};
use russh::keys::{Algorithm, Certificate, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{
    Channel, ChannelId, ChannelWriteHalf, Limits, Preferred, Sig, SshId, cipher, compression, kex,
    mac,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::inputs::Inputs;
use crate::keys::{Login, ServerKeys};
use crate::throttle::{QUEUE_MESSAGES, Throttle};

/// Of one channel, each way.
pub(crate) const WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Connection, key exchange and sign-in together.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(20);
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// What is known of the server, and as whom it is used.
#[derive(Clone)]
pub struct Backend {
    pub keys: ServerKeys,
    pub login: Login,
    /// The account; the one that the client asks for when empty.
    pub user: String,
}

/// New keys after 1 GiB (RFC 4253, 9) or an hour.
pub(crate) fn limits() -> Limits {
    Limits::new(1 << 30, 1 << 30, Duration::from_secs(3600))
}

const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::ECDH_SHA2_NISTP256,
    kex::ECDH_SHA2_NISTP384,
    kex::ECDH_SHA2_NISTP521,
    kex::DH_G16_SHA512,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];
const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];
const MACS: &[mac::Name] = &[
    mac::HMAC_SHA256_ETM,
    mac::HMAC_SHA512_ETM,
    mac::HMAC_SHA256,
    mac::HMAC_SHA512,
];

/// Only algorithms without known weakness, no compression (a masked length would tell).
pub(crate) fn preferred(keys: Vec<Algorithm>) -> Preferred {
    Preferred {
        kex: Cow::Borrowed(KEX),
        key: Cow::Owned(keys),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(CIPHERS),
        mac: Cow::Borrowed(MACS),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

/// russh's callbacks for the connection to the server.
pub(crate) struct ServerSide {
    keys: ServerKeys,
    throttle: Arc<Throttle>,
}

type Outcome = Result<(), russh::Error>;

impl Handler for ServerSide {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, russh::Error> {
        Ok(match key {
            PublicKeyOrCertificate::PublicKey { key, .. } => self.keys.holds(key),
            PublicKeyOrCertificate::Certificate(_) => false,
        })
    }

    async fn data(&mut self, channel: ChannelId, data: &[u8], _: &mut Session) -> Outcome {
        self.throttle.queued(channel.into(), data.len()).await;
        Ok(())
    }

    async fn extended_data(
        &mut self,
        channel: ChannelId,
        _: u32,
        data: &[u8],
        _: &mut Session,
    ) -> Outcome {
        self.throttle.queued(channel.into(), data.len()).await;
        Ok(())
    }

    async fn exit_signal(
        &mut self,
        channel: ChannelId,
        _: Sig,
        _: bool,
        message: &str,
        language: &str,
        _: &mut Session,
    ) -> Outcome {
        let size = message.len() + language.len();
        self.throttle.queued(channel.into(), size).await;
        Ok(())
    }
}

/// A signed-in connection.
pub(crate) struct Upstream {
    handle: Handle<ServerSide>,
    throttle: Arc<Throttle>,
}

/// One channel of it.
pub(crate) struct ServerChannel {
    pub(crate) write: ChannelWriteHalf<Msg>,
    pub(crate) inputs: Inputs,
    pub(crate) throttle: Arc<Throttle>,
}

impl Upstream {
    /// Connects, proves the server and signs in.
    ///
    /// # Errors
    /// A text for the operator; nothing of the credential was sent to a server that is not proven.
    pub(crate) async fn open<Io>(
        connected: impl Future<Output = Result<Io, String>>,
        backend: &Backend,
        user: &str,
    ) -> Result<Self, String>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let opening = async {
            let io = connected.await?;
            Self::sign_in(io, backend, user).await
        };
        match tokio::time::timeout(CONNECT_TIME_MAX, opening).await {
            Ok(opened) => opened,
            Err(_elapsed) => Err("the server does not answer".to_owned()),
        }
    }

    async fn sign_in<Io>(io: Io, backend: &Backend, user: &str) -> Result<Self, String>
    where
        Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let throttle = Arc::new(Throttle::default());
        let config = Config {
            client_id: SshId::Standard(Cow::Borrowed("SSH-2.0-weir")),
            preferred: preferred(backend.keys.algorithms()),
            limits: limits(),
            window_size: WINDOW_BYTES,
            channel_buffer_size: QUEUE_MESSAGES,
            keepalive_interval: Some(KEEP_ALIVE),
            ..Config::default()
        };
        let side = ServerSide {
            keys: backend.keys.clone(),
            throttle: Arc::clone(&throttle),
        };
        let mut handle = russh::client::connect_stream(Arc::new(config), io, side)
            .await
            .map_err(|error| match error {
                russh::Error::UnknownKey => "the server's key is not the configured one".to_owned(),
                other => other.to_string(),
            })?;
        let user = if backend.user.is_empty() {
            user
        } else {
            &backend.user
        };
        let result = match &backend.login {
            Login::Password(password) => {
                handle.authenticate_password(user, password.as_str()).await
            }
            Login::Key {
                key,
                certificate: None,
            } => {
                let key = PrivateKeyWithHashAlg::new(Arc::clone(key), None);
                handle.authenticate_publickey(user, key).await
            }
            Login::Key {
                key,
                certificate: Some(certificate),
            } => {
                let key = Arc::clone(key);
                let certificate = Certificate::clone(certificate);
                handle
                    .authenticate_openssh_cert(user, key, certificate)
                    .await
            }
        };
        match result {
            Ok(AuthResult::Success) => Ok(Self { handle, throttle }),
            Ok(AuthResult::Failure { .. }) => Err(format!(
                "the server does not take the credential for {user}"
            )),
            Err(error) => Err(error.to_string()),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    pub(crate) async fn session(&self) -> Result<ServerChannel, russh::Error> {
        self.handle
            .channel_open_session()
            .await
            .map(|channel| self.channel(channel))
    }

    pub(crate) async fn forward(
        &self,
        host: &str,
        port: u32,
    ) -> Result<ServerChannel, russh::Error> {
        // Where the agent's own end is, is nothing the server needs to know.
        self.handle
            .channel_open_direct_tcpip(host, port, "127.0.0.1", 0)
            .await
            .map(|channel| self.channel(channel))
    }

    fn channel(&self, channel: Channel<Msg>) -> ServerChannel {
        let id = channel.id();
        let (read, write) = channel.split();
        ServerChannel {
            write,
            inputs: Inputs::new(id, read, Arc::clone(&self.throttle)),
            throttle: Arc::clone(&self.throttle),
        }
    }
}

#[cfg(test)]
mod tests;
