//! A small Kubernetes API server for tests: it behaves as a real one for what kubectl does, and writes
//! down every request that reached it.
#![forbid(unsafe_code)]

mod audit;
mod auth;
mod discovery;
mod logs;
mod objects;
mod openapi;
mod patch;
mod protobuf;
mod reply;
mod resource;
mod review;
mod seed;
mod selector;
mod server;
mod store;
mod stream;
mod table;
mod tls;
mod watch;

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// A Kubernetes API server for tests. Ends when its standard input closes, or on SIGTERM.
#[derive(Debug, Parser)]
struct Args {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where `ca.pem`, `admin.token` and `audit.jsonl` are written.
    #[arg(long)]
    dir: PathBuf,
    /// Names and addresses in the certificate, besides localhost and 127.0.0.1.
    #[arg(long, value_delimiter = ',')]
    names: Vec<String>,
    /// Do not end when standard input closes.
    #[arg(long)]
    stay: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let end = runtime.block_on(run(args));
    // A read of standard input cannot be cancelled, so the runtime must not wait for it.
    runtime.shutdown_background();
    end
}

async fn run(args: Args) -> Result<()> {
    std::fs::create_dir_all(&args.dir).with_context(|| args.dir.display().to_string())?;
    let acceptor = tls::acceptor(&args.dir, &args.names)?;
    let server = Arc::new(server::Server::new(&args.dir)?);
    let listener = TcpListener::bind(args.listen).await?;
    let stay = args.stay;
    let mut term = signal(SignalKind::terminate())?;
    writeln!(std::io::stdout(), "READY {}", listener.local_addr()?)?;
    std::io::stdout().flush()?;
    tokio::select! {
        _ = term.recv() => Ok(()),
        () = stdin_closed(), if !stay => Ok(()),
        end = accept(listener, acceptor, server) => end,
    }
}

async fn stdin_closed() {
    let mut stdin = tokio::io::stdin();
    let mut buffer = [0; 64];
    while matches!(stdin.read(&mut buffer).await, Ok(n) if n > 0) {}
}

async fn accept(
    listener: TcpListener,
    acceptor: tokio_rustls::TlsAcceptor,
    server: Arc<server::Server>,
) -> Result<()> {
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            continue;
        };
        // As Go's servers do; without it a reply in two writes waits for the client's delayed ACK.
        if socket.set_nodelay(true).is_err() {
            continue;
        }
        let (acceptor, server) = (acceptor.clone(), Arc::clone(&server));
        tokio::spawn(async move {
            let Ok(tls) = acceptor.accept(socket).await else {
                return;
            };
            let service = service_fn(move |request| {
                let server = Arc::clone(&server);
                async move { Ok::<_, std::convert::Infallible>(server.serve(request).await) }
            });
            let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            // A client that leaves is no news here.
            let _left = builder
                .serve_connection_with_upgrades(TokioIo::new(tls), service)
                .await;
        });
    }
}
