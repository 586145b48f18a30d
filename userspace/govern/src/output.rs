//! Output of programs, which has no labelled values: masked by what is found in it.

use std::sync::Arc;

use weir_decide::{Keep, Permit};
use weir_mask::{OutputPatterns, Patterns};

/// What is looked for in the output of a program, and whether policy asks for it.
#[derive(Clone, Debug)]
pub struct OutputMasking {
    pub patterns: OutputPatterns,
    /// As the record names them; none where output passes as it is.
    pub rules: Vec<String>,
    /// How much of it is recorded.
    pub keep: Keep,
}

impl OutputMasking {
    /// By the obligations of the request that opened the stream.
    #[must_use]
    pub fn of(permit: &Permit, patterns: &OutputPatterns) -> Self {
        // Output has no values of its own: every kind of mask is a redaction here.
        let masks = permit.obligations().masks.keys();
        let rules = masks.map(|object| format!("{}:{}: redact", object.kind, object.id()));
        Self {
            patterns: patterns.clone(),
            rules: rules.collect(),
            keep: permit.obligations().keep,
        }
    }

    /// The patterns for a stream, where policy asks for masks.
    #[must_use]
    pub fn wanted(&self, terminal: bool) -> Option<&Arc<Patterns>> {
        let patterns = if terminal {
            &self.patterns.terminal
        } else {
            &self.patterns.command
        };
        (!self.rules.is_empty()).then_some(patterns)
    }
}
