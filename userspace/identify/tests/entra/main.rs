//! Against a running test Entra. Needs `npm ci` in `tests/entra`.

mod browser;
mod examine;
mod fixture;
mod groups;
mod methods;
mod presented;
mod secrets;
mod tenants;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fixture::{
    ALICE_OID, ANALYST, ANALYST_OID, ANALYSTS, CLI, DBA, Entra, OTHER_API, TENANT, analyst,
    good_claims,
};
use serde_json::json;
use weir_identify::validate::TokenRefusal;
use weir_identify::{AssertionProblem, DevicePoll, RefusalKind, Unidentified};
use weir_model::ident::{EvidenceKind, Groups, PrincipalKind};
use weir_model::time::Now;

/// The test Entra lives in real time, so the validator must too.
fn now() -> Now {
    weir_clock::now()
}

fn later(seconds: u64) -> Now {
    let now = now();
    Now {
        mono_us: now.mono_us + seconds * 1_000_000,
        ..now
    }
}

fn later_by_wall(seconds: i64) -> Now {
    let now = now();
    Now {
        mono_us: now.mono_us + seconds.unsigned_abs() * 1_000_000,
        wall_us: now.wall_us + seconds * 1_000_000,
    }
}

fn refused(result: Result<impl std::fmt::Debug, Unidentified>) -> (RefusalKind, u32) {
    let error = result.unwrap_err();
    let Unidentified::Refused(refusal) = error else {
        panic!("no refusal of Entra: {error:?}")
    };
    (refusal.kind, refusal.number)
}

#[tokio::test]
async fn a_workload_is_bound_and_the_binding_is_kept() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    assert!(identify.cached(&analyst(), now()).is_none());
    let principal = identify
        .bind(&analyst(), entra.assertion("analyst").await, now())
        .await
        .unwrap();
    assert_eq!(principal.kind, PrincipalKind::Application);
    assert_eq!(&*principal.cloud, "loopback");
    assert_eq!(&*principal.tenant, TENANT);
    assert_eq!(&*principal.oid, ANALYST_OID);
    assert_eq!(&*principal.app, ANALYST);
    assert_eq!(&*principal.workload, "analyst");
    assert_eq!(principal.evidence, EvidenceKind::Federated);
    assert!(principal.roles.contains("Agent.Connect"));
    assert_eq!(principal.groups, Groups::Known([ANALYSTS.into()].into()));
    assert!(!principal.token_id.is_empty());
    let life_s = principal.valid_until_s - now().unix_s();
    assert!(
        (3500..=3600).contains(&life_s),
        "capped at one hour, was {life_s}"
    );

    assert_eq!(identify.cached(&analyst(), now()), Some(principal));
    identify
        .bind(&analyst(), entra.assertion("analyst").await, now())
        .await
        .unwrap();
    assert_eq!(entra.count("token").await, 1);
    assert!(
        identify.cached(&analyst(), later_by_wall(901)).is_none(),
        "a new token is due"
    );
}

#[tokio::test]
async fn many_flows_at_once_are_one_sign_in() {
    let entra = Entra::start().await;
    let identify = std::sync::Arc::new(entra.identify());
    let mut flows = Vec::new();
    for _ in 0..20 {
        let identify = std::sync::Arc::clone(&identify);
        let assertion = entra.assertion("analyst").await;
        flows.push(tokio::spawn(async move {
            identify.bind(&analyst(), assertion, now()).await.is_ok()
        }));
    }
    for flow in flows {
        assert!(flow.await.unwrap());
    }
    assert_eq!(entra.count("token").await, 1);
    assert_eq!(entra.count("keys").await, 1);
}

#[tokio::test]
async fn another_service_account_is_aadsts700213_and_asked_once() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    let result = identify
        .bind(&analyst(), entra.assertion("operator").await, now())
        .await;
    let error = result.clone().unwrap_err();
    assert_eq!(refused(result), (RefusalKind::NoCredential, 700_213));
    assert!(
        error.operator_text().starts_with("AADSTS700213: "),
        "{}",
        error.operator_text()
    );
    assert!(error.operator_text().contains("trace id"));
    assert!(!error.agent_text().contains("AADSTS"));

    let again = identify
        .bind(&analyst(), entra.assertion("analyst").await, now())
        .await;
    assert_eq!(again.unwrap_err(), error, "the refusal stands for 30 s");
    assert_eq!(entra.count("token").await, 1);
    let after = identify
        .bind(&analyst(), entra.assertion("analyst").await, later(31))
        .await;
    assert!(after.is_ok());
}

#[tokio::test]
async fn assertions_for_another_audience_or_expired_are_not_sent() {
    let entra = Entra::start().await;
    for (request, problem) in [
        (
            json!({"audience": "https://kubernetes.default.svc"}),
            AssertionProblem::Audience,
        ),
        (json!({"expirationSeconds": -10}), AssertionProblem::Expired),
    ] {
        let mut request = request;
        request["namespace"] = json!("agents");
        request["serviceaccount"] = json!("analyst");
        let assertion = entra.assertion_with(request).await;
        let result = entra.identify().bind(&analyst(), assertion, now()).await;
        assert_eq!(result.unwrap_err(), Unidentified::Assertion(problem));
    }
    assert_eq!(entra.count("token").await, 0);
}

