//! Where a program's output is masked.

use std::sync::Arc;

use weir_kubernetes::stream::{Kind, Stream};
use weir_mask::{Masked, OutputMasker, Patterns};

/// One of a command's two outputs. What it gives out is what the agent sees and the record keeps.
pub(super) struct Output {
    kind: Kind,
    stream: Option<Stream>,
    /// `None` where policy asks for no masks.
    masker: Option<(Arc<Patterns>, OutputMasker)>,
    masked_values: u64,
}

impl Output {
    pub(super) fn new(kind: Kind, patterns: Option<&Arc<Patterns>>) -> Self {
        Self {
            kind,
            stream: None,
            masker: patterns.map(|patterns| {
                let masker = OutputMasker::new(Arc::clone(patterns));
                (Arc::clone(patterns), masker)
            }),
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
        let Some((_, masker)) = &mut self.masker else {
            return bytes.to_vec();
        };
        let masked = masker.push(bytes);
        self.count(masked)
    }

    /// Nothing came for a while.
    pub(super) fn pause(&mut self) -> Vec<u8> {
        match &mut self.masker {
            Some((_, masker)) if masker.held_bytes() > 0 => {
                let masked = masker.pause();
                self.count(masked)
            }
            Some(_) | None => Vec::new(),
        }
    }

    /// What was kept back so far; what still comes is a text of its own.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let Some((patterns, masker)) = &mut self.masker else {
            return Vec::new();
        };
        let masked = masker.finish();
        *masker = OutputMasker::new(Arc::clone(patterns));
        self.count(masked)
    }

    fn count(&mut self, masked: Masked) -> Vec<u8> {
        self.masked_values += masked.masked_values();
        Vec::from(masked.into_bytes())
    }
}
