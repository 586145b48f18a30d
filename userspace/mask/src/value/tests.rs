//! Masked forms by type: equal meaning in text and binary, valid for the type, never the value.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_decide::{MaskKind, Span};

use super::mask_value;
use crate::key::MaskKey;
use crate::plan::{ColumnPlan, Format, ValueKind};

fn plan(kind: MaskKind, value: ValueKind, format: Format) -> ColumnPlan {
    ColumnPlan::masked(kind, value, format, Arc::from("t/c"))
}

fn masked(plan: &ColumnPlan, kind: MaskKind, value: &[u8]) -> Option<Vec<u8>> {
    let mut out = b"before".to_vec();
    mask_value(kind, plan, value, &MaskKey::new([3; 32]), &mut out).then(|| out.split_off(6))
}

fn text(kind: MaskKind, value: ValueKind, input: &str) -> Option<String> {
    let out = masked(&plan(kind, value, Format::Text), kind, input.as_bytes())?;
    Some(String::from_utf8(out).expect("text"))
}

fn binary(kind: MaskKind, value: ValueKind, input: &[u8]) -> Option<Vec<u8>> {
    masked(&plan(kind, value, Format::Binary), kind, input)
}

const STEP: MaskKind = MaskKind::Range(Span::Step(100));
const INT4: ValueKind = ValueKind::Integer { bytes: 4 };

#[test]
fn numbers_fall_to_the_start_of_their_span() {
    for (input, expected) in [
        ("0", "0"),
        ("99", "0"),
        ("100", "100"),
        ("-1", "-100"),
        ("54321", "54300"),
    ] {
        assert_eq!(text(STEP, INT4, input).as_deref(), Some(expected));
        let number: i32 = input.parse().expect("a number");
        let expected: i32 = expected.parse().expect("a number");
        assert_eq!(
            binary(STEP, INT4, &number.to_be_bytes()),
            Some(expected.to_be_bytes().to_vec())
        );
    }
    // The least number has no multiple below it.
    assert_eq!(
        text(STEP, INT4, "-2147483648").as_deref(),
        Some("-2147483648")
    );
    assert_eq!(
        text(STEP, ValueKind::Decimal, "1234.56").as_deref(),
        Some("1200")
    );
    assert_eq!(
        text(STEP, ValueKind::Decimal, "-0.01").as_deref(),
        Some("-100")
    );
    assert_eq!(text(STEP, ValueKind::Decimal, "NaN"), None);
    assert_eq!(
        text(STEP, ValueKind::Float { bytes: 8 }, "250.5").as_deref(),
        Some("200")
    );
    assert_eq!(
        binary(
            STEP,
            ValueKind::Float { bytes: 8 },
            &250.5_f64.to_be_bytes()
        ),
        Some(200_f64.to_be_bytes().to_vec())
    );
    assert_eq!(
        text(STEP, ValueKind::Text, "12345").as_deref(),
        Some("12300")
    );
    assert_eq!(text(STEP, ValueKind::Text, "a secret"), None);
}

/// What `numeric_send` writes.
fn numeric(weight: i16, sign: u16, scale: u16, groups: &[u16]) -> Vec<u8> {
    let count = u16::try_from(groups.len()).expect("few");
    let head = [count, weight.cast_unsigned(), sign, scale];
    head.iter()
        .chain(groups)
        .flat_map(|word| word.to_be_bytes())
        .collect()
}

#[test]
fn numeric_is_the_same_in_text_and_binary() {
    let cases = [
        ("1234.56", numeric(0, 0, 2, &[1234, 5600])),
        ("-20000.007", numeric(1, 0x4000, 3, &[2, 0, 70])),
        (
            "123456789012.5",
            numeric(2, 0, 1, &[1234, 5678, 9012, 5000]),
        ),
        ("0.0512", numeric(-1, 0, 4, &[512])),
        ("10000", numeric(1, 0, 0, &[1])),
        ("42", numeric(0, 0, 0, &[42])),
    ];
    for kind in [STEP, MaskKind::Token, MaskKind::Hash] {
        for (input, raw) in &cases {
            let shown = text(kind, ValueKind::Decimal, input).expect("a form");
            let sent = binary(kind, ValueKind::Decimal, raw).expect("a form");
            // What is sent is read again as what is shown.
            let again = binary(STEP, ValueKind::Decimal, &sent);
            let floored = text(STEP, ValueKind::Decimal, &shown).expect("a number");
            let mut expected = Vec::new();
            super::number::decimal_binary_of(&floored, &mut expected);
            assert_eq!(again, Some(expected), "{kind:?} of {input}: {shown}");
            assert!(kind == STEP || shown != *input, "{kind:?} of {input}");
        }
    }
    assert_eq!(
        binary(STEP, ValueKind::Decimal, &numeric(0, 0xc000, 0, &[])),
        None
    );
    assert_eq!(binary(STEP, ValueKind::Decimal, b"\0\x01"), None);
}

