//! The cache's rules under a simulated clock, and what a key set may be.

use std::sync::Arc;

use serde_json::{Value, json};
use weir_model::time::Now;

use super::{KeyCache, KeySet, KeySetRefusal, Need};

const TENANT: &str = "7e000000-0000-4000-8000-000000000001";

fn at(seconds: u64) -> Now {
    Now {
        mono_us: seconds * 1_000_000,
        wall_us: 0,
    }
}

/// A modulus of that many bits: the cache never verifies with it.
fn key(kid: &str, bits: usize) -> Value {
    let modulus = vec![0xff_u8; bits / 8];
    let n = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, modulus);
    json!({"kty": "RSA", "use": "sig", "kid": kid, "n": n, "e": "AQAB"})
}

fn parse(keys: &[Value]) -> Result<KeySet, KeySetRefusal> {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
}

fn cache() -> KeyCache<()> {
    let mut cache = KeyCache::for_tenants(&[Arc::from(TENANT)]);
    cache.fetched(TENANT, parse(&[key("k1", 2048)]).unwrap(), (), at(0));
    cache
}

#[test]
fn keys_that_cannot_sign_rs256_are_skipped() {
    let mut encryption = key("enc", 2048);
    encryption["use"] = json!("enc");
    let mut other_alg = key("ps", 2048);
    other_alg["alg"] = json!("PS256");
    let elliptic = json!({"kty": "EC", "kid": "ec", "crv": "P-256", "x": "AA", "y": "AA"});
    let secret = json!({"kty": "oct", "kid": "oct", "k": "AAAA"});
    let mut no_kid = key("x", 2048);
    no_kid.as_object_mut().unwrap().remove("kid");
    let mut padded = key("zeros", 1024);
    let zeros = [vec![0_u8; 128], vec![0xff; 128]].concat();
    padded["n"] = json!(base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        zeros
    ));
    let bad = [
        encryption,
        other_alg,
        elliptic,
        secret,
        no_kid,
        padded,
        key("short", 1024),
    ];
    assert_eq!(parse(&bad).err(), Some(KeySetRefusal::Empty));
    let mut all = bad.to_vec();
    all.push(key("good", 2048));
    let set = parse(&all).unwrap();
    assert_eq!(set.keys.keys().collect::<Vec<_>>(), ["good"]);
}

#[test]
fn a_set_that_cannot_be_trusted_is_refused_whole() {
    let twice = [key("k1", 2048), key("k1", 2048)];
    assert_eq!(parse(&twice).err(), Some(KeySetRefusal::DuplicateKid));
    assert_eq!(parse(&[]).err(), Some(KeySetRefusal::Empty));
    for body in ["", "{}", "[]", "<html>", r#"{"keys":{}}"#] {
        assert_eq!(
            KeySet::parse(body.as_bytes()).err(),
            Some(KeySetRefusal::Malformed),
            "{body}"
        );
    }
    let many: Vec<Value> = (0..1001).map(|i| json!({"kid": i.to_string()})).collect();
    assert_eq!(parse(&many).err(), Some(KeySetRefusal::TooMany));
}

#[test]
fn five_thousand_unknown_kids_are_one_fetch_in_five_minutes() {
    let mut cache = cache();
    let mut fetches = 0;
    for index in 0..5000_u64 {
        let now = at(10 + index / 20);
        let kid = format!("unknown{index}");
        if cache.need(TENANT, Some(&kid), now) != Need::Nothing {
            cache.fetching(TENANT, Some(&kid), now);
            cache.fetched(TENANT, parse(&[key("k1", 2048)]).unwrap(), (), now);
            fetches += 1;
        }
    }
    assert_eq!(fetches, 1);
    assert_eq!(cache.need(TENANT, Some("later"), at(310)), Need::Refresh);
    assert_eq!(
        cache.need("another-tenant", Some("k"), at(310)),
        Need::Nothing
    );
}

#[test]
fn sets_are_refreshed_hourly_and_die_after_a_day() {
    let mut cache = cache();
    assert_eq!(cache.need(TENANT, Some("k1"), at(3599)), Need::Nothing);
    assert_eq!(cache.need(TENANT, Some("k1"), at(3600)), Need::Refresh);
    cache.failed(TENANT, at(3600));
    assert_eq!(
        cache.need(TENANT, Some("k1"), at(3604)),
        Need::Nothing,
        "last good serves"
    );
    assert_eq!(cache.need(TENANT, Some("k1"), at(3605)), Need::Refresh);
    assert!(cache.document(TENANT, at(86_399)).is_some());
    assert!(cache.document(TENANT, at(86_400)).is_none());
    assert_eq!(cache.need(TENANT, Some("k1"), at(86_400)), Need::Fetch);
    cache.failed(TENANT, at(86_400));
    assert_eq!(cache.need(TENANT, Some("k1"), at(86_401)), Need::Away);
}