#[tokio::test]
async fn a_forged_assertion_is_refused_by_its_signature() {
    let entra = Entra::start().await;
    let other = Entra::start().await;
    let good = entra.assertion("analyst").await.expose().to_owned();
    let foreign = other.assertion("analyst").await.expose().to_owned();
    let (signed, _) = good.rsplit_once('.').unwrap();
    let (_, signature) = foreign.rsplit_once('.').unwrap();
    let forged = weir_identify::Secret::new(format!("{signed}.{signature}"));
    let result = entra.identify().bind(&analyst(), forged, now()).await;
    assert_eq!(
        refused(result),
        (RefusalKind::AssertionSignature, 7_000_272)
    );
    let result = entra
        .identify()
        .bind(&analyst(), other.assertion("analyst").await, now())
        .await;
    assert_eq!(
        refused(result),
        (RefusalKind::NoCredential, 700_211),
        "issuer of another cluster"
    );
}

#[tokio::test]
async fn a_disabled_application_loses_its_binding() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    identify
        .bind(&analyst(), entra.assertion("analyst").await, now())
        .await
        .unwrap();
    entra
        .post("/control/disable", json!({"app": "analyst"}))
        .await;
    // The next re-mint, at the latest 15 min later.
    let due = later_by_wall(901);
    let result = identify
        .bind(&analyst(), entra.assertion("analyst").await, due)
        .await;
    let error = result.clone().unwrap_err();
    assert!(error.revokes());
    assert_eq!(refused(result), (RefusalKind::Revoked, 7_000_112));
    assert!(
        identify.cached(&analyst(), now()).is_none(),
        "the old binding is gone at once"
    );

    entra
        .post("/control/enable", json!({"app": "analyst"}))
        .await;
    let back = later_by_wall(901 + 31);
    assert!(
        identify
            .bind(&analyst(), entra.assertion("analyst").await, back)
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn rotated_keys_are_found_and_floods_of_unknown_kids_are_not_fetched() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    let old = entra.mint(good_claims()).await;
    assert!(identify.verify(&old, now()).await.ok);
    assert_eq!(entra.count("keys").await, 1);

    entra
        .post("/control/rotate-keys", json!({"drop_old": true}))
        .await;
    let new = entra.mint(good_claims()).await;
    assert!(
        identify.verify(&new, now()).await.ok,
        "one refresh finds the new key"
    );
    let verdict = identify.verify(&old, now()).await;
    assert_eq!(verdict.code, Some(TokenRefusal::UnknownKey.code()));
    assert_eq!(entra.count("keys").await, 2);

    entra
        .post("/control/rotate-keys", json!({"drop_old": true}))
        .await;
    let newest = entra.mint(good_claims()).await;
    for _ in 0..200 {
        assert_eq!(identify.verify(&newest, now()).await.step, Some(6));
    }
    assert_eq!(
        entra.count("keys").await,
        2,
        "at most one such fetch in 5 min"
    );
    assert!(identify.verify(&newest, later(301)).await.ok);
    assert_eq!(entra.count("keys").await, 3);
}

#[tokio::test]
async fn five_thousand_tokens_of_unknown_kids_cause_one_fetch_in_five_minutes() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    assert!(
        identify
            .verify(&entra.mint(good_claims()).await, now())
            .await
            .ok
    );
    let before = entra.count("keys").await;
    let token = entra.mint(good_claims()).await;
    let (_, rest) = token.split_once('.').unwrap();
    for number in 0..5000 {
        let header = format!(r#"{{"alg":"RS256","typ":"JWT","kid":"k{number}"}}"#);
        let forged = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
        // Spread over the five minutes, so that no timer of a shorter kind hides it.
        let at = later(number * 299 / 5000);
        let verdict = identify.verify(&forged, at).await;
        assert_eq!(verdict.code, Some(TokenRefusal::UnknownKey.code()));
    }
    assert_eq!(entra.count("keys").await, before + 1);
    assert!(
        identify.verify(&token, now()).await.ok,
        "good ones are served meanwhile"
    );
}

#[tokio::test]
async fn a_token_for_another_audience_is_refused_with_its_step() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    let mut claims = good_claims();
    claims["aud"] = json!(OTHER_API);
    let verdict = identify.verify(&entra.mint(claims).await, now()).await;
    let shown = serde_json::to_value(&verdict).unwrap();
    assert_eq!(shown["ok"], false);
    assert_eq!(shown["step"], 12);
    assert_eq!(shown["step_name"], "audience");
    assert_eq!(shown["claims"], json!(null));

    let good = identify
        .verify(&entra.mint(good_claims()).await, now())
        .await;
    let shown = serde_json::to_value(&good).unwrap();
    assert_eq!(shown["ok"], true);
    assert_eq!(shown["claims"]["oid"], ANALYST_OID);
    assert_eq!(shown["claims"]["groups_state"], "unknown");
}

