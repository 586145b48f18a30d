//! Where a program's output is masked.

use weir_kubernetes::stream::{Kind, Stream};

/// One of a command's two outputs. What it gives out is what the agent sees and the record keeps.
pub(super) struct Output {
    kind: Kind,
    stream: Option<Stream>,
}

impl Output {
    pub(super) const fn new(kind: Kind) -> Self {
        Self { kind, stream: None }
    }

    /// The stream that carries it.
    pub(super) const fn at(&mut self, stream: Stream) {
        self.stream = Some(stream);
    }

    pub(super) fn stream(&self) -> Option<Stream> {
        self.stream.filter(|stream| stream.kind == self.kind)
    }

    /// What of it may be shown now.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        bytes.to_vec()
    }

    /// What was kept back so far.
    pub(super) const fn finish(&mut self) -> Vec<u8> {
        Vec::new()
    }
}
