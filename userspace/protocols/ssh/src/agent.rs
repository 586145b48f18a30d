//! The agent's end: russh's callbacks, turned into channels for the flow's thread.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use russh::keys::Certificate;
use russh::server::{Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Response, Session};
use russh::server::{Config, VerifiedPublicKey};
use russh::{Channel, ChannelId, ChannelOpenFailure, ChannelWriteHalf, Pty, Sig, SshId};
use tokio::sync::mpsc;

use crate::inputs::Inputs;
use crate::keys::HostIdentity;
use crate::throttle::{QUEUE_MESSAGES, Throttle};
use crate::upstream::{WINDOW_BYTES, limits, preferred};

/// Channels that one connection may have open.
const CHANNELS_MAX: usize = 256;
/// Of the name of an account or a host.
const NAME_BYTES_MAX: usize = 255;
/// Of what is recorded of something that is refused.
const REFUSED_BYTES_MAX: usize = 512;
/// Keep-alives (RFC 4254, 4) show that an agent that waits for a reviewer is still there.
const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(30);

/// A channel that the agent opened.
pub(crate) enum Opened {
    Session(AgentChannel),
    /// Not accepted yet.
    Forward {
        channel: AgentChannel,
        reply: ChannelOpenHandle,
        host: String,
        port: u32,
    },
    /// Something that is not supported; refused already, to be recorded.
    Refused(String),
}

pub(crate) struct AgentChannel {
    pub(crate) id: ChannelId,
    /// Counts this channel for as long as it lives.
    _open: Arc<()>,
    pub(crate) write: ChannelWriteHalf<Msg>,
    pub(crate) inputs: Inputs,
}

/// Whether the agent may sign in.
#[derive(Clone)]
pub(crate) enum Admission {
    Granted,
    /// Text for the agent.
    Refused(String),
}

/// russh's callbacks for one connection.
pub(crate) struct AgentSide {
    pub(crate) admission: Admission,
    pub(crate) user: Arc<Mutex<String>>,
    pub(crate) opened: mpsc::Sender<Opened>,
    pub(crate) throttle: Arc<Throttle>,
    pub(crate) open_channels: Arc<()>,
}

pub(crate) fn config(host: &HostIdentity) -> Config {
    Config {
        server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-weir")),
        keys: vec![host.key.clone()],
        certificates: vec![host.certificate.clone()],
        preferred: preferred(vec![host.key.algorithm()]),
        limits: limits(),
        window_size: WINDOW_BYTES,
        channel_buffer_size: QUEUE_MESSAGES,
        max_auth_attempts: 10,
        auth_rejection_time: std::time::Duration::from_millis(100),
        inactivity_timeout: None,
        keepalive_interval: Some(KEEP_ALIVE),
        keepalive_max: 3,
        ..Config::default()
    }
}

impl AgentSide {
    /// Who asks is known from the kernel; what is offered here proves nothing more and is not kept.
    fn admit(&self, user: &str) -> Auth {
        match self.admission {
            Admission::Granted if !(1..=NAME_BYTES_MAX).contains(&user.len()) => Auth::reject(),
            Admission::Granted => {
                user.clone_into(&mut self.user.lock().unwrap_or_else(PoisonError::into_inner));
                Auth::Accept
            }
            Admission::Refused(_) => Auth::reject(),
        }
    }

    async fn refused(&self, mut what: String) {
        what.truncate(what.floor_char_boundary(REFUSED_BYTES_MAX));
        self.tell(Opened::Refused(what)).await;
    }

    /// Without a receiver the flow is over.
    async fn tell(&self, opened: Opened) {
        drop(self.opened.send(opened).await);
    }

    fn channel(&self, channel: Channel<Msg>) -> AgentChannel {
        let id = channel.id();
        let (read, write) = channel.split();
        AgentChannel {
            id,
            _open: Arc::clone(&self.open_channels),
            write,
            inputs: Inputs::new(id, read, Arc::clone(&self.throttle)),
        }
    }

    fn has_room(&self) -> bool {
        Arc::strong_count(&self.open_channels) <= CHANNELS_MAX
    }
}

type Outcome = Result<(), russh::Error>;

impl Handler for AgentSide {
    type Error = russh::Error;

    async fn auth_none(&mut self, user: &str) -> Result<Auth, Self::Error> {
        Ok(self.admit(user))
    }

