//! Forwarded ports: each data stream is a connection to 127.0.0.1 at the port it names.

use std::collections::BTreeMap;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::spdy::{Frames, Opened};

/// Serves the pairs of error and data streams that the client opens.
pub(crate) async fn serve(mut streams: mpsc::Receiver<Opened>, out: Frames) {
    let mut errors = BTreeMap::new();
    while let Some(stream) = streams.recv().await {
        let header = |name: &str| stream.headers.get(name).cloned().unwrap_or_default();
        let request = header("requestid");
        if header("streamtype") == "error" {
            errors.insert(request, stream.id);
            continue;
        }
        let Some(error) = errors.remove(&request) else {
            continue;
        };
        let port = header("port").parse().unwrap_or(0);
        tokio::spawn(forward(stream, port, error, out.clone()));
    }
}

async fn forward(mut stream: Opened, port: u16, error: u32, out: Frames) {
    let socket = match TcpStream::connect(("127.0.0.1", port)).await {
        Ok(socket) => socket,
        Err(why) => {
            let text = format!("error forwarding port {port}: {why}");
            out.data(error, true, text.as_bytes()).await;
            out.data(stream.id, true, &[]).await;
            return;
        }
    };
    let (mut from, mut to) = socket.into_split();
    tokio::spawn(async move {
        while let Some(data) = stream.input.recv().await {
            if to.write_all(&data).await.is_err() {
                return;
            }
        }
        // The other side may have closed already.
        let _closed = to.shutdown().await;
    });
    let mut buffer = vec![0; 32 * 1024];
    while let Ok(read) = from.read(&mut buffer).await {
        let data = buffer.get(..read).unwrap_or_default();
        if data.is_empty() || !out.data(stream.id, false, data).await {
            break;
        }
    }
    out.data(stream.id, true, &[]).await;
    out.data(error, true, &[]).await;
}
