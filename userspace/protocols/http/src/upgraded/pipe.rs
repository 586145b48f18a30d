//! The two ends of an upgraded connection: what is read, and what waits to be written.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::{Duration, timeout};
use weir_govern::{ClientBytes, Forwarded};

/// Of one read.
const READ_BYTES: usize = 32 * 1024;
/// While this much waits to be written to one side, nothing is read from the other.
const WAITING_BYTES_MAX: usize = 256 * 1024;
/// While this much waits for the agent, it is not read either: its own words make answers.
const CROWDED_BYTES: usize = 512 * 1024;
/// For the peer to close as well.
const LINGER: Duration = Duration::from_secs(2);

/// What a side sends.
pub(super) struct Source {
    reader: ReadHalf<TokioIo<Upgraded>>,
    buffer: Box<[u8]>,
}

/// What a side gets.
pub(super) struct Sink {
    writer: WriteHalf<TokioIo<Upgraded>>,
    waiting: BytesMut,
    /// Written, but perhaps still in a buffer of TLS.
    unflushed: bool,
}

pub(super) fn ends(upgraded: Upgraded) -> (Source, Sink) {
    let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
    let source = Source {
        reader,
        buffer: vec![0; READ_BYTES].into(),
    };
    let sink = Sink {
        writer,
        waiting: BytesMut::new(),
        unflushed: false,
    };
    (source, sink)
}

impl Source {
    /// Bytes that arrived; `None` when there will be none. May be dropped at any time.
    pub(super) async fn read(&mut self) -> Option<usize> {
        match self.reader.read(&mut self.buffer).await {
            Ok(0) | Err(_) => None,
            Ok(count) => Some(count),
        }
    }

    /// What the last [`Source::read`] read.
    pub(super) fn taken(&self, count: usize) -> &[u8] {
        self.buffer.get(..count).unwrap_or(&[])
    }

    /// Reads what nobody wants any more, so that the peer gets what was sent to it.
    async fn linger(&mut self) {
        while self.read().await.is_some() {}
    }
}

impl Sink {
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_BYTES_MAX
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.waiting.len() >= CROWDED_BYTES
    }

    pub(super) fn has_bytes(&self) -> bool {
        !self.waiting.is_empty() || self.unflushed
    }

    /// For the agent.
    pub(super) fn show(&mut self, bytes: &ClientBytes) {
        self.waiting.extend_from_slice(bytes.as_bytes());
    }

    /// For the server.
    pub(super) fn forward(&mut self, bytes: Forwarded<Bytes>) {
        self.waiting.extend_from_slice(&bytes.into_inner());
    }

    /// Writes a part of what waits; `None` when the peer takes no more. May be dropped at any time.
    pub(super) async fn write(&mut self) -> Option<()> {
        self.step().await.ok()
    }

    async fn step(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            self.writer.flush().await?;
            self.unflushed = false;
            return Ok(());
        }
        let written = self.writer.write(&self.waiting).await?;
        self.waiting.advance(written);
        self.unflushed = true;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(())
    }

    /// Writes all that waits, and closes.
    pub(super) async fn drain(&mut self, source: &mut Source) {
        while self.has_bytes() {
            if self.step().await.is_err() {
                return;
            }
        }
        if self.writer.shutdown().await.is_ok() {
            // A peer that goes on sending is cut off.
            let _elapsed = timeout(LINGER, source.linger()).await;
        }
    }
}
