//! Values of every kind through every mask.

use std::sync::{Arc, LazyLock};

use bytes::BytesMut;
use weir_decide::{MaskKind, Span};
use weir_mask::{CellFate, ColumnPlan, Detector, Format, MaskKey, MaskPlan, Patterns, ValueKind};

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
const VALUES: [ValueKind; 17] = [
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
    ValueKind::Network { only: false },
    ValueKind::Network { only: true },
    ValueKind::Device,
    ValueKind::Other,
];

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let detectors = [Detector::PaymentCard, Detector::Email, Detector::Password];
    Patterns::new(&detectors, &[]).unwrap_or_else(|problem| panic!("{problem}"))
});

/// The first three bytes choose, the rest is the value.
pub(crate) fn values(data: &[u8]) {
    let Some(([kind, value, form], cell)) = data.split_first_chunk::<3>() else {
        return;
    };
    let kind = KINDS[usize::from(*kind) % KINDS.len()];
    let value = VALUES[usize::from(*value) % VALUES.len()];
    let format = if form & 1 == 0 { Format::Text } else { Format::Binary };
    let (arrays, detected) = (form & 2 != 0, form & 4 != 0);
    let mut column = if detected {
        ColumnPlan::detected(value, format)
    } else {
        ColumnPlan::masked(kind, value, format, Arc::from("t/c"))
    };
    if arrays {
        column = column.in_arrays();
    }
    let (fate, shown) = shown(column, cell);
    assert_eq!(fate == CellFate::Withheld, shown.is_none());
    if detected {
        looked_through(value, arrays, cell, (fate, shown));
        return;
    }
    assert!(fate != CellFate::Passed);
    // What is redacted does not depend on the value.
    if kind == MaskKind::Redact && !arrays {
        let fixed: [&[u8]; 3] = [b"[redacted]", b"\"[redacted]\"", b"\x01\"[redacted]\""];
        assert!(shown.is_none_or(|shown| fixed.contains(&shown.as_slice())));
    }
}

fn shown(column: ColumnPlan, cell: &[u8]) -> (CellFate, Option<Vec<u8>>) {
    let plan = MaskPlan::new(vec![column]);
    let key = MaskKey::new([7; 32]);
    let mut rows = plan.rows(&key, BytesMut::new()).with_patterns(Some(&PATTERNS));
    let mut shown = None;
    let fate = rows.cell(0, Some(cell), |_, masked| shown = masked.map(<[u8]>::to_vec));
    (fate, shown)
}

/// A value that passes is the one that came; only texts are changed.
fn looked_through(
    value: ValueKind,
    arrays: bool,
    cell: &[u8],
    (fate, shown): (CellFate, Option<Vec<u8>>),
) {
    let Some(shown) = shown else { return };
    if fate == CellFate::Passed {
        assert_eq!(shown, cell);
        return;
    }
    assert_ne!(shown, cell);
    assert!(arrays || matches!(value, ValueKind::Text | ValueKind::Json | ValueKind::Jsonb));
}
