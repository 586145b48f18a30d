//! One change, anywhere: whatever an attacker can do to a good token without the key, and whatever
//! one claim can be in a token that Entra signed for somebody else.

use proptest::prelude::*;

use super::*;

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static GOOD: LazyLock<String> = LazyLock::new(|| sign(&app()));

#[test]
fn every_single_character_counts() {
    for index in 0..GOOD.len() {
        let old = GOOD.as_bytes()[index];
        let at = ALPHABET.iter().position(|byte| *byte == old);
        // The neighbour in the alphabet: one bit of what is encoded.
        let new = ALPHABET[at.map_or(0, |at| at ^ 1)];
        let mut bytes = GOOD.clone().into_bytes();
        bytes[index] = new;
        let token = String::from_utf8(bytes).unwrap();
        assert!(check(&token).is_err(), "position {index}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn replaced_inserted_removed_or_swapped(
        at in any::<prop::sample::Index>(),
        other in any::<prop::sample::Index>(),
        byte in 0_u8..128,
        how in 0_usize..5,
    ) {
        let mut bytes = GOOD.clone().into_bytes();
        let (at, other) = (at.index(bytes.len()), other.index(bytes.len()));
        match how {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            2 => {
                bytes.remove(at);
            }
            3 => bytes.swap(at, other),
            _ => bytes.truncate(at),
        }
        prop_assume!(bytes != GOOD.as_bytes());
        let token = String::from_utf8(bytes).unwrap();
        prop_assert!(check(&token).is_err(), "{token}");
    }

    #[test]
    fn arbitrary_text_is_refused_without_a_panic(text in "[ -~\u{80}-\u{2ff}.]{0,200}") {
        prop_assert!(check(&text).is_err());
    }

    #[test]
    fn arbitrary_signed_claims_are_refused_without_a_panic(text in "[ -~]{0,120}") {
        prop_assert!(check(&sign_raw(&K1, HEADER, &text)).is_err());
    }
}

/// Signed by the right key: what counts then is each claim alone.
#[test]
fn every_claim_that_counts_is_needed_and_has_one_type() {
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(1.5),
        json!(""),
        json!("x"),
        json!([]),
        json!({}),
        json!(["x"]),
        json!(-1),
        json!(i64::MAX),
    ];
    for name in [
        "aud", "iss", "iat", "nbf", "exp", "azp", "azpacr", "idtyp", "oid", "tid", "ver", "roles",
    ] {
        let mut without = app();
        without.as_object_mut().unwrap().remove(name);
        assert!(check(&sign(&without)).is_err(), "without {name}");
        for value in &values {
            // Long ago is a good time for these two, in this list.
            let past = matches!(name, "nbf") && value.as_i64().is_some_and(|at| at <= 0);
            let mut claims = app();
            claims[name] = value.clone();
            assert_eq!(check(&sign(&claims)).is_ok(), past, "{name}: {value}");
        }
    }
}
