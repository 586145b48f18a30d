//! What the agent sees of one request: counted, recorded, and its end noted whatever happens.

use std::cell::RefCell;

use std::sync::Arc;

use bytes::Bytes;
use weir_govern::terminal::{Cast, TooLong};
use weir_govern::{Blocked, Cleared, ClientBytes, Gate, OutputMasking, OwnToClient, Reply};
use weir_mask::{Masked, OutputMasker, OutputPatterns, Shown};

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

/// One of a command's two streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Error,
}

/// A masker for each stream, where policy asks for masks.
struct Maskers {
    output: OutputMasker,
    error: OutputMasker,
}

impl Maskers {
    const fn of(&mut self, stream: Stream) -> &mut OutputMasker {
        match stream {
            Stream::Output => &mut self.output,
            Stream::Error => &mut self.error,
        }
    }
}

/// Dropped early, it records that.
pub(crate) struct Output<'a, G: Gate> {
    gate: &'a G,
    seq: u32,
    maskers: RefCell<Option<Maskers>>,
    reply: RefCell<Option<(Reply, Shown)>>,
    /// What is shown is recorded as a terminal.
    terminal: bool,
    cast: RefCell<Option<Cast>>,
}

impl<'a, G: Gate> Output<'a, G> {
    pub(crate) fn new(
        gate: &'a G,
        cleared: &Cleared,
        cast: Option<Cast>,
        patterns: &OutputPatterns,
    ) -> Self {
        let masking = OutputMasking::of(cleared.permit(), patterns);
        let maskers = masking.wanted(cast.is_some()).map(|patterns| Maskers {
            output: OutputMasker::new(Arc::clone(patterns)),
            error: OutputMasker::new(Arc::clone(patterns)),
        });
        let reply = Reply {
            mask_rules: masking.rules.into(),
            ..Reply::default()
        };
        let keep = cleared.permit().obligations().keep;
        let shown = Shown::new(keep, SAMPLE_BYTES_MAX);
        Self {
            gate,
            seq: cleared.seq(),
            maskers: RefCell::new(maskers),
            reply: RefCell::new(Some((reply, shown))),
            terminal: cast.is_some(),
            cast: RefCell::new(cast),
        }
    }

    /// Output of the server, as far as it is fit for the agent now.
    ///
    /// # Errors
    /// [`Cut`]: end the request.
    pub(crate) fn show(&self, stream: Stream, bytes: Bytes) -> Result<ClientBytes, Cut> {
        self.gate.first_byte(self.seq);
        let shown = match self.maskers.borrow_mut().as_mut() {
            None => ClientBytes::own(OwnToClient::Output, bytes),
            Some(maskers) => self.masked(maskers.of(stream).push(&bytes)),
        };
        self.record(shown)
    }

    /// What was kept back, once nothing came for a moment.
    ///
    /// # Errors
    /// [`Cut`]
    pub(crate) fn paused(&self, stream: Stream) -> Result<Option<ClientBytes>, Cut> {
        self.kept_back(stream, OutputMasker::pause)
    }

    /// What was kept back, once nothing more comes.
    ///
    /// # Errors
    /// [`Cut`]
    pub(crate) fn finished(&self, stream: Stream) -> Result<Option<ClientBytes>, Cut> {
        self.kept_back(stream, OutputMasker::finish)
    }

    fn kept_back(
        &self,
        stream: Stream,
        take: impl FnOnce(&mut OutputMasker) -> Masked,
    ) -> Result<Option<ClientBytes>, Cut> {
        let shown = match self.maskers.borrow_mut().as_mut() {
            None => return Ok(None),
            Some(maskers) => self.masked(take(maskers.of(stream))),
        };
        if shown.as_bytes().is_empty() {
            return Ok(None);
        }
        self.record(shown).map(Some)
    }

    pub(crate) fn holds_back(&self) -> bool {
        self.maskers.borrow().as_ref().is_some_and(|maskers| {
            maskers.output.held_bytes() > 0 || maskers.error.held_bytes() > 0
        })
    }

    fn masked(&self, masked: Masked) -> ClientBytes {
        if let Some((reply, _)) = self.reply.borrow_mut().as_mut() {
            reply.masked_values += masked.masked_values();
        }
        ClientBytes::masked(masked)
    }

    fn record(&self, shown: ClientBytes) -> Result<ClientBytes, Cut> {
        let recorded = self.with_cast(|cast| cast.output(shown.as_bytes(), weir_clock::now()))?;
        self.count(shown.as_bytes(), !recorded);
        Ok(shown)
    }

    /// Input of the agent.
    ///
    /// # Errors
    /// [`Cut`]
    pub(crate) fn typed(&self, bytes: &[u8]) -> Result<(), Cut> {
        if let Some((reply, _)) = self.reply.borrow_mut().as_mut() {
            reply.bytes_in += bytes.len() as u64;
        }
        let mut cast = self.cast.borrow_mut();
        if let Some(cast) = cast.as_mut() {
            cast.input(bytes, weir_clock::now())?;
            // What is typed is recorded before it is sent.
            if let Some(piece) = cast.rest() {
                self.gate.terminal(self.seq, piece)?;
            }
        }
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
        if let Some((_, shown)) = self.reply.borrow_mut().as_mut() {
            if keep {
                shown.add(text);
            } else {
                shown.sent(text);
            }
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
        if let Some((mut reply, shown)) = self.reply.borrow_mut().take() {
            status.clone_into(&mut reply.status);
            let reply = reply.showing(shown, !self.terminal);
            self.gate.complete(self.seq, reply);
        }
    }
}

impl<G: Gate> Drop for Output<'_, G> {
    fn drop(&mut self) {
        self.end("aborted");
    }
}
