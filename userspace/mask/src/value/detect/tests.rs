//! What detectors see of each type, and what is shown then.

use bytes::BufMut as _;

use super::*;
use crate::stream::Detector;

const CARD: i64 = 4_111_111_111_111_111;
const PAID: &[u8] = b"paid by 4111 1111 1111 1111";

/// What is shown of a value; `None` when it is withheld.
fn seen(column: &ColumnPlan, value: &[u8]) -> Option<Vec<u8>> {
    let patterns = Patterns::new(
        &[Detector::PaymentCard, Detector::Password],
        &[("own".to_owned(), "2000-01-0[1-9]".to_owned())],
    )
    .expect("patterns");
    let mut out = Vec::new();
    match detect(column, value, Some(&patterns), &mut out) {
        CellFate::Passed => Some(value.to_vec()),
        CellFate::Masked => Some(out),
        CellFate::Withheld => None,
    }
}

fn text(kind: ValueKind, value: &str) -> Option<String> {
    let shown = seen(&ColumnPlan::detected(kind, Format::Text), value.as_bytes());
    shown.map(|bytes| String::from_utf8(bytes).expect("text"))
}

fn binary(kind: ValueKind, value: &[u8]) -> Option<Vec<u8>> {
    seen(&ColumnPlan::detected(kind, Format::Binary), value)
}

/// As `record_send` writes it.
fn record(fields: &[(u32, Option<&[u8]>)]) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_u32(u32::try_from(fields.len()).expect("few"));
    for (type_oid, value) in fields {
        out.put_u32(*type_oid);
        match value {
            None => out.put_i32(-1),
            Some(value) => {
                out.put_i32(i32::try_from(value.len()).expect("short"));
                out.put_slice(value);
            }
        }
    }
    out
}

/// As `array_send` writes one dimension.
fn array(element: u32, values: &[&[u8]]) -> Vec<u8> {
    let count = i32::try_from(values.len()).expect("few");
    let mut out = Vec::new();
    for word in [1, 0, element.cast_signed(), count, 1] {
        out.put_i32(word);
    }
    for value in values {
        out.put_i32(i32::try_from(value.len()).expect("short"));
        out.put_slice(value);
    }
    out
}

#[test]
fn numbers_are_looked_at_in_every_format() {
    let mut decimal = Vec::new();
    super::super::number::decimal_binary_of("4111111111111111.00", &mut decimal);
    let long = ValueKind::Integer { bytes: 8 };
    let double = ValueKind::Float { bytes: 8 };
    assert_eq!(text(long, "4111111111111111"), None);
    assert_eq!(text(ValueKind::Decimal, "4111111111111111.00"), None);
    assert_eq!(text(double, "4.111111111111111e+15"), None);
    assert_eq!(binary(long, &CARD.to_be_bytes()), None);
    assert_eq!(binary(ValueKind::Decimal, &decimal), None);
    assert_eq!(binary(double, &(CARD as f64).to_be_bytes()), None);
    for other in ["1234", "-7", "4111111111111112"] {
        assert_eq!(text(long, other).as_deref(), Some(other));
    }
    // What an average shows behind its point is no card.
    for other in ["12.4111111111111111", "NaN", "Infinity"] {
        assert_eq!(text(ValueKind::Decimal, other).as_deref(), Some(other));
    }
    for other in ["0.4111111111111111", "NaN", "-Infinity"] {
        assert_eq!(text(double, other).as_deref(), Some(other));
    }
    let not_a_number = [0, 0, 0, 0, 0xc0, 0, 0, 0];
    assert!(binary(ValueKind::Decimal, &not_a_number).is_some());
    assert!(binary(double, &f64::INFINITY.to_be_bytes()).is_some());
    assert!(binary(long, &7_i64.to_be_bytes()).is_some());
    for broken in [&[0][..], &[0; 9]] {
        assert_eq!(binary(long, broken), None);
        assert_eq!(binary(double, broken), None);
    }
}

