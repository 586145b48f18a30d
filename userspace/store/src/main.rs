//! `weir-store`: the ClickHouse engine of one node behind ClickHouse's HTTP interface.
//!
//! A small front over the engine's shared library, for setups without a ClickHouse of their own.
//! Whoever can send SQL to this engine can do what its process can do, so the process can do
//! little (Landlock, before the library is loaded), and readers' SQL is checked and wrapped.

#![deny(unsafe_code)]

mod answer;
mod engine;
mod frames;
mod request;
mod sandbox;
mod server;
mod sql;

use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Parser;
use sha2::{Digest, Sha256};

/// The library that this front was tested with: chdb 26.7.3-stable.1 for x86_64.
const LIBRARY_SHA256: &str = "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5";
/// A bearer shorter than this can be guessed.
const TOKEN_BYTES_MIN: usize = 16;

#[derive(Parser)]
#[command(
    name = "weir-store",
    version,
    about = "The ClickHouse engine of one node, over HTTP on loopback",
    after_help = "Example:\n  weir-store --library libchdb.so --data /var/lib/weir-store \\\n    \
                  --writer-token writer --reader-token reader --migrator-token migrator"
)]
struct Arguments {
    /// The engine's shared library
    #[arg(long, value_name = "FILE")]
    library: PathBuf,
    /// SHA-256 that the library must have
    #[arg(long, value_name = "HEX", default_value = LIBRARY_SHA256)]
    library_sha256: String,
    /// Data directory; one process per directory
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Loopback address to serve; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8123")]
    listen: SocketAddr,
    /// File with the bearer that may insert facts and batches
    #[arg(long, value_name = "FILE")]
    writer_token: PathBuf,
    /// File with the bearer that may ask
    #[arg(long, value_name = "FILE")]
    reader_token: PathBuf,
    /// File with the bearer that may change the schema
    #[arg(long, value_name = "FILE")]
    migrator_token: PathBuf,
    /// Bytes of memory that the engine may use
    #[arg(long, value_name = "BYTES", default_value_t = 1_500_000_000)]
    memory: u64,
}

#[expect(clippy::print_stdout, reason = "READY is what a supervisor waits for")]
fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env()
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info")),
        )
        .init();
    let arguments = Arguments::parse();
    if !arguments.listen.ip().is_loopback() {
        bail!("{} is not a loopback address", arguments.listen);
    }
    let bearers = bearers(&arguments)?;
    std::fs::create_dir_all(&arguments.data)
        .with_context(|| format!("making {}", arguments.data.display()))?;
    let data = std::fs::canonicalize(&arguments.data)
        .with_context(|| format!("opening {}", arguments.data.display()))?;
    let library = verified(&arguments.library, &arguments.library_sha256)?;
    let listener = std::net::TcpListener::bind(arguments.listen)
        .with_context(|| format!("listening on {}", arguments.listen))?;
    listener.set_nonblocking(true).context("listening")?;
    let address = listener.local_addr().context("listening")?;
    // Before any other thread exists: each inherits the fence.
    sandbox::enter(&data, &arguments.library)?;
    // The descriptor that was hashed is the one that is loaded.
    let descriptor = PathBuf::from(format!("/proc/self/fd/{}", library.as_raw_fd()));
    let engine = engine::Engine::load(&descriptor, &data, arguments.memory)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    tracing::info!(version = %engine.version(), "engine loaded");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(64)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).context("listening")?;
        println!("READY http://{address}");
        std::io::stdout().flush().context("announcing")?;
        server::serve(listener, Arc::new(engine), Arc::new(bearers)).await
    })
}

fn bearers(arguments: &Arguments) -> Result<request::Bearers> {
    let bearers = request::Bearers {
        writer: token(&arguments.writer_token)?,
        reader: token(&arguments.reader_token)?,
        migrator: token(&arguments.migrator_token)?,
    };
    let same = bearers.writer == bearers.reader
        || bearers.reader == bearers.migrator
        || bearers.writer == bearers.migrator;
    if same {
        bail!("two of the bearers are the same: each role needs its own");
    }
    Ok(bearers)
}

fn token(path: &Path) -> Result<String> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let text = text.trim();
    if text.len() < TOKEN_BYTES_MIN {
        bail!("the bearer in {} is empty or too short", path.display());
    }
    Ok(text.to_owned())
}

/// Opens the library and compares its hash with the one expected.
fn verified(path: &Path, expected: &str) -> Result<File> {
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        let read = file
            .read(&mut piece)
            .with_context(|| format!("reading {}", path.display()))?;
        if read == 0 {
            break;
        }
        hasher.update(piece.get(..read).unwrap_or(&[]));
    }
    let found: String = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if found != expected.to_ascii_lowercase() {
        bail!(
            "{} has SHA-256 {found}, expected {expected}",
            path.display()
        );
    }
    Ok(file)
}
