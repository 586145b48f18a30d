//! What the agent sees of one request: counted, recorded, and its end noted whatever happens.

use std::cell::RefCell;

use bytes::Bytes;
use weir_govern::terminal::{Cast, TooLong};
use weir_govern::{Blocked, Cleared, ClientBytes, Gate, OwnToClient, Reply};

/// Bytes of output without a terminal that the record keeps.
const SAMPLE_BYTES_MAX: usize = 16 * 1024;

/// The rest may not be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Cut {
    #[error("weir: this cannot be recorded any more, so it is ended")]
    NotRecorded,
    #[error("weir: this terminal showed more than what is recorded of one (64 MiB)")]
    TooLong,
}

impl From<TooLong> for Cut {
    fn from(TooLong: TooLong) -> Self {
        Self::TooLong
    }
}

impl From<Blocked> for Cut {
    fn from(_: Blocked) -> Self {
        Self::NotRecorded
    }
}

/// Dropped early, it records that.
pub(crate) struct Output<'a, G: Gate> {
    gate: &'a G,
    seq: u32,
    reply: RefCell<Option<Reply>>,
    cast: RefCell<Option<Cast>>,
}

impl<'a, G: Gate> Output<'a, G> {
    pub(crate) fn new(gate: &'a G, cleared: &Cleared, cast: Option<Cast>) -> Self {
        Self {
            gate,
            seq: cleared.seq(),
            reply: RefCell::new(Some(Reply::default())),
            cast: RefCell::new(cast),
        }
    }

    /// Output of the server, fit for the agent.
    ///
    /// # Errors
    /// [`Cut`]: end the request.
    pub(crate) fn show(&self, bytes: Bytes) -> Result<ClientBytes, Cut> {
        let shown = ClientBytes::own(OwnToClient::Output, bytes);
        self.gate.first_byte(self.seq);
        let recorded = self.with_cast(|cast| cast.output(shown.as_bytes(), weir_clock::now()))?;
        self.count(shown.as_bytes(), !recorded);
        Ok(shown)
    }

    /// Input of the agent.
    ///
    /// # Errors
    /// [`Cut`]
    pub(crate) fn typed(&self, bytes: &[u8]) -> Result<(), Cut> {
        self.with_cast(|cast| cast.input(bytes, weir_clock::now()))?;
        Ok(())
    }

    /// # Errors
    /// [`Cut`]
    pub(crate) fn resized(&self, columns: u32, rows: u32) -> Result<(), Cut> {
        self.with_cast(|cast| cast.resize(columns, rows, weir_clock::now()))?;
        Ok(())
    }

    /// Records what a quiet terminal showed last.
    ///
    /// # Errors
    /// [`Cut`]
    pub(crate) fn tick(&self) -> Result<(), Cut> {
        self.with_cast(|_| Ok(()))?;
        Ok(())
    }

    pub(crate) fn has_terminal(&self) -> bool {
        self.cast.borrow().is_some()
    }

    fn with_cast(&self, event: impl FnOnce(&mut Cast) -> Result<(), TooLong>) -> Result<bool, Cut> {
        let mut cast = self.cast.borrow_mut();
        let Some(cast) = cast.as_mut() else {
            return Ok(false);
        };
        event(cast)?;
        if let Some(piece) = cast.due(weir_clock::now()) {
            self.gate.terminal(self.seq, piece)?;
        }
        Ok(true)
    }

    fn count(&self, text: &[u8], keep: bool) {
        let mut reply = self.reply.borrow_mut();
        let Some(reply) = reply.as_mut() else {
            return;
        };
        reply.bytes_out += text.len() as u64;
        if keep {
            let room = SAMPLE_BYTES_MAX.saturating_sub(reply.response_masked.len());
            reply.truncated |= text.len() > room;
            let kept = text.get(..room.min(text.len())).unwrap_or(&[]);
            reply
                .response_masked
                .push_str(&String::from_utf8_lossy(kept));
        }
    }

    /// The request is over.
    pub(crate) fn end(&self, status: &str) {
        let piece = self
            .cast
            .borrow_mut()
            .take()
            .and_then(|mut cast| cast.rest());
        if let Some(piece) = piece
            && self.gate.terminal(self.seq, piece).is_err()
        {
            tracing::error!("the end of a terminal is not recorded");
        }
        if let Some(mut reply) = self.reply.borrow_mut().take() {
            status.clone_into(&mut reply.status);
            self.gate.complete(self.seq, reply);
        }
    }
}

impl<G: Gate> Drop for Output<'_, G> {
    fn drop(&mut self) {
        self.end("aborted");
    }
}
