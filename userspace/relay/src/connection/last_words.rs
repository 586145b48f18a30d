//! What is still said and heard when a flow closes.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Duration, Instant, timeout, timeout_at};
use weir_govern::CloseReason;

use super::Connection;
use crate::stream::Stream;

/// What is still to be written is given up after this.
const LINGER_MAX: Duration = Duration::from_secs(5);
/// What a client still sends is thrown away for so long, and up to so many bytes; one that has sent
/// nothing for a while waits for an answer.
const DISCARD_MAX: Duration = Duration::from_secs(2);
const QUIET: Duration = Duration::from_millis(200);
const DISCARD_BYTES_MAX: usize = 64 << 20;

impl Connection {
    pub(super) async fn flush_client(&mut self) -> Result<(), CloseReason> {
        let deadline = Instant::now() + LINGER_MAX;
        let flush = std::future::poll_fn(|cx| self.client.poll_drain(cx, &mut self.client_out));
        match timeout_at(deadline, flush).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(CloseReason::ClientLeft),
            Err(_elapsed) => Err(CloseReason::TimedOut),
        }
    }

    /// Last words to both sides.
    pub(super) async fn last_words(&mut self, reason: CloseReason) {
        // In the middle of a message that we take no more of: the client is still writing.
        let interrupts = matches!(
            reason,
            CloseReason::LimitReached | CloseReason::Malformed | CloseReason::Misbehaved
        );
        let told = self.flush_client().await.is_ok();
        if let Some(server) = &mut self.server {
            let out = &mut self.server_out;
            let flush = std::future::poll_fn(|cx| server.poll_drain(cx, out));
            if timeout(LINGER_MAX, flush).await.is_err() {
                tracing::debug!(session = %self.id, "the server did not take the last bytes");
            }
        }
        self.server = None;
        if told && interrupts {
            // libpq that hears of the end while it writes says so, and not why.
            self.discard().await;
        }
        if !told {
            tracing::debug!(session = %self.id, "the agent did not take the last bytes");
        } else if interrupts || matches!(self.client, Stream::Tls(_)) {
            // Without a word of TLS the end is an error to the client (RFC 8446, section 6.1): libpq
            // says so of each cancel request.
            let said = timeout(LINGER_MAX, self.client.shutdown()).await;
            tracing::trace!(session = %self.id, ?said, "end of the agent's side");
        }
        if interrupts {
            self.discard().await;
        }
    }

    /// A socket that is closed with bytes unread is reset, and the client sees that instead of why.
    async fn discard(&mut self) {
        let mut buffer = vec![0; 64 << 10];
        let mut left = DISCARD_BYTES_MAX;
        let deadline = Instant::now() + DISCARD_MAX;
        while left > 0 && Instant::now() < deadline {
            match timeout(QUIET, self.client.read(&mut buffer)).await {
                Ok(Ok(0) | Err(_)) | Err(_) => return,
                Ok(Ok(count)) => left = left.saturating_sub(count),
            }
        }
    }
}