#[test]
fn documents_stay_documents() {
    for (document, shown) in [
        (
            r#"{"note": "paid by 4111 1111 1111 1111", "n": 1.50}"#,
            r#"{"note": "paid by [masked:payment-card]", "n": 1.50}"#,
        ),
        // As strings say it, not as they are written.
        (
            r#"["card:\n4111111111111111"]"#,
            r#"["card:\n[masked:payment-card]"]"#,
        ),
        (
            r#"["\u0034111111111111111"]"#,
            r#"["[masked:payment-card]"]"#,
        ),
        (
            r#"{"4111111111111111" :{"a":null}}"#,
            r#"{"[masked:payment-card]" :{"a":null}}"#,
        ),
        (
            r#"{"card": 4111111111111111, "b":[ 2 ]}"#,
            r#"{"card": null, "b":[ 2 ]}"#,
        ),
        ("[4.111111111111111e15,-7]", "[null,-7]"),
        (
            r#"{"a": {"password": "one \"two\""}}"#,
            r#"{"a": {"password": "[redacted]"}}"#,
        ),
        (r#"{"password": 98765432}"#, r#"{"password": null}"#),
        (
            r#"["password=\"one two\""]"#,
            r#"["password=\"[masked:password]\""]"#,
        ),
    ] {
        assert_eq!(text(ValueKind::Json, document).as_deref(), Some(shown));
        let version = [&[1], document.as_bytes()].concat();
        let shown = [&[1], shown.as_bytes()].concat();
        assert_eq!(binary(ValueKind::Jsonb, &version), Some(shown));
        let arrays = ColumnPlan::detected(ValueKind::Jsonb, Format::Binary).in_arrays();
        assert_ne!(seen(&arrays, &array(3802, &[&version])), None);
    }
    for document in [
        r#"{"password": null, "passwords": ["one"], "avg": 3.4111111111111111}"#,
        r#"["a\\", true, "\"", {}, [], -0.5e-7]"#,
        "4111111111111112",
        "",
    ] {
        assert_eq!(text(ValueKind::Json, document).as_deref(), Some(document));
        let arrays = ColumnPlan::detected(ValueKind::Json, Format::Binary).in_arrays();
        let value = array(114, &[document.as_bytes()]);
        assert_eq!(seen(&arrays, &value), Some(value));
    }
    for broken in [r#"["a]"#, r#"["\ud800"]"#, r#"["\x"]"#] {
        assert_eq!(text(ValueKind::Json, broken), None, "{broken}");
    }
    assert_eq!(binary(ValueKind::Jsonb, b""), None);
}

#[test]
fn bytes_are_looked_at_as_what_they_hold() {
    let hex: String = PAID.iter().map(|byte| format!("{byte:02x}")).collect();
    let shown = format!("\\x{hex}");
    assert_eq!(text(ValueKind::Bytes, &shown), None);
    assert_eq!(text(ValueKind::Other, &shown), None);
    assert_eq!(text(ValueKind::Bytes, "paid by 4111 1111 1111 1111"), None);
    assert_eq!(binary(ValueKind::Bytes, PAID), None);
    assert_eq!(
        text(ValueKind::Bytes, "\\x00ff").as_deref(),
        Some("\\x00ff")
    );
}

#[test]
fn composites_and_unknown_types_are_looked_into() {
    let kind = ValueKind::Other;
    assert_eq!(text(kind, r#"(1,"paid by 4111 1111 1111 1111")"#), None);
    assert_eq!(text(kind, r#"(1,"password=""one two""")"#), None);
    assert_eq!(
        text(kind, "{12.4111111111111111}").as_deref(),
        Some("{12.4111111111111111}")
    );
    assert_eq!(text(kind, "(1,paid)").as_deref(), Some("(1,paid)"));
    assert_eq!(text(kind, "4.111111111111111e+15"), None);
    assert_eq!(text(kind, "1e3").as_deref(), Some("1e3"));
    assert_eq!(binary(kind, PAID), None);
    let long = CARD.to_be_bytes();
    let mut decimal = Vec::new();
    super::super::number::decimal_binary_of("4111111111111111", &mut decimal);
    let harmless = record(&[(25, Some(b"paid")), (20, Some(&[0; 8])), (23, None)]);
    assert_eq!(binary(kind, &harmless), Some(harmless.clone()));
    for (type_oid, value) in [(25, PAID), (20, &long), (1700, &decimal), (17, PAID)] {
        let one = record(&[(23, Some(&[0, 0, 0, 1])), (type_oid, Some(value))]);
        assert_eq!(binary(kind, &one), None, "{type_oid}");
        let within = record(&[(2249, Some(&one)), (25, Some(b"paid"))]);
        assert_eq!(binary(kind, &within), None, "{type_oid}");
        // A moment has as many bytes.
        let moment = record(&[(1184, Some(&long))]);
        assert_eq!(binary(kind, &moment), Some(moment));
    }
    let mut deep = harmless;
    for _ in 0..16 {
        deep = record(&[(2249, Some(&deep))]);
    }
    assert_eq!(binary(kind, &deep), None);
    // A count that is not true: the bytes are looked at as they are.
    let mut broken = record(&[(25, Some(PAID))]);
    broken[0] = 0xff;
    assert_eq!(binary(kind, &broken), None);
}

#[test]
fn elements_of_arrays_are_looked_at_one_by_one() {
    let texts = |format| ColumnPlan::detected(ValueKind::Text, format).in_arrays();
    let shown = seen(&texts(Format::Text), br#"{paid,"by 4111 1111 1111 1111"}"#);
    let shown = String::from_utf8(shown.expect("shown")).expect("text");
    assert!(
        shown.starts_with(r#"{"paid","by ["#) && !shown.contains("4111"),
        "{shown}"
    );
    let shown = seen(&texts(Format::Binary), &array(25, &[b"paid", PAID])).expect("shown");
    assert!(!shown.windows(4).any(|part| part == b"4111"), "{shown:?}");
    assert!(shown.windows(4).any(|part| part == b"paid"), "{shown:?}");
    let numbers =
        |format| ColumnPlan::detected(ValueKind::Integer { bytes: 8 }, format).in_arrays();
    let shown = seen(&numbers(Format::Text), b"{1,4111111111111111,NULL}");
    assert_eq!(shown.as_deref(), Some(&br#"{"1",NULL,NULL}"#[..]));
    let shown = seen(
        &numbers(Format::Binary),
        &array(20, &[&7_i64.to_be_bytes(), &CARD.to_be_bytes()]),
    );
    let shown = shown.expect("shown");
    assert!(
        shown.ends_with(&[0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff]),
        "{shown:?}"
    );
    let harmless = array(20, &[&7_i64.to_be_bytes()]);
    assert_eq!(seen(&numbers(Format::Binary), &harmless), Some(harmless));
    for broken in [&b"1,2"[..], b"{\"a"] {
        assert_eq!(seen(&texts(Format::Text), broken), None);
    }
    assert_eq!(seen(&texts(Format::Binary), &[0, 0, 0, 9]), None);
}

#[test]
fn values_within_values_are_looked_at_in_binary() {
    let kind = ValueKind::Other;
    let long = CARD.to_be_bytes();
    // The byte before it, the last of its length, would be a letter.
    let letter = format!("4111111111111111{}", " ".repeat(49));
    let piece = |value: &[u8]| {
        [
            &u32::try_from(value.len()).expect("short").to_be_bytes(),
            value,
        ]
        .concat()
    };
    let range = [&[2_u8][..], &piece(&long), &piece(&long)].concat();
    for value in [
        array(2249, &[&record(&[(20, Some(&long))])]),
        array(25, &[letter.as_bytes()]),
        record(&[(1009, Some(&array(25, &[letter.as_bytes()])))]),
        record(&[(1016, Some(&array(20, &[&long])))]),
        range.clone(),
        [&1_u32.to_be_bytes()[..], &piece(&range)].concat(),
        [
            &1_u32.to_be_bytes()[..],
            &piece(b"card"),
            &piece(letter.as_bytes()),
        ]
        .concat(),
    ] {
        assert_eq!(binary(kind, &value), None, "{value:?}");
    }
    let moments = array(1184, &[&long]);
    assert_eq!(binary(kind, &moments), Some(moments));
    // Eight letters are no number.
    assert!(binary(kind, b"Abcdefgh").is_some());
}

#[test]
fn own_patterns_find_what_has_a_fixed_form() {
    assert_eq!(text(ValueKind::Date, "2000-01-02"), None);
    assert_eq!(binary(ValueKind::Date, &1_i32.to_be_bytes()), None);
    assert_eq!(binary(ValueKind::Timestamp, &1_i64.to_be_bytes()), None);
    assert!(binary(ValueKind::Date, &40_i32.to_be_bytes()).is_some());
    assert!(binary(ValueKind::Date, &i32::MAX.to_be_bytes()).is_some());
    assert!(binary(ValueKind::Uuid, &[7; 16]).is_some());
}
