//! Values of every kind through every mask.

use std::sync::Arc;

use bytes::BytesMut;
use weir_decide::{MaskKind, Span};
use weir_mask::{CellFate, ColumnPlan, Format, MaskKey, MaskPlan, ValueKind};

const KINDS: [MaskKind; 8] = [
    MaskKind::Null,
    MaskKind::Redact,
    MaskKind::Hash,
    MaskKind::Token,
    MaskKind::Partial { keep_last: 4 },
    MaskKind::Range(Span::Step(100)),
    MaskKind::Range(Span::Month),
    MaskKind::Range(Span::Decade),
];
const VALUES: [ValueKind; 14] = [
    ValueKind::Text,
    ValueKind::Json,
    ValueKind::Jsonb,
    ValueKind::Integer { bytes: 2 },
    ValueKind::Integer { bytes: 4 },
    ValueKind::Integer { bytes: 8 },
    ValueKind::Decimal,
    ValueKind::Float { bytes: 4 },
    ValueKind::Float { bytes: 8 },
    ValueKind::Date,
    ValueKind::Timestamp,
    ValueKind::Uuid,
    ValueKind::Bytes,
    ValueKind::Other,
];

/// The first three bytes choose, the rest is the value. What is redacted does not depend on it.
pub(crate) fn values(data: &[u8]) {
    let Some(([kind, value, form], cell)) = data.split_first_chunk::<3>() else {
        return;
    };
    let kind = KINDS[usize::from(*kind) % KINDS.len()];
    let value = VALUES[usize::from(*value) % VALUES.len()];
    let format = if form & 1 == 0 { Format::Text } else { Format::Binary };
    let mut column = ColumnPlan::masked(kind, value, format, Arc::from("t/c"));
    if form & 2 != 0 {
        column = column.in_arrays();
    }
    let plan = MaskPlan::new(vec![column]);
    let key = MaskKey::new([7; 32]);
    let mut rows = plan.rows(&key, BytesMut::new());
    let mut shown = None;
    let fate = rows.cell(0, Some(cell), |_, masked| shown = masked.map(<[u8]>::to_vec));
    assert!(fate != CellFate::Passed);
    assert_eq!(fate == CellFate::Withheld, shown.is_none());
    if kind == MaskKind::Redact && form & 2 == 0 {
        let fixed: [&[u8]; 3] = [b"[redacted]", b"\"[redacted]\"", b"\x01\"[redacted]\""];
        assert!(shown.is_none_or(|shown| fixed.contains(&shown.as_slice())));
    }
}
