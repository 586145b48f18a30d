//! What is to be done with each column of a result.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use weir_decide::MaskKind;

/// What kind of value a column holds, as far as masking is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueKind {
    /// Bytes that are UTF-8 text in either format.
    Text,
    /// Anything else; it is withheld instead of masked.
    Other,
}

/// Encoding of a column's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    Text,
    Binary,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnPlan {
    pub(crate) action: Action,
    pub(crate) value: ValueKind,
    pub(crate) format: Format,
    /// Keeps digests of different columns apart.
    pub(crate) domain: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Action {
    Pass,
    Mask(MaskKind),
    Withhold,
}

impl ColumnPlan {
    /// The value goes out as it is.
    #[must_use]
    pub fn pass(value: ValueKind, format: Format) -> Self {
        Self {
            action: Action::Pass,
            value,
            format,
            domain: Arc::from(""),
        }
    }

    /// The value is masked; `domain` names the column it comes from.
    #[must_use]
    pub const fn masked(
        kind: MaskKind,
        value: ValueKind,
        format: Format,
        domain: Arc<str>,
    ) -> Self {
        Self {
            action: Action::Mask(kind),
            value,
            format,
            domain,
        }
    }

    /// The value never goes out: NULL.
    #[must_use]
    pub fn withheld(format: Format) -> Self {
        Self {
            action: Action::Withhold,
            value: ValueKind::Other,
            format,
            domain: Arc::from(""),
        }
    }

    #[must_use]
    pub const fn is_pass(&self) -> bool {
        matches!(self.action, Action::Pass)
    }
}

/// A plan for all columns of one result, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskPlan {
    pub(crate) columns: Vec<ColumnPlan>,
}

impl MaskPlan {
    #[must_use]
    pub const fn new(columns: Vec<ColumnPlan>) -> Self {
        Self { columns }
    }

    /// True when no value is touched.
    #[must_use]
    pub fn is_pass(&self) -> bool {
        self.columns.iter().all(ColumnPlan::is_pass)
    }

    #[must_use]
    pub fn columns(&self) -> &[ColumnPlan] {
        &self.columns
    }
}
