//! Where a program's output is masked.

use std::sync::Arc;

use weir_kubernetes::stream::{Kind, Stream};
use weir_mask::{Masked, OutputMasker, Patterns};

/// One of a command's two outputs. What it gives out is what the agent sees and the record keeps.
pub(super) struct Output {
    kind: Kind,
    stream: Option<Stream>,
    patterns: Arc<Patterns>,
    masker: OutputMasker,
    masked_values: u64,
}

impl Output {
    pub(super) fn new(kind: Kind, patterns: &Arc<Patterns>) -> Self {
        Self {
            kind,
            stream: None,
            patterns: Arc::clone(patterns),
            masker: OutputMasker::new(Arc::clone(patterns)),
            masked_values: 0,
        }
    }

    /// The stream that carries it.
    pub(super) const fn at(&mut self, stream: Stream) {
        self.stream = Some(stream);
    }

    pub(super) fn stream(&self) -> Option<Stream> {
        self.stream.filter(|stream| stream.kind == self.kind)
    }

    /// Values that were masked so far.
    pub(super) const fn masked_values(&self) -> u64 {
        self.masked_values
    }

    /// What of it may be shown now.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let masked = self.masker.push(bytes);
        self.count(masked)
    }

    /// Nothing came for a while.
    pub(super) fn pause(&mut self) -> Vec<u8> {
        if self.masker.held_bytes() == 0 {
            return Vec::new();
        }
        let masked = self.masker.pause();
        self.count(masked)
    }

    /// What was kept back so far; what still comes is a text of its own.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let next = OutputMasker::new(Arc::clone(&self.patterns));
        let masked = std::mem::replace(&mut self.masker, next).finish();
        self.count(masked)
    }

    fn count(&mut self, masked: Masked) -> Vec<u8> {
        self.masked_values += masked.masked_values();
        Vec::from(masked.into_bytes())
    }
}