    async fn auth_password(&mut self, user: &str, _: &str) -> Result<Auth, Self::Error> {
        Ok(self.admit(user))
    }

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        _: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.admit(user))
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        _: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.admit(user))
    }

    async fn auth_openssh_certificate(
        &mut self,
        user: &str,
        _: &Certificate,
    ) -> Result<Auth, Self::Error> {
        Ok(self.admit(user))
    }

    async fn auth_keyboard_interactive<'a>(
        &'a mut self,
        user: &str,
        _: &str,
        _: Option<Response<'a>>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.admit(user))
    }

    async fn authentication_banner(&mut self) -> Result<Option<String>, Self::Error> {
        Ok(match &self.admission {
            Admission::Granted => None,
            Admission::Refused(text) => Some(format!("{text}\r\n")),
        })
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Outcome {
        if !self.has_room() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            self.refused("another session on this connection".to_owned())
                .await;
            return Ok(());
        }
        let channel = self.channel(channel);
        reply.accept().await;
        self.tell(Opened::Session(channel)).await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Outcome {
        if !self.has_room() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            self.refused("another connection from the host".to_owned())
                .await;
            return Ok(());
        }
        if host.len() > NAME_BYTES_MAX || port > u32::from(u16::MAX) {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            self.refused(format!("a connection to {host}:{port}")).await;
            return Ok(());
        }
        let opened = Opened::Forward {
            channel: self.channel(channel),
            reply,
            host: host.to_owned(),
            port,
        };
        self.tell(opened).await;
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Outcome {
        reply
            .reject(ChannelOpenFailure::AdministrativelyProhibited)
            .await;
        self.refused("an X11 channel".to_owned()).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Outcome {
        reply
            .reject(ChannelOpenFailure::AdministrativelyProhibited)
            .await;
        self.refused(format!("a connection to the socket {path} of the host"))
            .await;
        Ok(())
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Outcome {
        reply
            .reject(ChannelOpenFailure::AdministrativelyProhibited)
            .await;
        self.refused("a forwarded-tcpip channel from the agent".to_owned())
            .await;
        Ok(())
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

    // What a channel asks for is answered at once and decided when it starts something: clients
    // send these without waiting, and russh keeps one pending answer per channel.

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        term: &str,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        _: &[(Pty, u32)],
        session: &mut Session,
    ) -> Outcome {
        self.throttle.queued(channel.into(), term.len()).await;
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Outcome {
        let size = name.len() + value.len();
        self.throttle.queued(channel.into(), size).await;
        if crate::session::passes(name) {
            session.channel_success(channel)
        } else {
            session.channel_failure(channel)
        }
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Outcome {
        self.throttle.queued(channel.into(), 0).await;
        session.channel_success(channel)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Outcome {
        self.throttle.queued(channel.into(), command.len()).await;
        session.channel_success(channel)
    }

    async fn subsystem_request(
        &mut self,
        channel: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Outcome {
        self.throttle.queued(channel.into(), name.len()).await;
        if name == "sftp" {
            session.channel_success(channel)
        } else {
            session.channel_failure(channel)
        }
    }

    async fn window_change_request(
        &mut self,
        channel: ChannelId,
        _: u32,
        _: u32,
        _: u32,
        _: u32,
        session: &mut Session,
    ) -> Outcome {
        self.throttle.queued(channel.into(), 0).await;
        session.channel_success(channel)
    }

    async fn signal(&mut self, channel: ChannelId, _: Sig, _: &mut Session) -> Outcome {
        self.throttle.queued(channel.into(), 0).await;
        Ok(())
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _: bool,
        protocol: &str,
        cookie: &str,
        _: u32,
        session: &mut Session,
    ) -> Outcome {
        let size = protocol.len() + cookie.len();
        self.throttle.queued(channel.into(), size).await;
        self.refused("X11 forwarding".to_owned()).await;
        session.channel_failure(channel)
    }

    async fn agent_request(
        &mut self,
        channel: ChannelId,
        _: &mut Session,
    ) -> Result<bool, Self::Error> {
        self.throttle.queued(channel.into(), 0).await;
        self.refused("forwarding of the key agent".to_owned()).await;
        Ok(false)
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        _: &mut Session,
    ) -> Result<bool, Self::Error> {
        self.refused(format!("listening on {address}:{port} of the host"))
            .await;
        Ok(false)
    }

    async fn streamlocal_forward(
        &mut self,
        path: &str,
        _: &mut Session,
    ) -> Result<bool, Self::Error> {
        self.refused(format!("listening on the socket {path} of the host"))
            .await;
        Ok(false)
    }
}
