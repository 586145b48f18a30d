//! `pods/exec`, `attach` and `portforward`: the upgrade, and what runs behind it.

mod exec;
mod websocket;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use hyper_util::rt::TokioIo;

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

/// Answers the upgrade; the session runs in a task of its own.
pub(crate) fn open(
    server: &Arc<Server>,
    parts: &mut Parts,
    target: &Target,
    query: Query,
) -> Result<Reply, Failure> {
    let asked = header(parts, "upgrade").to_ascii_lowercase();
    let sub = target.sub.as_deref().unwrap_or_default();
    if asked != "websocket" || sub == "portforward" {
        return Err(Failure::bad(
            "Upgrade request required: only exec and attach over websocket",
        ));
    }
    let plan = exec::Plan::new(server, target, &query)?;
    let offered = header(parts, "sec-websocket-protocol").to_owned();
    let protocol = offered
        .split(',')
        .map(str::trim)
        .find(|p| matches!(*p, "v5.channel.k8s.io" | "v4.channel.k8s.io"))
        .ok_or_else(|| Failure::bad("no common websocket subprotocol"))?;
    let mut reply = Response::new(Out::Full(None));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert("connection", HeaderValue::from_static("Upgrade"));
    headers.insert("upgrade", HeaderValue::from_static("websocket"));
    let text = |value: &str| HeaderValue::from_str(value).map_err(|e| Failure::bad(e.to_string()));
    headers.insert("sec-websocket-protocol", text(protocol)?);
    let accept = websocket::accept(header(parts, "sec-websocket-key"));
    headers.insert("sec-websocket-accept", text(&accept)?);
    let upgrade = parts
        .extensions
        .remove::<hyper::upgrade::OnUpgrade>()
        .ok_or_else(|| Failure::bad("this connection cannot be upgraded"))?;
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            websocket::run(TokioIo::new(upgraded), plan).await;
        }
    });
    Ok(reply)
}
