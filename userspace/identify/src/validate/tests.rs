//! Good tokens, and one test per class of bad ones.

mod attacks;
mod mutations;

use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use weir_model::ident::{Groups, PrincipalKind};

use super::id_token::Expected;
use super::{Accepted, Rules, TokenRefusal as R, open};
use crate::authority::Authority;
use crate::keys::{KeySet, KeySnapshot};

const T1: &str = "7e000000-0000-4000-8000-000000000001";
const T2: &str = "7e000000-0000-4000-8000-000000000002";
const API: &str = "ef000000-0000-4000-8000-000000000001";
const APP: &str = "a9000000-0000-4000-8000-000000000001";
const OID: &str = "0b000000-0000-4000-8000-000000000001";
const NOW: i64 = 1_800_000_000;

static K1: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
static K2: LazyLock<RsaKeyPair> = LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn jwk(key: &RsaKeyPair, kid: &str) -> Value {
    let public = key.public_key();
    let n = b64(public.modulus().big_endian_without_leading_zero());
    let e = b64(public.exponent().big_endian_without_leading_zero());
    json!({"kty": "RSA", "use": "sig", "kid": kid, "n": n, "e": e})
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

/// Tenant 1 publishes K1 as `k1`, tenant 2 publishes K2 as `k2`.
fn keys() -> KeySnapshot {
    KeySnapshot::default()
        .with(T1, set(&[jwk(&K1, "k1")]))
        .with(T2, set(&[jwk(&K2, "k2")]))
}

fn rules() -> Rules {
    Rules {
        authority: Authority::parse("public", false).unwrap(),
        tenants: vec![T1.into(), T2.into()],
        audience: API.into(),
        required_role: "Agent.Connect".into(),
        scope: "Agent.Run".into(),
        skew_s: 60,
    }
}

fn issuer(tenant: &str) -> String {
    format!("https://login.microsoftonline.com/{tenant}/v2.0")
}

fn app() -> Value {
    json!({
        "aud": API, "iss": issuer(T1), "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 3600,
        "azp": APP, "azpacr": "2", "idtyp": "app", "oid": OID, "sub": OID, "tid": T1,
        "ver": "2.0", "uti": "uti-1", "roles": ["Agent.Connect"], "rh": "1.A", "aio": "x",
    })
}

fn person() -> Value {
    let mut claims = app();
    let map = claims.as_object_mut().unwrap();
    map.remove("roles");
    map.remove("idtyp");
    map.insert("scp".into(), json!("Other.Read Agent.Run"));
    map.insert("azpacr".into(), json!("0"));
    claims
}

/// `app()` with members replaced; a `null` member is removed.
fn with(changes: Value) -> Value {
    merged(app(), changes)
}

fn merged(mut claims: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        let map = claims.as_object_mut().unwrap();
        if value.is_null() {
            map.remove(name);
        } else {
            map.insert(name.clone(), value.clone());
        }
    }
    claims
}

fn sign_raw(key: &RsaKeyPair, header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", b64(header), b64(payload));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .unwrap();
    format!("{signed}.{}", b64(signature))
}

const HEADER: &str = r#"{"alg":"RS256","typ":"JWT","kid":"k1"}"#;

fn sign(claims: &Value) -> String {
    sign_raw(&K1, HEADER, &claims.to_string())
}

fn check(token: &str) -> Result<Accepted, R> {
    open(token)?.check(&keys(), &rules(), None, NOW)
}

fn claims_refused(claims: &Value, refusal: R) {
    assert_eq!(check(&sign(claims)).unwrap_err(), refusal, "{claims}");
}

fn header_refused(header: &str, refusal: R) {
    let token = sign_raw(&K1, header, &app().to_string());
    assert_eq!(check(&token).unwrap_err(), refusal, "{header}");
}

