//! What is to be done with each column of a result.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

use weir_decide::MaskKind;

/// What kind of value a column holds, as far as masking is concerned. Numbers are big-endian in
/// binary and decimal in text; moments are ISO 8601 in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ValueKind {
    /// Bytes that are UTF-8 text in either format.
    Text,
    /// A JSON document, text in either format.
    Json,
    /// A JSON document, in binary behind a byte of version 1.
    Jsonb,
    /// Two's complement of 2, 4 or 8 bytes.
    Integer { bytes: u8 },
    /// `numeric` in base 10,000.
    Decimal,
    /// IEEE 754 of 4 or 8 bytes.
    Float { bytes: u8 },
    /// Days since 2000-01-01.
    Date,
    /// Microseconds since 2000-01-01.
    Timestamp,
    /// 16 bytes.
    Uuid,
    /// Bytes; `\x` and hexadecimal digits in text.
    Bytes,
    /// `inet`, or with nothing behind the network's bits (`only`) `cidr`.
    Network { only: bool },
    /// `macaddr` and `macaddr8`.
    Device,
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
    /// Arrays of such values, not single ones.
    #[serde(default)]
    pub(crate) arrays: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Action {
    Pass,
    Mask(MaskKind),
    Withhold,
    /// What detectors find in it is masked; the rest goes out.
    Detect,
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
            arrays: false,
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
            arrays: false,
        }
    }

    /// What detectors find in the value is masked.
    #[must_use]
    pub fn detected(value: ValueKind, format: Format) -> Self {
        Self {
            action: Action::Detect,
            ..Self::pass(value, format)
        }
    }

    /// The column holds arrays of such values.
    #[must_use]
    pub const fn in_arrays(mut self) -> Self {
        self.arrays = true;
        self
    }

    /// The value never goes out: NULL.
    #[must_use]
    pub fn withheld(format: Format) -> Self {
        Self {
            action: Action::Withhold,
            value: ValueKind::Other,
            format,
            domain: Arc::from(""),
            arrays: false,
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