#[tokio::test]
async fn a_service_account_token_is_no_access_token() {
    let entra = Entra::start().await;
    let assertion = entra.assertion("analyst").await;
    let verdict = entra.identify().verify(assertion.expose(), now()).await;
    assert!(!verdict.ok);
    assert_eq!(verdict.step, Some(6), "its key is not the tenant's");
}

#[tokio::test]
async fn a_reviewer_signs_in_by_device_code() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    let start = identify.device_begin().await.unwrap();
    assert!(start.verification_uri.starts_with(&entra.origin));
    assert!(start.expires_s > 0 && start.interval_s > 0);
    let pending = identify.device_poll(&start.handle, now()).await;
    assert!(matches!(pending, DevicePoll::Pending), "{pending:?}");
    let approval = json!({"user_code": start.user_code, "user": "alice"});
    entra.post("/control/device", approval).await;
    let DevicePoll::Done(principal) = identify.device_poll(&start.handle, now()).await else {
        panic!("the sign-in is done")
    };
    assert_eq!(principal.kind, PrincipalKind::Person);
    assert_eq!(principal.evidence, EvidenceKind::Person);
    assert_eq!(&*principal.oid, ALICE_OID);
    assert_eq!(&*principal.app, CLI);
    assert_eq!(principal.groups, Groups::Known([DBA.into()].into()));
    let again = identify.device_poll(&start.handle, now()).await;
    assert!(
        matches!(again, DevicePoll::Refused(_)),
        "a code works once: {again:?}"
    );
}

#[tokio::test]
async fn a_declined_sign_in_is_refused() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    let start = identify.device_begin().await.unwrap();
    let answer = json!({"user_code": start.user_code, "user": "bob", "approve": false});
    entra.post("/control/device", answer).await;
    let DevicePoll::Refused(error) = identify.device_poll(&start.handle, now()).await else {
        panic!("declined")
    };
    assert_eq!(error.code(), "entra_sign_in_ended");
    assert!(error.operator_text().starts_with("AADSTS70018"));
}

#[tokio::test]
async fn while_entra_is_away_the_binding_serves_until_it_expires() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    let first = identify
        .bind(&analyst(), entra.assertion("analyst").await, now())
        .await
        .unwrap();
    for (wait_s, fault) in [
        (
            901,
            json!({"path": "/token", "kind": "status", "status": 503}),
        ),
        (
            1001,
            json!({"path": "/token", "kind": "status", "status": 429, "retry_after": 7}),
        ),
    ] {
        let assertion = entra.assertion("analyst").await;
        entra
            .fault(json!({"path": "/oauth2/v2.0/token", "kind": fault["kind"],
            "status": fault["status"], "retry_after": fault["retry_after"]}))
            .await;
        let kept = identify
            .bind(&analyst(), assertion, later_by_wall(wait_s))
            .await;
        assert_eq!(kept.unwrap(), first);
        entra.fault(json!({})).await;
    }
    let request =
        json!({"namespace": "agents", "serviceaccount": "analyst", "expirationSeconds": 9000});
    let assertion = entra.assertion_with(request).await;
    entra
        .fault(json!({"path": "/oauth2/v2.0/token", "kind": "status", "status": 503}))
        .await;
    let expired = identify
        .bind(&analyst(), assertion, later_by_wall(3700))
        .await;
    assert_eq!(expired.unwrap_err().code(), "entra_away");
}

#[tokio::test]
async fn key_fetches_follow_no_redirect_and_take_no_garbage() {
    let entra = Entra::start().await;
    for (kind, code) in [
        ("redirect", "entra_malformed"),
        ("truncate", "entra_key_set"),
        ("oversize", "entra_malformed"),
    ] {
        entra
            .fault(json!({"path": "/discovery/v2.0/keys", "kind": kind}))
            .await;
        let identify = entra.identify();
        let assertion = entra.assertion("analyst").await;
        let error = identify
            .bind(&analyst(), assertion, now())
            .await
            .unwrap_err();
        assert_eq!(error.code(), code, "{kind}");
        entra.fault(json!({})).await;
    }
    let identify = entra.identify();
    assert!(
        identify
            .verify(&entra.mint(good_claims()).await, now())
            .await
            .ok
    );
    entra
        .fault(json!({"path": "/discovery", "kind": "status", "status": 500}))
        .await;
    let verdict = identify
        .verify(&entra.mint(good_claims()).await, later(3601))
        .await;
    assert!(verdict.ok, "the last good set serves: {verdict:?}");
    let verdict = identify
        .verify(&entra.mint(good_claims()).await, later(24 * 3600 + 1))
        .await;
    assert_eq!(verdict.step, Some(6), "past its TTL it does not");
}
