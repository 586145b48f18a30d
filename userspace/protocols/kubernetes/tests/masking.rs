//! No value of a secret gets through, wherever it stands.

use proptest::prelude::*;
use serde_json::{Value, json};
use weir_decide::MaskKind;
use weir_kubernetes::{Masking, mask};
use weir_mask::MaskKey;

const CANARY: &str = "canary-7f3a";
/// The canary in base64.
const CODED: &str = "Y2FuYXJ5LTdmM2E=";
const REDACT: Masking<'_> = Masking {
    secrets: Some(MaskKind::Redact),
    configs: None,
    config_keys: &[],
};

fn secret() -> Value {
    json!({
        "kind": "Secret", "apiVersion": "v1",
        "metadata": { "name": "db", "annotations": {
            "kubectl.kubernetes.io/last-applied-configuration":
                json!({"kind": "Secret", "data": {"p": CODED}, "stringData": {"q": CANARY}})
                    .to_string(),
        }},
        "data": { "p": CODED },
        "stringData": { "q": CANARY },
        "type": "Opaque",
    })
}

fn bare(mut value: Value) -> Value {
    value.as_object_mut().unwrap().remove("kind");
    value
}

fn masked(value: &Value, masking: &Masking<'_>, secrets: bool) -> String {
    let key = MaskKey::new([3; 32]);
    let masked = mask(value.to_string().as_bytes(), masking, secrets, &key).unwrap();
    String::from_utf8(masked.into_bytes().to_vec()).unwrap()
}

fn clean(text: &str) -> bool {
    !text.contains(CANARY) && !text.contains(CODED)
}

#[test]
fn secrets_are_masked_in_every_document_of_the_api() {
    let shapes = [
        (true, secret()),
        (true, bare(secret())),
        (
            true,
            json!({"kind": "SecretList", "items": [bare(secret()), bare(secret())]}),
        ),
        (
            false,
            json!({"kind": "SecretList", "items": [bare(secret())]}),
        ),
        (
            false,
            json!({"kind": "List", "items": [{"kind": "Pod"}, secret()]}),
        ),
        (true, json!({"type": "MODIFIED", "object": secret()})),
        (true, json!({"type": "ADDED", "object": bare(secret())})),
        (
            true,
            json!({"kind": "Table", "rows": [{"cells": ["db", 1], "object": secret()}]}),
        ),
        (
            true,
            json!({"kind": "Table", "rows": [{"cells": ["db"], "object": {
                "kind": "PartialObjectMetadata", "metadata": secret()["metadata"].clone(),
            }}]}),
        ),
        (
            false,
            json!({"kind": "Template", "spec": {"deep": [[{"object": secret()}]]}}),
        ),
    ];
    for (secrets, shape) in shapes {
        let out = masked(&shape, &REDACT, secrets);
        assert!(clean(&out), "{out}");
        assert!(out.contains("db"), "names stay: {out}");
    }
}

#[test]
fn a_secret_elsewhere_is_masked_even_where_policy_asks_for_nothing() {
    let nothing = Masking::default();
    assert!(clean(&masked(
        &json!({"items": [secret()]}),
        &nothing,
        false
    )));
    // Where secrets were asked for and may be read, they are.
    assert!(!clean(&masked(&secret(), &nothing, true)));
}

#[test]
fn other_objects_keep_their_data() {
    let object = json!({"kind": "Widget", "data": {"a": "b"}, "spec": {"data": [1, 2]}});
    let out: Value = serde_json::from_str(&masked(&object, &REDACT, false)).unwrap();
    assert_eq!(out, object);
}

/// A number that is read with an error in its last place is another one behind it.
#[test]
fn numbers_are_what_they_were() {
    let document = br#"{"kind":"Widget","a":111111111111111.11111111111111111105,"b":-7}"#;
    let key = MaskKey::new([3; 32]);
    let once = mask(document, &REDACT, false, &key).unwrap();
    let exact: f64 = "111111111111111.11111111111111111105".parse().unwrap();
    let out: Value = serde_json::from_slice(once.bytes()).unwrap();
    assert_eq!(out["a"].as_f64(), Some(exact));
    assert_eq!(out["b"].as_i64(), Some(-7));
}

#[test]
fn config_maps_are_masked_where_policy_asks_for_it() {
    let map = json!({"kind": "ConfigMap", "data": {"p": CANARY}, "binaryData": {"q": CODED}});
    let masking = Masking {
        secrets: None,
        configs: Some(MaskKind::Hash),
        config_keys: &[],
    };
    assert!(clean(&masked(&map, &masking, false)));
    assert!(!clean(&masked(&map, &REDACT, false)));
}

#[test]
fn only_the_configured_keys_of_config_maps_are_masked() {
    let keys = [
        "*password*".to_owned(),
        "DB_*".to_owned(),
        "exact".to_owned(),
    ];
    let masking = Masking {
        secrets: None,
        configs: Some(MaskKind::Redact),
        config_keys: &keys,
    };
    for (key, hidden) in [
        ("password", true),
        ("admin-PassWord-2", true),
        ("db_url", true),
        ("exact", true),
        ("exactly", false),
        ("url_db_", false),
        ("kind", false),
        ("data", false),
        ("binaryData", false),
    ] {
        for map in [
            json!({"kind": "ConfigMap", "data": {key: CANARY}}),
            json!({"kind": "ConfigMap", "binaryData": {key: CODED}}),
            json!({"kind": "ConfigMapList", "items": [{"data": {key: CANARY}}]}),
            json!({"type": "ADDED", "object": {"kind": "ConfigMap", "data": {key: CANARY}}}),
        ] {
            assert_eq!(clean(&masked(&map, &masking, false)), hidden, "{map}");
        }
    }
}

#[test]
fn masked_data_stays_base64_that_clients_can_read() {
    let out: Value = serde_json::from_str(&masked(&secret(), &REDACT, true)).unwrap();
    assert_eq!(out["data"]["p"], "W3JlZGFjdGVkXQ==");
    assert_eq!(out["stringData"]["q"], "[redacted]");
}

/// Wraps a secret in arbitrary lists and objects.
fn wrapped() -> impl Strategy<Value = Value> {
    let leaf = Just(secret());
    leaf.prop_recursive(6, 32, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(Value::from),
            ("[a-z]{1,8}", inner.clone()).prop_map(|(name, value)| json!({ name: value })),
            inner
                .clone()
                .prop_map(|value| json!({"kind": "Wrapper", "spec": value})),
            inner.prop_map(
                |value| json!({"kubectl.kubernetes.io/last-applied-configuration":
                value.to_string()})
            ),
        ]
    })
}

proptest! {
    #[test]
    fn a_secret_is_masked_at_any_depth(value in wrapped(), secrets: bool) {
        prop_assert!(clean(&masked(&value, &REDACT, secrets)));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let key = MaskKey::new([3; 32]);
        let _either = mask(&bytes, &REDACT, true, &key);
    }
}
