//! Flows to protected servers: from the workload's own namespace, encrypted and proven where the
//! target says so.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use weir_model::addr::NetnsCookie;

use crate::node::{Node, Target};
use crate::stream::Stream;

/// Opens a flow to the server.
///
/// # Errors
/// A text for the operator.
pub(crate) async fn tcp(
    node: &Node,
    netns: NetnsCookie,
    server: SocketAddr,
) -> Result<TcpStream, String> {
    let server = SocketAddr::new(server.ip().to_canonical(), server.port());
    let socket = node
        .host
        .upstream(netns, server.is_ipv6())
        .await
        .map_err(|error| error.to_string())?;
    let socket = TcpSocket::from_std_stream(socket.into());
    let stream = socket
        .connect(server)
        .await
        .map_err(|error| error.to_string())?;
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    Ok(stream)
}

/// The same for a protocol that asks for TLS inside its own stream. With `upstream_tls` the result
/// is encrypted, and the server is the one that the target names.
///
/// # Errors
/// A text for the operator. Nothing but the request for TLS was sent then.
pub(crate) async fn stream(
    node: &Node,
    target: &Target,
    netns: NetnsCookie,
    server: SocketAddr,
) -> Result<Stream, String> {
    let mut stream = tcp(node, netns, server).await?;
    let Some(tls) = &target.upstream_tls else {
        return Ok(Stream::Plain(stream));
    };
    if let Some((request, consent)) = target.protocol.tls_request() {
        stream
            .write_all(request)
            .await
            .map_err(|error| error.to_string())?;
        // One byte: what may stand behind it was not encrypted (CVE-2021-23222).
        let answer = stream.read_u8().await.map_err(|error| error.to_string())?;
        if answer != consent {
            return Err("the server does not speak TLS, and the target demands it".to_owned());
        }
    }
    let stream = tls
        .connector
        .connect(tls.name.clone(), stream)
        .await
        .map_err(|error| format!("TLS with the server: {error}"))?;
    Ok(Stream::Tls(Box::new(stream.into())))
}
