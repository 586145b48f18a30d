//! Policy files, what they may refer to, and what can be wrong with them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// One policy file.
#[derive(Clone, Debug)]
pub struct PolicySource {
    /// File name, for problems.
    pub name: String,
    pub text: String,
}

/// What policies may refer to.
#[derive(Clone, Debug, Default)]
pub struct PolicySettings {
    /// Names usable in `@hold(…)`.
    pub reviewer_groups: BTreeSet<String>,
    pub targets: Vec<String>,
    /// Readable name → Entra group object id.
    pub group_aliases: BTreeMap<String, String>,
}

/// One thing that is wrong in the policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyProblem {
    pub file: String,
    /// From 1; 0 when it concerns the whole file.
    pub line: usize,
    /// In characters, from 1; 0 when `line` is.
    pub column: usize,
    /// Bytes of the file that it is about.
    pub span: Option<Range<usize>>,
    pub message: String,
    /// What to do about it, when that is known.
    pub help: Option<String>,
}

impl PolicyProblem {
    /// About a part of `source`, or about all of it.
    pub(crate) fn at(
        source: &PolicySource,
        span: Option<Range<usize>>,
        message: impl Into<String>,
    ) -> Self {
        let (line, column) = span
            .as_ref()
            .map_or((0, 0), |span| position(&source.text, span.start));
        Self {
            file: source.name.clone(),
            line,
            column,
            span,
            message: message.into(),
            help: None,
        }
    }
}

impl std::fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.line == 0 {
            write!(f, "{}: {}", self.file, self.message)
        } else {
            let (file, line, column) = (&self.file, self.line, self.column);
            write!(f, "{file}:{line}:{column}: {}", self.message)
        }
    }
}

/// Line and column of a byte, both from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut start = offset.min(text.len());
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    let before = text.get(..start).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let from = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before.get(from..).unwrap_or_default().chars().count() + 1;
    (line, column)
}