#[test]
fn tokens_keep_the_form_and_never_meet() {
    let token = |input: &str| text(MaskKind::Token, ValueKind::Text, input).expect("a token");
    let one = token("917-24-1234");
    assert_eq!(one, token("917-24-1234"));
    assert_eq!(one.len(), 11);
    let form: String = one
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(form, "000-00-0000");
    let mail = token("Ada.Meyer@shop.example");
    assert_eq!(mail.find('@'), Some(9));
    assert!(mail.starts_with(|c: char| c.is_ascii_uppercase()), "{mail}");
    let all: BTreeSet<String> = (0..1000).map(|n| token(&format!("{n:03}"))).collect();
    assert_eq!(all.len(), 1000, "a permutation");
    let all: BTreeSet<String> = (100..1000)
        .map(|n| text(MaskKind::Token, INT4, &n.to_string()).expect("a token"))
        .collect();
    assert_eq!(all.len(), 900);
    assert!(all.iter().all(|token| token.len() == 3), "as many digits");
    for big in ["2147483647", "-2147483648", "1999999999"] {
        text(MaskKind::Token, INT4, big)
            .expect("a token")
            .parse::<i32>()
            .expect("within the type");
    }
    assert_eq!(text(MaskKind::Token, ValueKind::Text, "-"), None);
}

#[test]
fn a_token_is_one_in_text_and_binary_and_in_all_columns() {
    let shown = text(MaskKind::Token, INT4, "54321").expect("a token");
    let sent = binary(MaskKind::Token, INT4, &54321_i32.to_be_bytes()).expect("a token");
    assert_eq!(sent, shown.parse::<i32>().expect("a number").to_be_bytes());
    let wide = text(MaskKind::Token, ValueKind::Integer { bytes: 8 }, "54321");
    assert_eq!(wide.as_deref(), Some(shown.as_str()), "int4 joins int8");
    let uuid = "0d9f3f4e-3c5b-4b7a-9a55-3d8f8b1c0e11";
    let shown = text(MaskKind::Token, ValueKind::Uuid, uuid).expect("a token");
    let raw: Vec<u8> = super::hex_bytes(uuid.bytes().filter(|b| *b != b'-')).expect("hex");
    let sent = binary(MaskKind::Token, ValueKind::Uuid, &raw).expect("a token");
    assert_eq!(
        super::hex_bytes(shown.bytes().filter(|b| *b != b'-')),
        Some(sent)
    );
    assert_ne!(shown, uuid);
    let day = text(MaskKind::Token, ValueKind::Date, "1984-02-29").expect("a token");
    let sent =
        binary(MaskKind::Token, ValueKind::Date, &(-5785_i32).to_be_bytes()).expect("a token");
    let days = i32::from_be_bytes(sent.try_into().expect("4 bytes"));
    let back = text(MaskKind::Range(Span::Month), ValueKind::Date, &day);
    let same = binary(
        MaskKind::Range(Span::Month),
        ValueKind::Date,
        &days.to_be_bytes(),
    );
    assert!(back.is_some() && same.is_some());
}

#[test]
fn moments_fall_to_the_start_of_their_span() {
    let month = MaskKind::Range(Span::Month);
    let decade = MaskKind::Range(Span::Decade);
    assert_eq!(
        text(month, ValueKind::Date, "1984-02-29").as_deref(),
        Some("1984-02-01")
    );
    assert_eq!(
        text(decade, ValueKind::Date, "1999-12-31").as_deref(),
        Some("1990-01-01")
    );
    // 1984-02-29 is 5,785 days before 2000-01-01, 1984-02-01 is 5,813.
    assert_eq!(
        binary(month, ValueKind::Date, &(-5785_i32).to_be_bytes()),
        Some((-5813_i32).to_be_bytes().to_vec())
    );
    assert_eq!(
        binary(month, ValueKind::Date, &i32::MAX.to_be_bytes()),
        None
    );
    assert_eq!(
        text(month, ValueKind::Timestamp, "2026-11-29 21:11:28.5+00").as_deref(),
        Some("2026-11-01 00:00:00+00")
    );
    assert_eq!(
        text(month, ValueKind::Timestamp, "2026-11-29 21:11:28").as_deref(),
        Some("2026-11-01 00:00:00")
    );
    for strange in [
        "infinity",
        "0044-03-15 BC",
        "11/29/2026",
        "2026-13-01",
        "2026-11-29 9 o'clock",
    ] {
        assert_eq!(
            text(month, ValueKind::Timestamp, strange),
            None,
            "{strange}"
        );
    }
    let day = 86_400_000_000_i64;
    assert_eq!(
        binary(month, ValueKind::Timestamp, &(40 * day + 5).to_be_bytes()),
        Some((31 * day).to_be_bytes().to_vec())
    );
    assert_eq!(
        binary(month, ValueKind::Timestamp, &i64::MAX.to_be_bytes()),
        None
    );
    // A span of numbers says nothing of a date, and the reverse.
    assert_eq!(text(STEP, ValueKind::Date, "1984-02-29"), None);
    assert_eq!(text(month, INT4, "1984"), None);
}

