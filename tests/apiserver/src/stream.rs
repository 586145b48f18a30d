//! `pods/exec`, `attach` and `portforward`: the upgrade, and what runs behind it.

mod exec;
mod portforward;
mod spdy;
mod websocket;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

use crate::reply::{Failure, Out, Reply};
use crate::resource::Target;
use crate::server::{Query, Server, header};

/// Channels of the remote command protocols.
pub(crate) const STDIN: u8 = 0;
pub(crate) const STDOUT: u8 = 1;
pub(crate) const STDERR: u8 = 2;
pub(crate) const ERROR: u8 = 3;

/// A piece of output and its channel.
pub(crate) type Piece = (u8, Bytes);

/// What runs behind an upgrade.
pub(crate) enum Session {
    Exec(exec::Plan),
    Forward,
}

impl Session {
    /// Over SPDY: streams as the client opens them.
    pub(crate) async fn serve(self, streams: mpsc::Receiver<spdy::Opened>, out: spdy::Frames) {
        match self {
            Session::Exec(plan) => plan.over_spdy(streams, out).await,
            Session::Forward => portforward::serve(streams, out).await,
        }
    }
}

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";

/// Answers the upgrade; the session runs in a task of its own.
pub(crate) fn open(
    server: &Arc<Server>,
    parts: &mut Parts,
    target: &Target,
    query: Query,
) -> Result<Reply, Failure> {
    let forward = target.sub.as_deref() == Some("portforward");
    let websocket = match header(parts, "upgrade").to_ascii_lowercase().as_str() {
        "websocket" => true,
        "spdy/3.1" => false,
        _ => return Err(Failure::bad("Upgrade request required")),
    };
    let session = if forward {
        Session::Forward
    } else {
        Session::Exec(exec::Plan::new(server, target, &query)?)
    };
    let (name, known): (_, &[&str]) = match (websocket, forward) {
        (true, true) => ("sec-websocket-protocol", &[TUNNEL]),
        (true, false) => (
            "sec-websocket-protocol",
            &["v5.channel.k8s.io", "v4.channel.k8s.io"],
        ),
        (false, true) => ("x-stream-protocol-version", &["portforward.k8s.io"]),
        (false, false) => ("x-stream-protocol-version", &["v4.channel.k8s.io"]),
    };
    let values = parts.headers.get_all(name).iter();
    let offered: Vec<String> = values
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(|v| v.trim().to_owned())
        .collect();
    let protocol = known
        .iter()
        .find(|k| offered.iter().any(|o| o == *k))
        .ok_or_else(|| Failure::new(403, "Forbidden", "unable to negotiate a stream protocol"))?;
    let mut reply = Response::new(Out::Full(None));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert("connection", HeaderValue::from_static("Upgrade"));
    let upgraded = if websocket { "websocket" } else { "SPDY/3.1" };
    headers.insert("upgrade", HeaderValue::from_static(upgraded));
    headers.insert(name, HeaderValue::from_static(protocol));
    if websocket {
        let accept = websocket::accept(header(parts, "sec-websocket-key"));
        let accept = HeaderValue::from_str(&accept).map_err(|e| Failure::bad(e.to_string()))?;
        headers.insert("sec-websocket-accept", accept);
    }
    let upgrade = parts
        .extensions
        .remove::<hyper::upgrade::OnUpgrade>()
        .ok_or_else(|| Failure::bad("this connection cannot be upgraded"))?;
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else { return };
        let io = TokioIo::new(upgraded);
        match session {
            Session::Exec(plan) if websocket => websocket::run(io, plan).await,
            Session::Forward if websocket => websocket::tunnel(io).await,
            Session::Exec(_) | Session::Forward => spdy::run(io, session).await,
        }
    });
    Ok(reply)
}
