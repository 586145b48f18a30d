//! One flow: the agent's connection, its channels, and the one connection to the server.

use std::future::Future;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::Disconnect;
use russh::server::Handle;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use weir_govern::Gate;
use weir_mask::OutputPatterns;

use crate::agent::{self, Admission, AgentSide, Opened};
use crate::keys::HostIdentity;
use crate::question::Place;
use crate::throttle::Throttle;
use crate::upstream::{Backend, ServerChannel, Upstream};
use crate::{forward, session};

/// Version, key exchange and sign-in of the agent.
const SIGN_IN_TIME_MAX: Duration = Duration::from_secs(60);
/// Channels that were opened and not taken yet.
const OPENED_MAX: usize = 16;
/// After the agent left: for what its channels still have to record.
const LAST_TIME_MAX: Duration = Duration::from_secs(5);

/// For an agent to take its last message and close.
const GOOD_BYE_TIME_MAX: Duration = Duration::from_secs(2);

/// Opens a connection to the target.
pub trait Connect: 'static {
    type Io: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// # Errors
    /// A text for the operator.
    fn connect(&self) -> impl Future<Output = Result<Self::Io, String>>;
}

/// Serves a connection that is not let in: the text is its banner, and its sign-in fails.
pub async fn turn_away<Io>(stream: Io, identity: &HostIdentity, text: String)
where
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (opened, _nothing) = mpsc::channel(OPENED_MAX);
    let side = AgentSide {
        admission: Admission::Refused(text),
        user: Arc::default(),
        opened,
        throttle: Arc::new(Throttle::default()),
        open_channels: Arc::new(()),
    };
    let starting = russh::server::run_stream(Arc::new(agent::config(identity)), stream, side);
    let Ok(Ok(running)) = timeout(SIGN_IN_TIME_MAX, starting).await else {
        return;
    };
    let handle = running.handle();
    tokio::pin!(running);
    match timeout(SIGN_IN_TIME_MAX, &mut running).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an agent was turned away"),
        // russh's task is its own; left alone it would serve this agent for ever.
        Err(_elapsed) => {
            let text = "weir: the sign-in took too long".to_owned();
            say_good_bye(&handle, running, text).await;
        }
    }
}

/// What the channels of one flow share.
pub struct Flow<G, C> {
    pub gate: G,
    connect: C,
    target: Arc<str>,
    backend: Backend,
    patterns: OutputPatterns,
    upstream: tokio::sync::Mutex<Option<Rc<Upstream>>>,
}

/// How a flow came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    ClientLeft,
    /// It did not sign in, in time or at all.
    NoSignIn,
    Malformed,
    Killed,
}

impl<G: Gate + 'static, C: Connect> Flow<G, C> {
    #[must_use]
    pub const fn new(
        gate: G,
        connect: C,
        target: Arc<str>,
        backend: Backend,
        patterns: OutputPatterns,
    ) -> Self {
        Self {
            patterns,
            gate,
            connect,
            target,
            backend,
            upstream: tokio::sync::Mutex::const_new(None),
        }
    }

    /// What is masked in output, where policy asks for that.
    pub(crate) const fn patterns(&self) -> &OutputPatterns {
        &self.patterns
    }

    pub(crate) fn place(&self, requested: &str) -> Place {
        let requested: Arc<str> = Arc::from(requested);
        let user = if self.backend.user.is_empty() {
            Arc::clone(&requested)
        } else {
            Arc::from(self.backend.user.as_str())
        };
        Place {
            target: Arc::clone(&self.target),
            user,
            requested,
        }
    }

    /// The connection to the server, made when the first channel needs it.
    pub(crate) async fn upstream(&self, requested: &str) -> Result<Rc<Upstream>, String> {
        let mut upstream = self.upstream.lock().await;
        if let Some(open) = upstream.as_ref().filter(|open| !open.is_closed()) {
            return Ok(Rc::clone(open));
        }
        let opened = Upstream::open(self.connect.connect(), &self.backend, requested).await?;
        let opened = Rc::new(opened);
        *upstream = Some(Rc::clone(&opened));
        Ok(opened)
    }
}

