//! Connections from the host (`direct-tcpip`, RFC 4254, 7.2): decided by destination, carried as
//! they are.

use std::rc::Rc;

use bytes::Bytes;
use russh::server::ChannelOpenHandle;
use russh::{ChannelMsg, ChannelOpenFailure};
use weir_govern::{Cleared, Gate};
use weir_mask::Digest;

use crate::agent::AgentChannel;
use crate::noted::Noted;
use crate::question::Place;
use crate::serve::{Connect, Flow};
use crate::session::{Refused, ask};
use crate::upstream::ServerChannel;

/// What the agent asked for.
pub(crate) struct Asked {
    pub(crate) channel: AgentChannel,
    pub(crate) reply: ChannelOpenHandle,
    pub(crate) host: String,
    pub(crate) port: u32,
}

pub(crate) async fn run<G, C>(flow: Rc<Flow<G, C>>, asked: Asked, place: Place)
where
    G: Gate + 'static,
    C: Connect,
{
    let Asked {
        mut channel,
        reply,
        host,
        port,
    } = asked;
    let request = place.forward(&host, port);
    let cleared = match ask(&flow.gate, request, &mut channel.inputs).await {
        Ok(cleared) => cleared,
        Err(Refused::Left) => return,
        Err(Refused::Said(_)) => {
            return reply
                .reject(ChannelOpenFailure::AdministrativelyProhibited)
                .await;
        }
    };
    let noted = Noted::new(&flow.gate, cleared.seq());
    let server = match flow.upstream(&place.requested).await {
        Ok(upstream) => upstream
            .forward(&host, port)
            .await
            .map_err(|e| e.to_string()),
        Err(text) => Err(text),
    };
    match server {
        Ok(server) => {
            reply.accept().await;
            let (bytes, digest) = carry(&cleared, &mut channel, server).await;
            noted.end_sent("ok", bytes, digest);
            // Whoever left first: the other side is told.
            drop(channel.write.eof().await);
            drop(channel.write.close().await);
        }
        Err(error) => {
            tracing::info!(%error, "a destination cannot be reached");
            noted.end("unreachable");
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
        }
    }
}

/// Returns how many bytes went to the agent and their digest, once one side closed.
async fn carry(
    cleared: &Cleared,
    agent: &mut AgentChannel,
    server: ServerChannel,
) -> (u64, Digest) {
    let ServerChannel {
        write,
        mut inputs,
        throttle,
    } = server;
    let (mut shown, mut digest) = (0, Digest::default());
    let agent_throttle = agent.inputs.throttle();
    let to_server = async {
        while let Some(message) = agent.inputs.next().await {
            let sent = match message {
                ChannelMsg::Data { data } => {
                    let _writing = throttle.writing();
                    let data: Bytes = cleared.forward(data).into_inner();
                    write.data_bytes(data).await
                }
                ChannelMsg::Eof => write.eof().await,
                _ => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
    };
    let to_agent = async {
        while let Some(message) = inputs.next().await {
            let sent = match message {
                ChannelMsg::Data { data } => {
                    let _writing = agent_throttle.writing();
                    shown += data.len() as u64;
                    digest.add(&data);
                    agent.write.data_bytes(data).await
                }
                ChannelMsg::Eof => agent.write.eof().await,
                _ => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = to_server => {}
        () = to_agent => {}
    }
    drop(write.close().await);
    (shown, digest)
}