#[test]
fn a_good_application_token_passes() {
    let accepted = check(&sign(&app())).unwrap();
    assert_eq!(accepted.kind, PrincipalKind::Application);
    assert_eq!(
        (&*accepted.tenant, &*accepted.oid, &*accepted.app),
        (T1, OID, APP)
    );
    assert_eq!(accepted.groups, Groups::Unknown);
    assert_eq!(&*accepted.token_id, "uti-1");
    assert_eq!(accepted.expires_s, NOW + 3600);
}

#[test]
fn a_good_delegated_token_passes() {
    assert_eq!(check(&sign(&person())).unwrap().kind, PrincipalKind::Person);
    let explicit = merged(person(), json!({"idtyp": "user"}));
    assert_eq!(check(&sign(&explicit)).unwrap().kind, PrincipalKind::Person);
}

#[test]
fn unusual_but_good_tokens_pass() {
    for header in [
        r#"{"alg":"RS256","kid":"k1"}"#,
        r#"{"alg":"RS256","typ":"jwt","kid":"k1","x5t":"abc","unknown":{"a":[1]}}"#,
        r#"{ "kid" : "\u006b1", "\u0061lg" : "RS256" }"#,
    ] {
        assert!(
            check(&sign_raw(&K1, header, &app().to_string())).is_ok(),
            "{header}"
        );
    }
    for changes in [
        json!({"xms_act_fct": "3 11", "sub": "differs", "deep": [[[{"a": null}]]]}),
        json!({"uti": null}),
        json!({"azpacr": "1"}),
        json!({"roles": ["Other", "Agent.Connect"]}),
        json!({"_claim_names": {"other": "src1"}, "hasgroups": false}),
        json!({"iat": NOW + 59, "nbf": NOW + 60}),
        json!({"exp": NOW - 59, "iat": NOW - 100}),
        json!({"exp": NOW - 10 + 28 * 3600}),
    ] {
        assert!(check(&sign(&with(changes.clone()))).is_ok(), "{changes}");
    }
}

