//! Masks of documents.

use serde_json::json;

use super::*;

/// Masks everything below `secret`, whatever stands in it; `text` holds a document.
struct Rules;

impl DocumentRules for Rules {
    type Place = ();

    fn object(&self, (): (), _object: &Map<String, Value>) {}

    fn member(&self, (): (), name: &str) -> Member<()> {
        match name {
            "secret" => Member::Mask(MaskKind::Redact, Encoding::Plain),
            "coded" => Member::Mask(MaskKind::Hash, Encoding::Base64),
            "text" => Member::Embedded(()),
            _ => Member::Walk(()),
        }
    }
}

fn masked(text: &str) -> (String, u64) {
    let key = MaskKey::new([7; 32]);
    let masked = document(text.as_bytes(), &Rules, (), &key).unwrap();
    let count = masked.masked_values();
    (
        String::from_utf8(masked.into_bytes().to_vec()).unwrap(),
        count,
    )
}

#[test]
fn every_value_below_a_masked_name_is_gone() {
    let (out, count) = masked(
        r#"[{"a":1,"secret":{"x":"one","y":["two",3,true,null,{"z":"four"}]}},{"secret":"five"}]"#,
    );
    for gone in ["one", "two", "3", "true", "four", "five"] {
        assert!(!out.contains(gone), "{gone} in {out}");
    }
    assert!(out.contains(r#""a":1"#) && out.contains(r#""z""#), "{out}");
    assert_eq!(count, 6);
}

#[test]
fn of_two_members_with_one_name_the_first_does_not_get_through() {
    let (out, _) = masked(r#"{"a":"first","a":"second","secret":"x","secret":{"b":"y"}}"#);
    assert_eq!(out, r#"{"a":"second","secret":{"b":"[redacted]"}}"#);
}

#[test]
fn escaped_names_are_the_same_names() {
    let (out, _) = masked("{\"s\\u0065cret\":\"canary\"}");
    assert!(!out.contains("canary"), "{out}");
}

#[test]
fn a_document_in_a_text_is_masked_and_one_that_cannot_be_read_is_redacted() {
    let (out, _) = masked(r#"{"text":"{\"secret\":\"canary\",\"b\":1}"}"#);
    assert!(
        !out.contains("canary") && out.contains(r#"\"b\":1"#),
        "{out}"
    );
    let (out, _) = masked(r#"{"text":"{\"secret\":\"canary\""}"#);
    assert_eq!(out, r#"{"text":"[redacted]"}"#);
}

/// `kubectl apply` compares the text byte by byte.
#[test]
fn a_document_in_a_text_keeps_its_spelling_unless_something_is_masked_or_said_twice() {
    let text = |inner: &str| json!({ "text": inner }).to_string();
    for same in [
        "{\"b\":1,\"a\":[1.0, 2e3]}\n",
        "{\"a\":\"\\u003cb\\u003e\",\"secret\":null}",
        "{\"text\":\"{ }\\n\"}",
    ] {
        assert_eq!(masked(&text(same)), (text(same), 0), "{same}");
    }
    // Of the first value nothing was seen.
    for (twice, written) in [
        (r#"{"secret":"canary","secret":null}"#, r#"{"secret":null}"#),
        (r#"{"x":{"a":"canary","\u0061":1}}"#, r#"{"x":{"a":1}}"#),
        (
            r#"{"text":"{\"secret\":\"canary\",\"secret\":null}"}"#,
            r#"{"text":"{\"secret\":null}"}"#,
        ),
    ] {
        assert_eq!(masked(&text(twice)).0, text(written), "{twice}");
    }
}

#[test]
fn coded_values_are_decoded_first_so_that_equal_values_stay_equal() {
    let (out, _) = masked(r#"{"a":{"coded":"Y2FuYXJ5"},"b":{"coded":"Y2FuYXJ5"}}"#);
    let value: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(value["a"]["coded"], value["b"]["coded"]);
    let text = STANDARD
        .decode(value["a"]["coded"].as_str().unwrap())
        .unwrap();
    assert!(text.starts_with(b"h:"), "{text:?}");
}

#[test]
fn what_is_no_document_is_refused() {
    let key = MaskKey::new([7; 32]);
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    for bad in ["", "{", "{} {}", "nope", &deep] {
        assert_eq!(
            document(bad.as_bytes(), &Rules, (), &key).unwrap_err(),
            Unreadable
        );
    }
}

#[test]
fn masked_texts_are_known_again() {
    let (out, _) = masked(r#"{"secret":"x"}"#);
    assert!(holds_masked_text(&serde_json::from_str(&out).unwrap()));
    assert!(!holds_masked_text(&serde_json::json!({"secret": "x"})));
}