impl<G: Gate + 'static, C: Connect> Flow<G, C> {
    /// A session channel of the server; the text is for the agent.
    pub(crate) async fn server_session(
        &self,
        place: &Place,
    ) -> Result<ServerChannel, &'static str> {
        let opened = match self.upstream(&place.requested).await {
            Ok(upstream) => upstream.session().await.map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        opened.map_err(|error| {
            tracing::warn!(%error, "the SSH server cannot be used");
            "weir: the server cannot be reached or does not take Weir's credential"
        })
    }
}

/// Serves one connection until it is closed. `kill` ends it with a text for the agent. Has to run
/// inside a `LocalSet`.
pub async fn serve<G, C, Io>(
    flow: Rc<Flow<G, C>>,
    stream: Io,
    identity: &HostIdentity,
    kill: impl Future<Output = String>,
) -> Ending
where
    G: Gate + 'static,
    C: Connect,
    Io: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (opened_sender, mut opened) = mpsc::channel(OPENED_MAX);
    let user = Arc::new(Mutex::new(String::new()));
    let side = AgentSide {
        admission: Admission::Granted,
        user: Arc::clone(&user),
        opened: opened_sender,
        throttle: Arc::new(Throttle::default()),
        open_channels: Arc::new(()),
    };
    let config = Arc::new(agent::config(identity));
    let starting = russh::server::run_stream(config, stream, side);
    let running = match timeout(SIGN_IN_TIME_MAX, starting).await {
        Ok(Ok(running)) => running,
        Ok(Err(error)) => {
            tracing::info!(%error, "SSH with the agent did not begin");
            return Ending::Malformed;
        }
        Err(_elapsed) => return Ending::NoSignIn,
    };
    let handle = running.handle();
    tokio::pin!(running, kill);
    let deadline = sleep(SIGN_IN_TIME_MAX);
    tokio::pin!(deadline);
    let mut channels = JoinSet::new();
    let user = || user.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let mut waits_for_sign_in = true;
    let ending = loop {
        tokio::select! {
            ended = &mut running => {
                if let Err(error) = ended {
                    tracing::info!(%error, "SSH with the agent ended");
                }
                break if user().is_empty() { Ending::NoSignIn } else { Ending::ClientLeft };
            }
            Some(new) = opened.recv() => {
                let place = flow.place(&user());
                open(&flow, &mut channels, new, place, handle.clone());
            }
            Some(_over) = channels.join_next() => {}
            text = &mut kill => {
                // First: an agent that reads slowly must not go on meanwhile.
                channels.shutdown().await;
                say_good_bye(&handle, running, text).await;
                break Ending::Killed;
            }
            () = &mut deadline, if waits_for_sign_in => {
                waits_for_sign_in = false;
                if user().is_empty() {
                    let text = "weir: the sign-in took too long".to_owned();
                    say_good_bye(&handle, running, text).await;
                    break Ending::NoSignIn;
                }
            }
        }
    };
    // Their inputs are closed now, so they come to an end by themselves.
    drop(opened);
    if ending == Ending::ClientLeft {
        let last = async { while channels.join_next().await.is_some() {} };
        if timeout(LAST_TIME_MAX, last).await.is_err() {
            tracing::info!("channels of a flow had to be ended");
        }
    }
    // What they note of their ends comes before the flow's own.
    channels.shutdown().await;
    ending
}

/// Ends with what russh's task does once it has written this, and the agent has closed.
async fn say_good_bye<T>(handle: &Handle, running: impl Future<Output = T>, text: String) {
    let said = async {
        if handle
            .disconnect(Disconnect::ByApplication, text, String::new())
            .await
            .is_ok()
        {
            running.await;
        }
    };
    if timeout(GOOD_BYE_TIME_MAX, said).await.is_err() {
        tracing::info!("an agent did not take its last message in time");
    }
}

fn open<G: Gate + 'static, C: Connect>(
    flow: &Rc<Flow<G, C>>,
    channels: &mut JoinSet<()>,
    new: Opened,
    place: Place,
    handle: Handle,
) {
    let flow = Rc::clone(flow);
    match new {
        Opened::Session(channel) => {
            channels.spawn_local(session::run(flow, channel, place, handle));
        }
        Opened::Forward {
            channel,
            reply,
            host,
            port,
        } => {
            let asked = forward::Asked {
                channel,
                reply,
                host,
                port,
            };
            channels.spawn_local(forward::run(flow, asked, place));
        }
        Opened::Refused(what) => {
            let reason = format!("weir: {what} is not supported");
            flow.gate
                .refuse("weir:unsupported", &reason, Arc::from(what));
        }
    }
}