#[test]
fn documents_become_one_text() {
    assert_eq!(
        text(MaskKind::Redact, ValueKind::Jsonb, "{}").as_deref(),
        Some("\"[redacted]\"")
    );
    let sent = binary(MaskKind::Hash, ValueKind::Jsonb, b"\x01{}").expect("a form");
    assert_eq!(sent, b"\x01\"[redacted]\"");
    assert_eq!(text(MaskKind::Null, ValueKind::Json, "{}"), None);
}

#[test]
fn bytes_are_masked_as_bytes() {
    let sent = binary(MaskKind::Token, ValueKind::Bytes, b"secret").expect("a token");
    let shown = text(MaskKind::Token, ValueKind::Bytes, "\\x736563726574").expect("a token");
    let digits = shown.strip_prefix("\\x").expect("hex");
    assert_eq!(super::hex_bytes(digits.bytes()), Some(sent));
    assert_eq!(text(MaskKind::Token, ValueKind::Bytes, "sec\\000ret"), None);
}

#[test]
fn arrays_keep_their_shape() {
    let arrays = |kind, value, format| plan(kind, value, format).in_arrays();
    let texts = |kind, input: &str| {
        let out = masked(
            &arrays(kind, ValueKind::Text, Format::Text),
            kind,
            input.as_bytes(),
        );
        out.map(|out| String::from_utf8(out).expect("text"))
    };
    assert_eq!(
        texts(MaskKind::Redact, r#"{a,"b ""}"#).as_deref(),
        None,
        "an unfinished quote"
    );
    assert_eq!(
        texts(MaskKind::Redact, r#"[0:1]={{a,"b \"} \\"},{NULL,"NULL"}}"#).as_deref(),
        Some(r#"[0:1]={{"[redacted]","[redacted]"},{NULL,"[redacted]"}}"#)
    );
    assert_eq!(texts(MaskKind::Redact, "{}").as_deref(), Some("{}"));
    assert_eq!(
        texts(MaskKind::Null, "{a,b}").as_deref(),
        Some("{NULL,NULL}")
    );
    assert_eq!(texts(MaskKind::Redact, "a"), None);
    let word = |number: i32| number.to_be_bytes();
    let array = |elements: &[Option<&[u8]>]| {
        let mut out: Vec<u8> = [1, 0, 23, 3, 1].into_iter().flat_map(word).collect();
        for element in elements {
            match element {
                Some(bytes) => {
                    out.extend(word(i32::try_from(bytes.len()).expect("short")));
                    out.extend(*bytes);
                }
                None => out.extend(word(-1)),
            }
        }
        out
    };
    let raw = array(&[Some(&word(54321)), None, Some(&word(7))]);
    let out = masked(&arrays(STEP, INT4, Format::Binary), STEP, &raw).expect("an array");
    let mut expected = array(&[Some(&word(54300)), None, Some(&word(0))]);
    expected[7] = 1;
    assert_eq!(out, expected);
    for cut in 0..raw.len() {
        let out = masked(&arrays(STEP, INT4, Format::Binary), STEP, &raw[..cut]);
        let whole_elements = [20, 28, 32].contains(&cut);
        assert_eq!(out.is_some(), whole_elements, "cut at {cut}");
    }
}

#[test]
fn nothing_panics_and_nothing_is_shown_as_it_is() {
    use rand::{Rng as _, SeedableRng as _};
    let mut chance = rand::rngs::StdRng::seed_from_u64(11);
    let kinds = [
        MaskKind::Null,
        MaskKind::Redact,
        MaskKind::Hash,
        MaskKind::Token,
        STEP,
        MaskKind::Range(Span::Year),
        MaskKind::Partial { keep_last: 2 },
    ];
    let values = [
        ValueKind::Text,
        ValueKind::Json,
        ValueKind::Jsonb,
        INT4,
        ValueKind::Integer { bytes: 2 },
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
    for _ in 0..20_000 {
        let length = chance.random_range(0..40);
        let mut value: Vec<u8> = (0..length).map(|_| chance.random()).collect();
        if chance.random() {
            const LETTERS: &[u8] = b"0123456789-:. +{}\",\\xNUL[]=e";
            value
                .iter_mut()
                .for_each(|byte| *byte = LETTERS[usize::from(*byte) % LETTERS.len()]);
        }
        for kind in kinds {
            let value_kind = values[chance.random_range(0..values.len())];
            let format = if chance.random() {
                Format::Text
            } else {
                Format::Binary
            };
            let mut plan = plan(kind, value_kind, format);
            if chance.random_range(0..3) == 0 {
                plan = plan.in_arrays();
            }
            masked(&plan, kind, &value);
        }
    }
}