#[test]
fn encoding_and_size() {
    let good = sign(&app());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (head, payload) = signed.split_once('.').unwrap();
    for token in [
        "",
        ".",
        "..",
        "a..b",
        head,
        signed,
        &format!("{good}."),
        &format!("{good}.x"),
    ] {
        assert_eq!(check(token).unwrap_err(), R::NotThreeParts, "{token}");
    }
    let padded = URL_SAFE.encode(br#"{"alg":"RS256","kid":"k1"}"#);
    assert!(padded.ends_with('='));
    for token in [
        format!("{padded}.{payload}.{signature}"),
        format!("{head}.{payload}.{signature}\n"),
        format!(" {good}"),
        format!("{head}.{payload}.{}", signature.replace(['-', '_'], "+")),
        format!("{head}.{payload}é.{signature}"),
    ] {
        assert_eq!(check(&token).unwrap_err(), R::NotBase64Url, "{token}");
    }
    assert_eq!(
        check(&format!("{good}{}", "A".repeat(16_384))).unwrap_err(),
        R::TooLong
    );
}

#[test]
fn non_canonical_trailing_bits() {
    // 256 bytes end in a character of which only two bits count: flip one that does not.
    let good = sign(&app());
    let last = good.chars().last().unwrap();
    let twin = char::from(last as u8 + 1);
    let token = format!("{}{twin}", &good[..good.len() - 1]);
    assert_eq!(check(&token).unwrap_err(), R::NotBase64Url);
}

#[test]
fn algorithm() {
    for alg in [
        "none", "None", "NONE", "HS256", "RS384", "PS256", "ES256", "rs256", "",
    ] {
        header_refused(&format!(r#"{{"alg":"{alg}","kid":"k1"}}"#), R::Algorithm);
    }
    header_refused(r#"{"kid":"k1"}"#, R::Algorithm);
    // HS256 keyed with the public key, in every form an attacker would try.
    let der = K1.public_key().as_der().unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, der.as_ref());
    let signed = format!(
        "{}.{}",
        b64(r#"{"alg":"HS256","kid":"k1"}"#),
        b64(app().to_string())
    );
    let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    assert_eq!(
        check(&format!("{signed}.{}", b64(tag))).unwrap_err(),
        R::Algorithm
    );
    let signed = format!("{}.{}", b64(HEADER), b64(app().to_string()));
    let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
    assert_eq!(
        check(&format!("{signed}.{}", b64(tag))).unwrap_err(),
        R::Signature
    );
}

#[test]
fn key_from_the_header_and_dangerous_members() {
    for member in [
        "crit", "jwk", "jku", "x5u", "x5c", "nonce", "b64", "zip", "enc",
    ] {
        for value in [r#""x""#, "null", "[]", "true", "{}"] {
            let header = format!(r#"{{"alg":"RS256","kid":"k1","{member}":{value}}}"#);
            header_refused(&header, R::HeaderMember);
        }
    }
    let jwk = jwk(&K2, "evil");
    let header = format!(r#"{{"alg":"RS256","kid":"evil","jwk":{jwk}}}"#);
    let token = sign_raw(&K2, &header, &app().to_string());
    assert_eq!(check(&token).unwrap_err(), R::HeaderMember);
}

#[test]
fn header_shape() {
    header_refused(r#"["RS256","JWT","k1"]"#, R::HeaderNotObject);
    header_refused(r#" {"alg":"RS256","kid":"k1"}"#, R::HeaderNotObject);
    header_refused(
        r#"{"alg":"RS256","alg":"none","kid":"k1"}"#,
        R::HeaderMalformed,
    );
    header_refused(r#"{"alg":["RS256"],"kid":"k1"}"#, R::HeaderMalformed);
    header_refused(r#"{"alg":"RS256","kid":1}"#, R::HeaderMalformed);
    header_refused(r#"{"alg":"RS256","kid":null}"#, R::HeaderMalformed);
    header_refused(r#"{"alg":"RS256","kid":"k1"}x"#, R::HeaderMalformed);
    header_refused(r#"{"alg":"RS256","kid":"k1","typ":"at+jwt"}"#, R::Type);
}

#[test]
fn key_ids() {
    header_refused(r#"{"alg":"RS256"}"#, R::KidMissing);
    let long = "k".repeat(257);
    for kid in [
        "",
        "../../k1",
        "k1 ",
        "k1\\u0000",
        "k 1",
        "k1;",
        "ключ",
        long.as_str(),
    ] {
        header_refused(
            &format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#),
            R::KidMalformed,
        );
    }
    header_refused(r#"{"alg":"RS256","kid":"K1"}"#, R::UnknownKey);
    header_refused(r#"{"alg":"RS256","kid":"k9"}"#, R::UnknownKey);
}

#[test]
fn signature() {
    let token = sign_raw(&K2, HEADER, &app().to_string());
    assert_eq!(check(&token).unwrap_err(), R::Signature);
    let good = sign(&app());
    let (_, signature) = good.rsplit_once('.').unwrap();
    let swapped = b64(with(json!({"roles": ["Agent.Connect", "Admin"]})).to_string());
    let token = format!("{}.{swapped}.{signature}", b64(HEADER));
    assert_eq!(check(&token).unwrap_err(), R::Signature);
    let empty = format!("{}.{}.AA", b64(HEADER), b64(app().to_string()));
    assert_eq!(check(&empty).unwrap_err(), R::Signature);
}

#[test]
fn no_claim_counts_before_the_signature() {
    let token = sign_raw(&K2, HEADER, "this is not even JSON");
    assert_eq!(check(&token).unwrap_err(), R::Signature);
    assert_eq!(
        check(&sign_raw(&K1, HEADER, "nor this")).unwrap_err(),
        R::ClaimsNotObject
    );
}

#[test]
fn types_and_duplicates() {
    for (name, value) in [
        ("exp", r#""1800003600""#),
        ("exp", "1800003600.5"),
        ("exp", "1e30"),
        ("iss", "null"),
        ("iss", r#"["x"]"#),
        ("aud", r#"["ef000000-0000-4000-8000-000000000001"]"#),
        ("roles", r#""Agent.Connect""#),
        ("roles", "[1]"),
        ("groups", "null"),
        ("groups", "{}"),
        ("oid", "1"),
        ("scp", "null"),
    ] {
        let mut claims = app();
        claims.as_object_mut().unwrap().remove(name);
        let text = claims.to_string();
        let text = format!(r#"{{"{name}":{value},{}"#, &text[1..]);
        let token = sign_raw(&K1, HEADER, &text);
        assert_eq!(
            check(&token).unwrap_err(),
            R::ClaimsMalformed,
            "{name}: {value}"
        );
    }
    let twice = app()
        .to_string()
        .replacen('{', &format!(r#"{{"aud":"{API}","#), 1);
    assert_eq!(
        check(&sign_raw(&K1, HEADER, &twice)).unwrap_err(),
        R::ClaimsMalformed
    );
    let list = format!(r#"["{}","{API}"]"#, issuer(T1));
    assert_eq!(
        check(&sign_raw(&K1, HEADER, &list)).unwrap_err(),
        R::ClaimsNotObject
    );
}

#[test]
fn tenant_and_issuer() {
    claims_refused(&with(json!({"tid": null})), R::TenantMalformed);
    claims_refused(&with(json!({"tid": T1.to_uppercase()})), R::TenantMalformed);
    let stranger = "7e000000-0000-4000-8000-000000000009";
    claims_refused(
        &with(json!({"tid": stranger, "iss": issuer(stranger)})),
        R::TenantNotAllowed,
    );
    claims_refused(&with(json!({"ver": "1.0"})), R::Version);
    claims_refused(&with(json!({"ver": null})), R::Version);
    for iss in [
        issuer(T2),
        issuer("common"),
        format!("{}/", issuer(T1)),
        format!("{}.evil.example", issuer(T1)),
        format!("https://sts.windows.net/{T1}/"),
        format!("https://login.microsoftonline.us/{T1}/v2.0"),
        issuer(T1).to_uppercase(),
    ] {
        claims_refused(&with(json!({"iss": iss})), R::Issuer);
    }
    claims_refused(&with(json!({"iss": null})), R::Issuer);
}

#[test]
fn a_key_signs_only_for_the_tenant_that_publishes_it() {
    let forged = with(json!({"tid": T2, "iss": issuer(T2)}));
    claims_refused(&forged, R::KeyOfOtherTenant);
    // The same kid in both tenants, with different keys.
    let twins = KeySnapshot::default()
        .with(T1, set(&[jwk(&K1, "k1")]))
        .with(T2, set(&[jwk(&K2, "k1")]));
    let token = sign(&forged);
    let refusal = open(&token)
        .unwrap()
        .check(&twins, &rules(), None, NOW)
        .unwrap_err();
    assert_eq!(refusal, R::KeyOfOtherTenant);
    // One key that both publish, as Entra does, is fine.
    let shared = KeySnapshot::default()
        .with(T1, set(&[jwk(&K1, "k1")]))
        .with(T2, set(&[jwk(&K1, "k1")]));
    assert!(
        open(&token)
            .unwrap()
            .check(&shared, &rules(), None, NOW)
            .is_ok()
    );
}

#[test]
fn the_published_issuer_of_a_key_counts() {
    let consumers = "9188040d-6c67-4c5b-b112-36a304b66dad";
    for (published, ok) in [
        (issuer(T1), true),
        (issuer("{tenantid}"), true),
        (issuer(consumers), false),
        (issuer(T2), false),
    ] {
        let mut key = jwk(&K1, "k1");
        key["issuer"] = json!(published);
        let keys = KeySnapshot::default().with(T1, set(&[key]));
        let token = sign(&app());
        let result = open(&token).unwrap().check(&keys, &rules(), Some(T1), NOW);
        assert_eq!(result.err(), (!ok).then_some(R::KeyIssuer), "{published}");
    }
}

#[test]
fn audience() {
    for aud in [
        "ef000000-0000-4000-8000-000000000002",
        "api://ef000000-0000-4000-8000-000000000001",
        "EF000000-0000-4000-8000-000000000001",
        "",
    ] {
        claims_refused(&with(json!({"aud": aud})), R::Audience);
    }
    claims_refused(&with(json!({"aud": null})), R::Audience);
}

#[test]
fn time() {
    for name in ["exp", "nbf", "iat"] {
        claims_refused(&with(json!({name: null})), R::TimeMissing);
    }
    claims_refused(
        &with(json!({"exp": NOW - 60, "iat": NOW - 100})),
        R::Expired,
    );
    claims_refused(&with(json!({"nbf": NOW + 61})), R::NotYetValid);
    claims_refused(&with(json!({"iat": NOW + 61})), R::IssuedInFuture);
    claims_refused(
        &with(json!({"exp": NOW + 5, "iat": NOW + 5})),
        R::ExpiresBeforeIssued,
    );
    claims_refused(&with(json!({"exp": NOW - 9 + 28 * 3600})), R::LifeTooLong);
    claims_refused(&with(json!({"exp": i64::MAX, "iat": 0})), R::LifeTooLong);
    claims_refused(&with(json!({"exp": i64::MIN})), R::Expired);
}

#[test]
fn id_tokens_and_principal_less_tokens() {
    for name in ["nonce", "at_hash", "c_hash"] {
        claims_refused(&with(json!({name: "x"})), R::IdToken);
    }
    let zero = "00000000-0000-0000-0000-000000000000";
    for bad in [
        json!(null),
        json!(zero),
        json!("alice@lab.example"),
        json!(OID.to_uppercase()),
    ] {
        claims_refused(&with(json!({"oid": bad})), R::ObjectId);
        claims_refused(&with(json!({"azp": bad})), R::ClientId);
    }
}

#[test]
fn one_story_only() {
    claims_refused(&with(json!({"scp": "Agent.Run"})), R::Story);
    claims_refused(&with(json!({"idtyp": null})), R::Story);
    claims_refused(&with(json!({"idtyp": "App"})), R::Story);
    claims_refused(
        &with(json!({"idtyp": "device", "scp": "Agent.Run"})),
        R::Story,
    );
    claims_refused(&with(json!({"idtyp": "user"})), R::Story);
}

#[test]
fn authorisation() {
    claims_refused(&with(json!({"roles": null})), R::RoleMissing);
    claims_refused(&with(json!({"roles": []})), R::RoleMissing);
    claims_refused(
        &with(json!({"roles": ["agent.connect", "Agent.Connect "]})),
        R::RoleMissing,
    );
    claims_refused(&with(json!({"azpacr": "0"})), R::ClientAuthentication);
    claims_refused(&with(json!({"azpacr": null})), R::ClientAuthentication);
    for scp in [
        "",
        "Agent.Runner",
        "xAgent.Run",
        "agent.run",
        "Agent.Run\tx",
    ] {
        claims_refused(&merged(person(), json!({"scp": scp})), R::ScopeMissing);
    }
    claims_refused(
        &merged(
            person(),
            json!({"scp": "Other", "roles": ["Agent.Connect"]}),
        ),
        R::ScopeMissing,
    );
}

#[test]
fn groups() {
    let group = "9a000000-0000-4000-8000-000000000001";
    let groups = |changes: Value| check(&sign(&with(changes))).map(|accepted| accepted.groups);
    assert_eq!(
        groups(json!({"groups": [group]})),
        Ok(Groups::Known([group.into()].into()))
    );
    assert_eq!(groups(json!({"groups": []})), Ok(Groups::Known([].into())));
    assert_eq!(groups(json!({"hasgroups": true})), Ok(Groups::Overage));
    let elsewhere = json!({
        "_claim_names": {"groups": "src1"},
        "_claim_sources": {"src1": {"endpoint": "https://evil.example/groups"}},
    });
    assert_eq!(groups(elsewhere.clone()), Ok(Groups::Overage));
    let both = merged(elsewhere, json!({"groups": [group]}));
    assert_eq!(groups(both), Err(R::GroupsContradiction));
    assert_eq!(
        groups(json!({"groups": vec![group; 201]})),
        Err(R::GroupsTooMany)
    );
    assert!(groups(json!({"groups": vec![group; 200]})).is_ok());
    assert_eq!(groups(json!({"groups": ["dba"]})), Err(R::GroupsNotGuid));
    assert_eq!(
        groups(json!({"groups": [group.to_uppercase()]})),
        Err(R::GroupsNotGuid)
    );
}

#[test]
fn binding() {
    let accepted = check(&sign(&app())).unwrap();
    let app_kind = PrincipalKind::Application;
    assert_eq!(accepted.bound_to(app_kind, T1, APP), Ok(()));
    assert_eq!(accepted.bound_to(app_kind, T2, APP), Err(R::BindTenant));
    assert_eq!(accepted.bound_to(app_kind, T1, OID), Err(R::BindClient));
    assert_eq!(
        accepted.bound_to(PrincipalKind::Person, T1, APP),
        Err(R::BindKind)
    );
}

#[test]
fn id_token_of_a_sign_in() {
    let id = json!({
        "aud": APP, "iss": issuer(T1), "iat": NOW, "exp": NOW + 3600, "tid": T1, "oid": OID,
        "at_hash": "x",
    });
    let checked = |claims: &Value, nonce: Option<&str>| {
        let token = sign(claims);
        let expected = Expected {
            tenant: T1,
            client_id: APP,
            oid: OID,
            nonce,
        };
        open(&token)
            .unwrap()
            .check_id_token(&keys(), &rules(), &expected, NOW)
    };
    let with_nonce =
        |value: Value| checked(&merged(id.clone(), json!({"nonce": value})), Some("n"));
    assert_eq!(with_nonce(json!("n")), Ok(()));
    assert_eq!(checked(&id, Some("n")), Err(R::Nonce), "none came back");
    for other in [json!("m"), json!("N"), json!(""), json!(["n"]), json!(true)] {
        assert_eq!(with_nonce(other), Err(R::Nonce));
    }
    let check = |claims: &Value| checked(claims, None);
    assert_eq!(check(&id), Ok(()));
    for (changes, refusal) in [
        (json!({"nonce": "n"}), R::IdToken),
        (json!({"aud": API}), R::Audience),
        (json!({"oid": APP}), R::ObjectId),
        (json!({"tid": T2}), R::BindTenant),
        (json!({"iss": issuer(T2)}), R::Issuer),
        (json!({"exp": NOW - 61}), R::Expired),
        (json!({"iat": NOW + 61}), R::IssuedInFuture),
        (json!({"exp": null}), R::TimeMissing),
        (json!({"nbf": NOW + 61}), R::NotYetValid),
    ] {
        assert_eq!(check(&merged(id.clone(), changes)), Err(refusal));
    }
}

#[test]
fn steps_are_in_order_and_codes_unique() {
    let steps: Vec<u8> = R::ALL.iter().map(|refusal| refusal.step()).collect();
    assert!(steps.is_sorted());
    assert_eq!(steps.last(), Some(&18));
    let codes: std::collections::BTreeSet<&str> = R::ALL.iter().map(|r| r.code()).collect();
    assert_eq!(codes.len(), R::ALL.len());
}
