//! What somebody would try who holds good tokens of other applications, or can publish a key of
//! their own: one test per class of bug that validators have had.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RsaEncoding,
};

use super::*;

fn signed_as(header: &str, padding: &'static dyn RsaEncoding) -> String {
    let signed = format!("{}.{}", b64(header), b64(app().to_string()));
    let mut signature = vec![0; K1.public_modulus_len()];
    K1.sign(
        padding,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .unwrap();
    format!("{signed}.{}", b64(signature))
}

fn raw_refused(payload: &str, refusal: R) {
    let token = sign_raw(&K1, HEADER, payload);
    assert_eq!(check(&token).unwrap_err(), refusal, "{payload}");
}

/// The claims with `member` (JSON text) put in front of them.
fn beside(member: &str) -> String {
    app().to_string().replacen('{', &format!("{{{member},"), 1)
}

#[test]
fn algorithm_confusion_with_real_signatures() {
    let header = |alg: &str| format!(r#"{{"alg":"{alg}","kid":"k1"}}"#);
    let right: &dyn RsaEncoding = &RSA_PKCS1_SHA256;
    assert!(check(&signed_as(&header("RS256"), right)).is_ok());
    for (alg, padding) in [
        ("RS512", &RSA_PKCS1_SHA512 as &'static dyn RsaEncoding),
        ("PS256", &RSA_PSS_SHA256),
    ] {
        assert_eq!(check(&signed_as(&header(alg), padding)), Err(R::Algorithm));
        // Named RS256 after all: the padding is another.
        let renamed = signed_as(&header("RS256"), padding);
        assert_eq!(check(&renamed), Err(R::Signature), "{alg}");
    }
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    for (alg, refusal) in [("ES256", R::Algorithm), ("RS256", R::Signature)] {
        let signed = format!("{}.{}", b64(header(alg)), b64(app().to_string()));
        let signature = key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        let token = format!("{signed}.{}", b64(signature));
        assert_eq!(check(&token).unwrap_err(), refusal, "{alg}");
    }
    for alg in [
        "RS256 ",
        " RS256",
        "RS256\\u0000",
        "RS256,none",
        "R\\u0053256x",
        "EdDSA",
        "dir",
    ] {
        header_refused(&header(alg), R::Algorithm);
    }
    for alg in ["[\"RS256\"]", "{\"RS256\":1}", "256", "true", "null"] {
        header_refused(
            &format!(r#"{{"alg":{alg},"kid":"k1"}}"#),
            R::HeaderMalformed,
        );
    }
}

#[test]
fn signatures_stripped_stretched_or_taken_from_elsewhere() {
    let good = sign(&app());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let with = |bytes: &[u8]| check(&format!("{signed}.{}", b64(bytes))).unwrap_err();
    assert_eq!(with(&[]), R::NotThreeParts);
    assert_eq!(with(&[&[0][..], &bytes].concat()), R::Signature);
    assert_eq!(with(&[&bytes[..], &[0]].concat()), R::Signature);
    assert_eq!(with(&bytes[1..]), R::Signature);
    assert_eq!(with(&vec![0; bytes.len()]), R::Signature);
    assert_eq!(with(&vec![0xff; bytes.len()]), R::Signature);
    let mut turned = bytes.clone();
    turned.reverse();
    assert_eq!(with(&turned), R::Signature);
    // A signature over the same claims behind another header, and over the decoded text.
    let other = sign_raw(&K1, r#"{"alg":"RS256","kid":"k1"}"#, &app().to_string());
    let (_, foreign) = other.rsplit_once('.').unwrap();
    assert_eq!(check(&format!("{signed}.{foreign}")), Err(R::Signature));
}

#[test]
fn nested_encrypted_and_wrapped_tokens() {
    let inner = sign(&app());
    raw_refused(&inner, R::ClaimsNotObject);
    raw_refused(&format!("\"{inner}\""), R::ClaimsNotObject);
    raw_refused(&format!(r#"{{"jwt":"{inner}"}}"#), R::TenantMalformed);
    // JWE in its compact form: five parts.
    let jwe = format!(
        "{}.AA.AA.AA.AA",
        b64(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#)
    );
    assert_eq!(check(&jwe), Err(R::NotThreeParts));
    header_refused(
        r#"{"alg":"RS256","kid":"k1","enc":"A256GCM","zip":"DEF"}"#,
        R::HeaderMember,
    );
    // JSON serialisations of JWS (RFC 7515, section 7.2).
    let (signed, signature) = inner.rsplit_once('.').unwrap();
    let (head, payload) = signed.split_once('.').unwrap();
    let flat =
        format!(r#"{{"protected":"{head}","payload":"{payload}","signature":"{signature}"}}"#);
    assert_eq!(check(&flat), Err(R::NotThreeParts));
    // The unsigned wrapper around a signed actor (CVE-2025-55241).
    let wrapper = b64(r#"{"alg":"none","typ":"JWT"}"#);
    let claims = b64(with(json!({"actortoken": inner, "nameid": OID})).to_string());
    assert_eq!(
        check(&format!("{wrapper}.{claims}.")),
        Err(R::NotThreeParts)
    );
    assert_eq!(check(&format!("{wrapper}.{claims}.AA")), Err(R::Algorithm));
}

#[test]
fn unencoded_payloads_and_critical_members() {
    for header in [
        r#"{"alg":"RS256","kid":"k1","b64":false,"crit":["b64"]}"#,
        r#"{"alg":"RS256","kid":"k1","crit":[]}"#,
        r#"{"alg":"RS256","kid":"k1","\u0063rit":["exp"]}"#,
        r#"{"alg":"RS256","kid":"k1","\u006aku":"https://evil.example/keys"}"#,
        r#"{"alg":"RS256","kid":"k1","x5c":["AA"],"x5t":"AA"}"#,
        r#"{"alg":"RS256","kid":"k1","nonce":"of a Graph token"}"#,
    ] {
        header_refused(header, R::HeaderMember);
    }
}

#[test]
fn members_that_are_there_twice_however_they_are_spelt() {
    for header in [
        r#"{"alg":"RS256","\u0061lg":"RS256","kid":"k1"}"#,
        r#"{"alg":"RS256","kid":"k1","kid":"k1"}"#,
        r#"{"alg":"RS256","kid":"k2","k\u0069d":"k1"}"#,
        r#"{"alg":"RS256","kid":"k1","typ":"JWT","typ":"JWT"}"#,
    ] {
        header_refused(header, R::HeaderMalformed);
    }
    for member in [
        format!(r#""aud":"{API}""#),
        format!(r#""\u0061ud":"{API}""#),
        format!(r#""tid":"{T2}""#),
        format!(r#""t\u0069d":"{T1}""#),
        r#""exp":1800003600"#.to_owned(),
        r#""ro\u006ces":["Agent.Connect"]"#.to_owned(),
        format!(r#""oid":"{OID}""#),
    ] {
        raw_refused(&beside(&member), R::ClaimsMalformed);
    }
}

#[test]
fn numbers_that_are_no_times() {
    for number in [
        "1e400",
        "-1e400",
        "1e9",
        "1800003600.0",
        "1800003600.000001",
        "18446744073709551616",
        "9223372036854775808",
        "\"1800003600\"",
        "[1800003600]",
        "true",
        "null",
        "{}",
        "NaN",
        "Infinity",
        "0x6B49D200",
        "01800003600",
        "+1800003600",
    ] {
        for name in ["exp", "nbf", "iat"] {
            let mut claims = app();
            claims.as_object_mut().unwrap().remove(name);
            let text = claims.to_string();
            let payload = format!("{{\"{name}\":{number},{}", &text[1..]);
            raw_refused(&payload, R::ClaimsMalformed);
        }
    }
    claims_refused(&with(json!({"exp": -1})), R::Expired);
    claims_refused(&with(json!({"exp": 0})), R::Expired);
    claims_refused(
        &with(json!({"exp": i64::MAX, "iat": i64::MIN, "nbf": i64::MIN})),
        R::LifeTooLong,
    );
    claims_refused(
        &with(json!({"exp": i64::MAX, "nbf": i64::MAX, "iat": NOW})),
        R::NotYetValid,
    );
    claims_refused(&with(json!({"nbf": NOW + 3600})), R::NotYetValid);
    claims_refused(
        &with(json!({"iat": NOW + 3600, "exp": NOW + 7200})),
        R::IssuedInFuture,
    );
    // Milliseconds in place of seconds.
    claims_refused(&with(json!({"exp": (NOW + 3600) * 1000})), R::LifeTooLong);
}

#[test]
fn tenants_spelt_otherwise() {
    for tid in [
        T1.to_uppercase(),
        format!("{{{T1}}}"),
        format!(" {T1}"),
        format!("{T1}\0"),
        format!("{T1}/"),
        T1.replace('-', ""),
        format!("urn:uuid:{T1}"),
        T1.replace("7e", "7е"),
        String::new(),
        "common".to_owned(),
        "lab.example".to_owned(),
    ] {
        claims_refused(&with(json!({"tid": tid})), R::TenantMalformed);
    }
    for tid in [
        "9188040d-6c67-4c5b-b112-36a304b66dad",
        "00000000-0000-0000-0000-000000000000",
        "7e000000-0000-4000-8000-000000000003",
    ] {
        let claims = with(json!({"tid": tid, "iss": issuer(tid)}));
        claims_refused(&claims, R::TenantNotAllowed);
    }
}

#[test]
fn issuers_that_only_look_right() {
    let host = "login.microsoftonline.com";
    for iss in [
        format!("{}/", issuer(T1)),
        format!("https://{host}//{T1}/v2.0"),
        format!("https://{host}:443/{T1}/v2.0"),
        format!("http://{host}/{T1}/v2.0"),
        format!("https://{host}/{T1}/v1.0"),
        format!("https://{host}/{T1}"),
        format!("https://{host}/{T1}/v2.0?x"),
        format!("https://{host}/{T1}/v2.0#"),
        format!("https://{host}/{T1}/v2.0\0"),
        format!("https://{host}/{T1}/%76%32.0"),
        format!("https://{host}/x/../{T1}/v2.0"),
        format!("https://user@{host}/{T1}/v2.0"),
        format!("https://{host}.evil.example/{T1}/v2.0"),
        format!("https://evil.example/{T1}/v2.0"),
        format!("https://evil.example/?https://{host}/{T1}/v2.0"),
        format!("https://login.microsoftonlinе.com/{T1}/v2.0"),
        format!("https://LOGIN.microsoftonline.com/{T1}/v2.0"),
        format!("https://sts.windows.net/{T1}/"),
        format!("https://{host}/{{tenantid}}/v2.0"),
        format!("https://{host}/{}/v2.0", T1.to_uppercase()),
        format!(" {}", issuer(T1)),
        String::new(),
    ] {
        claims_refused(&with(json!({"iss": iss})), R::Issuer);
    }
}

#[test]
fn audiences_that_only_look_right() {
    for aud in [
        API.to_uppercase(),
        format!("{{{API}}}"),
        API.replace('-', ""),
        format!("urn:uuid:{API}"),
        format!("api://{API}"),
        format!("api://{API}/"),
        format!("spn:{API}"),
        format!("{API}/"),
        format!(" {API}"),
        format!("{API} "),
        format!("{API}\0"),
        format!("{API},00000003-0000-0000-c000-000000000000"),
        API.replace("ef", "еf"),
        "00000003-0000-0000-c000-000000000000".to_owned(),
        "https://graph.microsoft.com".to_owned(),
        "api://AzureADTokenExchange".to_owned(),
        APP.to_owned(),
        String::new(),
    ] {
        claims_refused(&with(json!({"aud": aud})), R::Audience);
    }
    for aud in [
        format!(r#"["{API}"]"#),
        format!(r#"["other","{API}"]"#),
        format!(r#"{{"{API}":true}}"#),
        "null".to_owned(),
        "0".to_owned(),
    ] {
        let mut claims = app();
        claims.as_object_mut().unwrap().remove("aud");
        let payload = format!("{{\"aud\":{aud},{}", &claims.to_string()[1..]);
        raw_refused(&payload, R::ClaimsMalformed);
    }
}

#[test]
fn subjects_roles_and_scopes_that_only_look_right() {
    for id in [
        format!("{OID}\0"),
        format!(" {OID}"),
        format!("{{{OID}}}"),
        OID.replace('-', ""),
        OID.replace("0b", "0Ь"),
        "alice@lab.example".to_owned(),
    ] {
        claims_refused(&with(json!({"oid": id})), R::ObjectId);
        claims_refused(&with(json!({"azp": id})), R::ClientId);
    }
    for role in [
        "Agent.Connect\0",
        "Аgent.Connect",
        "Agent\u{2024}Connect",
        "agent.connect",
        "Agent.Connect\u{200b}",
        " Agent.Connect",
        "Agent.Connect,Other",
        "Agent.*",
        "",
    ] {
        claims_refused(&with(json!({"roles": [role]})), R::RoleMissing);
    }
    claims_refused(
        &with(json!({"wids": ["Agent.Connect"], "roles": []})),
        R::RoleMissing,
    );
    for scp in [
        "Agent.Run\0",
        "Agent.Run\u{a0}openid",
        "Agent.Run\nopenid",
        "Other,Agent.Run",
        "api://x/Agent.Run",
        "Agent.Run.All",
        "Agent.Ru",
        "Аgent.Run",
    ] {
        claims_refused(&merged(person(), json!({"scp": scp})), R::ScopeMissing);
    }
    for azpacr in ["0", "3", "", "2 ", "02"] {
        claims_refused(&with(json!({"azpacr": azpacr})), R::ClientAuthentication);
    }
    claims_refused(&with(json!({"azpacr": 2})), R::ClaimsMalformed);
}

#[test]
fn other_kinds_of_tokens() {
    let id_token = json!({
        "aud": API, "iss": issuer(T1), "iat": NOW, "nbf": NOW, "exp": NOW + 3600, "oid": OID,
        "tid": T1, "ver": "2.0", "sub": "x", "preferred_username": "alice@lab.example",
    });
    claims_refused(&id_token, R::ClientId);
    claims_refused(&merged(id_token.clone(), json!({"nonce": "n"})), R::IdToken);
    let with_azp = merged(id_token, json!({"azp": APP}));
    claims_refused(&with_azp, R::Story);
    // Of version 1: the client is `appid`, the issuer another one, the audience a URI.
    let v1 = json!({
        "aud": format!("api://{API}"), "iss": format!("https://sts.windows.net/{T1}/"),
        "iat": NOW, "nbf": NOW, "exp": NOW + 3600, "appid": APP, "appidacr": "2", "idtyp": "app",
        "oid": OID, "tid": T1, "ver": "1.0", "roles": ["Agent.Connect"],
    });
    claims_refused(&v1, R::Version);
    claims_refused(&merged(v1, json!({"ver": "2.0"})), R::Issuer);
    let service_account = json!({
        "aud": ["api://AzureADTokenExchange"], "iss": "https://cluster.example", "exp": NOW + 3600,
        "sub": "system:serviceaccount:agents:analyst",
    });
    claims_refused(&service_account, R::ClaimsMalformed);
    let on_behalf = merged(person(), json!({"idtyp": "app"}));
    claims_refused(&on_behalf, R::Story);
    for typ in [
        "at+jwt",
        "JWE",
        "JOSE",
        "",
        "JWT ",
        "dpop+jwt",
        "logout+jwt",
        "secevent+jwt",
    ] {
        header_refused(
            &format!(r#"{{"alg":"RS256","kid":"k1","typ":"{typ}"}}"#),
            R::Type,
        );
    }
}

#[test]
fn text_that_is_no_json_object() {
    let claims = app().to_string();
    for payload in [
        format!("\u{feff}{claims}"),
        format!("\n{claims}"),
        format!("[{claims}]"),
        "null".to_owned(),
        "\"\"".to_owned(),
        "0".to_owned(),
    ] {
        raw_refused(&payload, R::ClaimsNotObject);
    }
    for payload in [
        format!("{claims}{claims}"),
        format!("{claims}x"),
        claims.replace('"', "'"),
        claims.replacen("\"iss\"", "iss", 1),
        claims.replacen('}', ",}", 1),
        beside(r#""x":"\ud800""#).replacen("\"x\"", "\"uti2\":1,\"scp\"", 1),
        "{".to_owned(),
    ] {
        raw_refused(&payload, R::ClaimsMalformed);
    }
    // Depth costs no stack, in what is not looked at as in what is.
    let deep = format!("{}1{}", "[".repeat(4000), "]".repeat(4000));
    let token = sign_raw(&K1, HEADER, &beside(&format!("\"x\":{deep}")));
    assert!(check(&token).is_ok());
    raw_refused(&beside(&format!("\"scp\":{deep}")), R::ClaimsMalformed);
    // Invalid UTF-8 in a claim that counts.
    let head = b64(HEADER);
    let bytes = [b"{\"iss\":\"".as_slice(), &[0xff, 0xfe], b"\"}"].concat();
    let signed = format!("{head}.{}", b64(bytes));
    let mut signature = vec![0; K1.public_modulus_len()];
    K1.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .unwrap();
    let token = format!("{signed}.{}", b64(signature));
    assert_eq!(check(&token), Err(R::ClaimsMalformed));
}

#[test]
fn sizes_at_and_beyond_the_limit() {
    let padded = |length: usize| sign(&with(json!({"pad": "x".repeat(length)})));
    let (mut fits, mut length) = (padded(0), 0);
    // As near to the limit as base64 lets it come.
    while padded(length + 1).len() <= 16 * 1024 {
        length += (16 * 1024 - padded(length).len()).max(2) / 2;
        fits = padded(length);
    }
    assert!(fits.len() <= 16 * 1024 && check(&fits).is_ok());
    assert_eq!(check(&padded(length + 4)), Err(R::TooLong));
    assert_eq!(check(&"A".repeat(1 << 20)), Err(R::TooLong));
    assert_eq!(check(&".".repeat(16 * 1024)), Err(R::NotThreeParts));
}

#[test]
fn keys_of_other_tenants_and_look_alike_kids() {
    // A guest's tenant publishes the same kid with its own key, and signs for ours.
    let collision = KeySnapshot::default()
        .with(T1, set(&[jwk(&K1, "shared")]))
        .with(T2, set(&[jwk(&K2, "shared")]));
    let header = r#"{"alg":"RS256","kid":"shared"}"#;
    for (claims, refusal) in [
        (app(), R::Signature),
        (with(json!({"tid": T2, "iss": issuer(T2)})), R::Signature),
    ] {
        let token = sign_raw(&K2, header, &claims.to_string());
        let checked = open(&token).unwrap().check(&collision, &rules(), None, NOW);
        assert_eq!(
            checked.unwrap_err(),
            refusal,
            "the first tenant's key is tried"
        );
    }
    // Asked for one tenant, another's token.
    let of_second = sign_raw(
        &K2,
        r#"{"alg":"RS256","kid":"k2"}"#,
        &with(json!({"tid": T2, "iss": issuer(T2)})).to_string(),
    );
    assert!(check(&of_second).is_ok(), "two tenants are allowed");
    let asked = open(&of_second)
        .unwrap()
        .check(&keys(), &rules(), Some(T1), NOW);
    assert_eq!(asked.unwrap_err(), R::UnknownKey);
    for kid in ["K1", "k1.", "k1/../k2", "__proto__", "k1 "] {
        let header = format!(r#"{{"alg":"RS256","kid":"{kid}"}}"#);
        let refusal = check(&sign_raw(&K1, &header, &app().to_string())).unwrap_err();
        assert!(matches!(refusal, R::UnknownKey | R::KidMalformed), "{kid}");
    }
}

#[test]
fn published_keys_that_are_too_weak_or_of_another_use_sign_nothing() {
    let mut encryption = jwk(&K1, "k1");
    encryption["use"] = json!("enc");
    let mut other = jwk(&K1, "k1");
    other["alg"] = json!("RS512");
    let mut symmetric = jwk(&K1, "k1");
    symmetric["kty"] = json!("oct");
    let mut weak = jwk(&K1, "k1");
    weak["n"] = json!(b64([0xc5; 128]));
    let mut identity = jwk(&K1, "k1");
    // With the exponent 1 a signature is the padded digest: anybody's.
    identity["e"] = json!("AQ");
    let mut even = jwk(&K1, "k1");
    even["e"] = json!("AQAA");
    let mut zero = jwk(&K1, "k1");
    zero["e"] = json!("AA");
    let mut long = jwk(&K1, "k1");
    long["e"] = json!(b64([0x7f; 64]));
    for bad in [
        encryption, other, symmetric, weak, identity, even, zero, long,
    ] {
        let keys = KeySnapshot::default().with(T1, set(&[bad.clone(), jwk(&K2, "k2")]));
        let token = sign(&app());
        let checked = open(&token).unwrap().check(&keys, &rules(), None, NOW);
        assert_eq!(checked.unwrap_err(), R::UnknownKey, "{bad}");
    }
}

#[test]
fn groups_that_contradict_each_other() {
    let group = "9a000000-0000-4000-8000-000000000001";
    let moved = json!({"groups": "src1"});
    for (changes, refusal) in [
        (
            json!({"groups": [], "hasgroups": true}),
            R::GroupsContradiction,
        ),
        (
            json!({"groups": [group], "_claim_names": moved}),
            R::GroupsContradiction,
        ),
        (
            json!({"groups": ["{9a000000-0000-4000-8000-000000000001}"]}),
            R::GroupsNotGuid,
        ),
        (json!({"groups": [format!("{group}\0")]}), R::GroupsNotGuid),
        (json!({"groups": ["Domain Admins"]}), R::GroupsNotGuid),
        (json!({"groups": [group, 1]}), R::ClaimsMalformed),
        (json!({"groups": group}), R::ClaimsMalformed),
        (json!({"hasgroups": "true"}), R::ClaimsMalformed),
        (json!({"_claim_names": ["groups"]}), R::ClaimsMalformed),
    ] {
        claims_refused(&with(changes), refusal);
    }
    let elsewhere = with(json!({"_claim_names": {"Groups": "src1"}}));
    assert_eq!(check(&sign(&elsewhere)).unwrap().groups, Groups::Unknown);
}
