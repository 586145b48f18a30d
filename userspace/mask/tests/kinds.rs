//! Each kind of mask, and the values that are withheld instead.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use weir_decide::MaskKind;
use weir_mask::{CellFate, ColumnPlan, Detector, Format, MaskKey, MaskPlan, Patterns, ValueKind};

fn column(kind: MaskKind, value: ValueKind, domain: &str) -> ColumnPlan {
    ColumnPlan::masked(kind, value, Format::Text, Arc::from(domain))
}

/// What becomes of one value in a plan of one column.
fn one(plan: ColumnPlan, value: Option<&[u8]>) -> (Option<Vec<u8>>, CellFate, u64) {
    at(&MaskPlan::new(vec![plan]), 0, value)
}

fn at(plan: &MaskPlan, index: usize, value: Option<&[u8]>) -> (Option<Vec<u8>>, CellFate, u64) {
    let key = MaskKey::new([7; 32]);
    let mut seen = None;
    let mut rows = plan.rows(&key, BytesMut::from(&b"old"[..]));
    let fate = rows.cell(index, value, |out, cell| {
        seen = Some(cell.map(<[u8]>::to_vec));
        out.extend_from_slice(cell.unwrap_or(b"NULL"));
    });
    let masked = rows.finish();
    let seen = seen.expect("every cell is framed");
    assert_eq!(masked.bytes(), seen.as_deref().unwrap_or(b"NULL"));
    (seen, fate, masked.masked_values())
}

fn text(kind: MaskKind, value: &str) -> String {
    let (out, fate, count) = one(column(kind, ValueKind::Text, "d"), Some(value.as_bytes()));
    assert_eq!((fate, count), (CellFate::Masked, 1));
    String::from_utf8(out.unwrap()).unwrap()
}

const KINDS: [MaskKind; 4] = [
    MaskKind::Partial { keep_last: 4 },
    MaskKind::Hash,
    MaskKind::Redact,
    MaskKind::Null,
];

#[test]
fn redact_is_a_fixed_text() {
    assert_eq!(text(MaskKind::Redact, "123-45-6789"), "[redacted]");
    assert_eq!(text(MaskKind::Redact, ""), "[redacted]");
}

#[test]
fn null_withholds() {
    let plan = column(MaskKind::Null, ValueKind::Text, "d");
    assert_eq!(one(plan, Some(b"x")), (None, CellFate::Withheld, 1));
}

#[test]
fn partial_counts_characters_and_hides_short_values() {
    let four = MaskKind::Partial { keep_last: 4 };
    assert_eq!(text(four, "4000001234567890"), "************7890");
    assert_eq!(text(four, "äöüéèñçß漢"), "*****ñçß漢");
    // Half or more of the value would be shown.
    assert_eq!(text(four, "12345678"), "********");
    assert_eq!(text(four, "漢字"), "**");
    assert_eq!(text(four, ""), "");
    assert_eq!(text(MaskKind::Partial { keep_last: 0 }, "abc"), "***");
}

#[test]
fn hash_is_stable_within_a_domain_and_key_only() {
    let hash = |key: u8, domain: &str, value: &str| {
        let plan = MaskPlan::new(vec![column(MaskKind::Hash, ValueKind::Text, domain)]);
        let key = MaskKey::new([key; 32]);
        let mut rows = plan.rows(&key, BytesMut::new());
        rows.cell(0, Some(value.as_bytes()), |out, cell| {
            out.extend_from_slice(cell.unwrap());
        });
        String::from_utf8(rows.finish().into_bytes().to_vec()).unwrap()
    };
    let base = hash(7, "a", "x@shop.example");
    assert_eq!(base.len(), 18);
    assert!(base.starts_with("h:"));
    assert_eq!(base, hash(7, "a", "x@shop.example"));
    assert_ne!(base, hash(7, "a", "y@shop.example"));
    assert_ne!(base, hash(7, "b", "x@shop.example"));
    assert_ne!(base, hash(8, "a", "x@shop.example"));
    // The end of the domain is not the beginning of the value.
    assert_ne!(hash(7, "ab", "c"), hash(7, "a", "bc"));
}

#[test]
fn null_stays_null_and_counts_as_nothing() {
    for kind in KINDS {
        let plan = column(kind, ValueKind::Text, "d");
        assert_eq!(one(plan, None), (None, CellFate::Passed, 0));
    }
}

#[test]
fn what_cannot_be_masked_is_withheld() {
    for kind in KINDS {
        let invalid = column(kind, ValueKind::Text, "d");
        assert_eq!(
            one(invalid, Some(b"secret\xff")),
            (None, CellFate::Withheld, 1)
        );
        let other = column(kind, ValueKind::Other, "d");
        assert_eq!(one(other, Some(b"42")), (None, CellFate::Withheld, 1));
    }
    let withheld = ColumnPlan::withheld(Format::Binary);
    assert_eq!(one(withheld, Some(b"42")), (None, CellFate::Withheld, 1));
}

#[test]
fn a_cell_beyond_the_plan_is_withheld() {
    let plan = MaskPlan::new(vec![ColumnPlan::pass(ValueKind::Text, Format::Text)]);
    assert_eq!(
        at(&plan, 0, Some(b"a")),
        (Some(b"a".to_vec()), CellFate::Passed, 0)
    );
    assert_eq!(at(&plan, 1, Some(b"b")), (None, CellFate::Withheld, 1));
    assert_eq!(at(&plan, 1, None), (None, CellFate::Passed, 0));
}

#[test]
fn whole_rows_pass_only_without_masks() {
    let pass = || ColumnPlan::pass(ValueKind::Other, Format::Binary);
    let raw = Bytes::from_static(b"row");
    let plan = MaskPlan::new(vec![pass(), pass()]);
    let masked = plan.pass(raw.clone()).unwrap();
    assert_eq!((masked.len(), masked.masked_values()), (3, 0));
    for barred in [
        column(MaskKind::Hash, ValueKind::Text, "d"),
        ColumnPlan::withheld(Format::Text),
    ] {
        let plan = MaskPlan::new(vec![pass(), barred]);
        assert!(plan.pass(raw.clone()).is_none());
    }
}

#[test]
fn the_key_does_not_show_itself() {
    assert_eq!(format!("{:?}", MaskKey::new([7; 32])), "MaskKey");
}

#[test]
fn defect_8_without_detectors_nothing_passes_that_they_should_see() {
    let plan = MaskPlan::new(vec![ColumnPlan::detected(ValueKind::Text, Format::Text)]);
    assert_eq!(at(&plan, 0, Some(b"hello")), (None, CellFate::Withheld, 1));
    let patterns = Patterns::new(&[Detector::PaymentCard], &[]).expect("patterns");
    let key = MaskKey::new([7; 32]);
    let mut rows = plan
        .rows(&key, BytesMut::new())
        .with_patterns(Some(&patterns));
    let mut shown = Vec::new();
    for value in [&b"hello"[..], b"paid by 4111111111111111"] {
        rows.cell(0, Some(value), |_, cell| {
            shown.push(String::from_utf8_lossy(cell.unwrap_or_default()).into_owned());
        });
    }
    assert_eq!(shown[0], "hello");
    assert!(
        shown[1].starts_with("paid by ") && !shown[1].contains("4111"),
        "{shown:?}"
    );
}
