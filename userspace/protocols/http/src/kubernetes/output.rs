//! Where a program's output is masked.

use std::sync::Arc;

use weir_decide::Permit;
use weir_kubernetes::stream::{Kind, Stream};
use weir_mask::{Masked, OutputMasker, OutputPatterns, Patterns};

/// What is looked for in output, and whether policy asks for it.
pub(super) struct OutputMasking {
    pub(super) patterns: OutputPatterns,
    /// As the record names them; none where output passes as it is.
    pub(super) rules: Vec<String>,
}

impl OutputMasking {
    /// By the obligations of the request that opened the stream.
    pub(super) fn of(permit: &Permit, patterns: &OutputPatterns) -> Self {
        // Output has no values of its own: every kind of mask is a redaction here.
        let masks = permit.obligations().masks.keys();
        let rules = masks.map(|object| format!("{}:{}: redact", object.kind, object.id()));
        Self {
            patterns: patterns.clone(),
            rules: rules.collect(),
        }
    }

    pub(super) fn wanted(&self, terminal: bool) -> Option<&Arc<Patterns>> {
        let patterns = if terminal {
            &self.patterns.terminal
        } else {
            &self.patterns.command
        };
        (!self.rules.is_empty()).then_some(patterns)
    }
}

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
