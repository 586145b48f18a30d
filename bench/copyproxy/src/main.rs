//! A byte-copying TCP proxy: what any proxy on the path costs, to compare Weir with.
//!
//! `weir-copyproxy LISTEN UPSTREAM` prints `READY` and copies until it is ended.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// Connections at one time; more wait in the listen queue.
const CONNECTIONS_MAX: usize = 1024;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, upstream] = arguments.as_slice() else {
        bail!("usage: weir-copyproxy LISTEN UPSTREAM");
    };
    let listen: SocketAddr = listen.parse().context("LISTEN is address:port")?;
    let upstream: SocketAddr = upstream.parse().context("UPSTREAM is address:port")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(serve(listen, upstream))
}

async fn serve(listen: SocketAddr, upstream: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("binding {listen}"))?;
    say_ready(listener.local_addr().context("reading the address")?);
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = std::sync::Arc::clone(&places)
            .acquire_owned()
            .await
            .context("a place")?;
        let (client, _) = listener.accept().await.context("accepting")?;
        tokio::spawn(async move {
            // A connection that breaks is the client's to notice.
            let _broken = copy(client, upstream).await;
            drop(place);
        });
    }
}

async fn copy(mut client: TcpStream, upstream: SocketAddr) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

#[expect(
    clippy::print_stdout,
    reason = "the readiness line is this program's interface"
)]
fn say_ready(address: SocketAddr) {
    println!("READY {address}");
}
