//! Rows through a plan.

use bytes::{Bytes, BytesMut};
use weir_decide::MaskKind;

use crate::key::MaskKey;
use crate::plan::{Action, ColumnPlan, MaskPlan};
use crate::stream::Patterns;
use crate::value::{detect, mask_value, permuted_text};

/// Text that stands for a redacted value.
pub(crate) const REDACTED: &[u8] = b"[redacted]";
/// Hexadecimal digits of a digest that are shown: 64 bits.
const DIGEST_DIGITS: usize = 16;

/// Proof that every value in these bytes went through a plan.
///
/// ```compile_fail
/// let raw = weir_mask::Masked { bytes: bytes::Bytes::new(), masked_values: 0 };
/// ```
#[derive(Debug)]
pub struct Masked {
    bytes: Bytes,
    masked_values: u64,
}

impl Masked {
    pub(crate) const fn new(bytes: Bytes, masked_values: u64) -> Self {
        Self {
            bytes,
            masked_values,
        }
    }

    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// A look at the masked bytes, for the record.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Values that were masked or withheld.
    #[must_use]
    pub const fn masked_values(&self) -> u64 {
        self.masked_values
    }
}

/// What happened to one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CellFate {
    Passed,
    Masked,
    Withheld,
}

impl MaskPlan {
    /// Whole rows as they are; `None` unless every column passes.
    #[must_use]
    pub fn pass(&self, raw: Bytes) -> Option<Masked> {
        self.is_pass().then_some(Masked {
            bytes: raw,
            masked_values: 0,
        })
    }

    /// A masker that writes into `reuse`.
    #[must_use]
    pub fn rows<'a>(&'a self, key: &'a MaskKey, mut reuse: BytesMut) -> RowMasker<'a> {
        reuse.clear();
        RowMasker {
            plan: self,
            key,
            out: reuse,
            scratch: Vec::new(),
            masked_values: 0,
            patterns: None,
        }
    }
}

/// Writes masked rows in a protocol's framing.
pub struct RowMasker<'a> {
    plan: &'a MaskPlan,
    key: &'a MaskKey,
    out: BytesMut,
    scratch: Vec<u8>,
    masked_values: u64,
    patterns: Option<&'a Patterns>,
}

impl<'a> RowMasker<'a> {
    /// By which values are looked through where the plan says so; without them, such values are
    /// withheld.
    #[must_use]
    pub const fn with_patterns(mut self, patterns: Option<&'a Patterns>) -> Self {
        self.patterns = patterns;
        self
    }

    /// The protocol's own framing bytes.
    pub fn frame(&mut self, header: &[u8]) {
        self.out.extend_from_slice(header);
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Overwrites two framing bytes, big-endian; out of range is ignored.
    pub fn patch_u16(&mut self, at: usize, value: u16) {
        if let Some(place) = self.out.get_mut(at..at.saturating_add(2)) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }

    /// Overwrites four framing bytes, big-endian; out of range is ignored.
    pub fn patch_u32(&mut self, at: usize, value: u32) {
        if let Some(place) = self.out.get_mut(at..at.saturating_add(4)) {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }

    /// True when values of that column go out as they are.
    #[must_use]
    pub fn passes(&self, index: usize) -> bool {
        self.plan
            .columns
            .get(index)
            .is_some_and(ColumnPlan::is_pass)
    }

    /// One value; `put` frames what may go out. A column that the plan does not have is withheld.
    pub fn cell(
        &mut self,
        index: usize,
        value: Option<&[u8]>,
        put: impl FnOnce(&mut BytesMut, Option<&[u8]>),
    ) -> CellFate {
        let column = self.plan.columns.get(index);
        let (Some(value), Some(column)) = (value, column) else {
            put(&mut self.out, None);
            return if value.is_some() {
                self.count(CellFate::Withheld)
            } else {
                CellFate::Passed
            };
        };
        match &column.action {
            Action::Pass => {
                put(&mut self.out, Some(value));
                CellFate::Passed
            }
            Action::Withhold => {
                put(&mut self.out, None);
                self.count(CellFate::Withheld)
            }
            Action::Detect => {
                self.scratch.clear();
                match detect(column, value, self.patterns, &mut self.scratch) {
                    CellFate::Passed => {
                        put(&mut self.out, Some(value));
                        CellFate::Passed
                    }
                    CellFate::Masked => {
                        put(&mut self.out, Some(&self.scratch));
                        self.count(CellFate::Masked)
                    }
                    CellFate::Withheld => {
                        put(&mut self.out, None);
                        self.count(CellFate::Withheld)
                    }
                }
            }
            Action::Mask(kind) => {
                self.scratch.clear();
                if mask_value(*kind, column, value, self.key, &mut self.scratch) {
                    put(&mut self.out, Some(&self.scratch));
                    self.count(CellFate::Masked)
                } else {
                    put(&mut self.out, None);
                    self.count(CellFate::Withheld)
                }
            }
        }
    }

    const fn count(&mut self, fate: CellFate) -> CellFate {
        self.masked_values += 1;
        fate
    }

    #[must_use]
    pub fn finish(self) -> Masked {
        Masked {
            bytes: self.out.freeze(),
            masked_values: self.masked_values,
        }
    }
}

/// Writes the masked form of a text; false when it has none and must be withheld. `domain` keeps
/// equal values of different places apart.
pub(crate) fn mask_text(
    kind: MaskKind,
    domain: &str,
    value: &[u8],
    key: &MaskKey,
    out: &mut Vec<u8>,
) -> bool {
    let Ok(text) = std::str::from_utf8(value) else {
        return false;
    };
    match kind {
        MaskKind::Null | MaskKind::Range(_) => false,
        MaskKind::Token => permuted_text(key, text, out),
        MaskKind::Redact => {
            out.extend_from_slice(REDACTED);
            true
        }
        MaskKind::Hash => {
            out.extend_from_slice(b"h:");
            let hex = key.digest(domain, value).to_hex();
            out.extend(hex.bytes().take(DIGEST_DIGITS));
            true
        }
        MaskKind::Partial { keep_last } => {
            let total = text.chars().count();
            // A short value would be shown whole.
            let keep = if total > usize::from(keep_last) * 2 {
                usize::from(keep_last)
            } else {
                0
            };
            for (index, c) in text.chars().enumerate() {
                if index + keep < total {
                    out.push(b'*');
                } else {
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
            true
        }
    }
}
