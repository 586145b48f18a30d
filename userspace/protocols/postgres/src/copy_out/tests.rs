//! Rows as the server writes them: what passes is the same byte for byte, what is masked fits its
//! format, and nothing that is no row comes through.

use std::sync::Arc;

use weir_decide::MaskKind;
use weir_mask::{ColumnPlan, Format, MaskKey, MaskPlan, ValueKind};

use super::*;

const SECRET: &[u8] = b"917,24\t\"12\\34\"";

fn plan(format: Format) -> MaskPlan {
    MaskPlan::new(vec![
        ColumnPlan::pass(ValueKind::Text, format),
        ColumnPlan::masked(
            MaskKind::Partial { keep_last: 2 },
            ValueKind::Text,
            format,
            Arc::from("t/c"),
        ),
        ColumnPlan::pass(ValueKind::Text, format),
    ])
}

fn row(copy: &mut CopyOut, body: &[u8], format: Format) -> Result<Vec<u8>, WireError> {
    let (plan, key) = (plan(format), MaskKey::new([1; 32]));
    let masked = copy.row(body, plan.rows(&key, BytesMut::new()), 3)?;
    let bytes = masked.into_bytes().to_vec();
    assert_eq!(bytes[0], b'd');
    let length = u32::from_be_bytes(bytes[1..5].try_into().expect("4 bytes"));
    assert_eq!(length as usize, bytes.len() - 1);
    Ok(bytes[5..].to_vec())
}

fn text(header: bool) -> CopyOut {
    CopyOut::new(CopyFormat::Text {
        delimiter: b'\t',
        null: "\\N".to_owned(),
        header,
    })
}

fn csv(quote: u8, escape: u8) -> CopyOut {
    CopyOut::new(CopyFormat::Csv {
        delimiter: b',',
        quote,
        escape,
        null: String::new(),
        header: false,
    })
}

#[test]
fn text_rows() {
    let mut copy = text(true);
    let names = row(&mut copy, b"id\tssn\tnote\n", Format::Text).expect("names");
    assert_eq!(names, b"id\tssn\tnote\n");
    let out = row(
        &mut copy,
        b"1\t917,24\\t\"12\\\\34\"\ta\\nb\\\\c\\v\n",
        Format::Text,
    )
    .expect("a row");
    assert_eq!(out, b"1\t************4\"\ta\\nb\\\\c\\v\n");
    let out = row(&mut copy, b"\\N\t\\N\t\\N\n", Format::Text).expect("a row");
    assert_eq!(out, b"\\N\t\\N\t\\N\n");
    for broken in [&b"1\t2\n"[..], b"1\t2\t3\t4\n", b"1\t2\t3", b"", b"\n"] {
        row(&mut copy, broken, Format::Text).expect_err("no row");
    }
}

#[test]
fn a_delimiter_within_a_value_stands_behind_a_backslash() {
    let mut copy = CopyOut::new(CopyFormat::Text {
        delimiter: b'|',
        null: "\\N".to_owned(),
        header: false,
    });
    let out = row(&mut copy, b"a\\|b\\\\|917,24\\|5|\\|\n", Format::Text).expect("a row");
    assert_eq!(out, b"a\\|b\\\\|******\\|5|\\|\n");
    let out = row(&mut copy, b"||\n", Format::Text).expect("a row");
    assert_eq!(out, b"||\n");
    for broken in [&b"1|2\\|3\n"[..], b"1|2|3|4\n"] {
        row(&mut copy, broken, Format::Text).expect_err("no row");
    }
}

#[test]
fn csv_rows() {
    let mut copy = csv(b'"', b'"');
    let out = row(
        &mut copy,
        b"1,\"917,24\t\"\"12\\34\"\"\",\"a,b\"\n",
        Format::Text,
    )
    .expect("a row");
    assert_eq!(out, b"1,\"************4\"\"\",\"a,b\"\n");
    let out = row(&mut copy, b",,\"\"\n", Format::Text).expect("NULL, NULL and an empty text");
    assert_eq!(out, b",,\"\"\n");
    let out = row(&mut copy, b"\"x\ny\",plain,z\n", Format::Text).expect("a row of two lines");
    assert_eq!(out, b"\"x\ny\",***in,z\n");
    for broken in [
        &b"1,2\n"[..],
        b"1,2,3,4\n",
        b"1,\"2,3\n",
        b"1,\"2\"x,3\n",
        b"1,2,3",
    ] {
        row(&mut copy, broken, Format::Text).expect_err("no row");
    }
    let mut copy = csv(b'\'', b'\\');
    let out = row(&mut copy, b"1,'917\\'24\\\\',3\n", Format::Text).expect("a row");
    assert_eq!(out, b"1,*****4\\,3\n");
}

fn cells(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut out = i16::try_from(values.len())
        .expect("few")
        .to_be_bytes()
        .to_vec();
    for value in values {
        match value {
            Some(value) => {
                out.extend(i32::try_from(value.len()).expect("short").to_be_bytes());
                out.extend(*value);
            }
            None => out.extend((-1_i32).to_be_bytes()),
        }
    }
    out
}

#[test]
fn binary_rows() {
    let mut head = SIGNATURE.to_vec();
    head.extend([0; 8]);
    let mut copy = CopyOut::new(CopyFormat::Binary);
    let mut first = head.clone();
    first.extend(cells(&[Some(b"1"), Some(SECRET), None]));
    let out = row(&mut copy, &first, Format::Binary).expect("a row");
    let mut expected = head.clone();
    expected.extend(cells(&[Some(b"1"), Some(b"************4\""), None]));
    assert_eq!(out, expected);
    let next = cells(&[None, None, Some(b"z")]);
    assert_eq!(row(&mut copy, &next, Format::Binary).expect("a row"), next);
    assert_eq!(
        row(&mut copy, &[0xff, 0xff], Format::Binary).expect("the end"),
        [0xff, 0xff]
    );
    row(&mut copy, &[0xff, 0xff, 0], Format::Binary).expect_err("more than the end");
    row(&mut copy, &cells(&[None, None]), Format::Binary).expect_err("two columns");
    for cut in 0..next.len() {
        row(&mut copy, &next[..cut], Format::Binary).expect_err("no whole row");
    }
    let mut copy = CopyOut::new(CopyFormat::Binary);
    row(&mut copy, &next, Format::Binary).expect_err("no header");
    let mut with_oids = head.clone();
    with_oids[SIGNATURE.len() + 1] = 1;
    row(
        &mut CopyOut::new(CopyFormat::Binary),
        &with_oids,
        Format::Binary,
    )
    .expect_err("a flag");
}
