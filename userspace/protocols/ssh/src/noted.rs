//! The end of a request, noted whatever happens to its task.

use std::cell::Cell;

use weir_govern::{Gate, Reply};
use weir_mask::Digest;

/// Dropped early, it records that.
pub(crate) struct Noted<'a, G: Gate> {
    gate: &'a G,
    seq: u32,
    over: Cell<bool>,
}

impl<'a, G: Gate> Noted<'a, G> {
    pub(crate) const fn new(gate: &'a G, seq: u32) -> Self {
        Self {
            gate,
            seq,
            over: Cell::new(false),
        }
    }

    /// The first end counts.
    pub(crate) fn end(&self, status: &str) {
        self.end_sent(status, 0, Digest::default());
    }

    /// The same with what the agent was sent.
    pub(crate) fn end_sent(&self, status: &str, bytes_out: u64, digest: Digest) {
        if self.over.replace(true) {
            return;
        }
        let reply = Reply {
            status: status.to_owned(),
            bytes_out,
            digest: digest.value(),
            ..Reply::default()
        };
        self.gate.complete(self.seq, reply);
    }

    /// Something else notes it from now on.
    pub(crate) fn hand_over(self) {
        self.over.set(true);
    }
}

impl<G: Gate> Drop for Noted<'_, G> {
    fn drop(&mut self) {
        self.end("aborted");
    }
}
