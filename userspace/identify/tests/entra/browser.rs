//! A person signs in by the browser.

use serde_json::json;
use weir_identify::{
    AnswerProblem, CodeAnswer, CodeClient, CodeRequest, CodeStart, Identify, Signed, Unidentified,
    WorkloadIdentity,
};
use weir_model::ident::{EvidenceKind, Groups, PrincipalKind};

use crate::fixture::{ALICE_OID, CLI, DBA, ENFORCER, Entra, analyst};
use crate::{later, later_by_wall, now};

const REDIRECT: &str = "http://127.0.0.1:40123/";

async fn start(identify: &Identify) -> CodeStart {
    let request = CodeRequest {
        redirect_uri: REDIRECT.to_owned(),
        ..CodeRequest::default()
    };
    identify.authorize_url(&request, now()).await.unwrap()
}

async fn at_browser(entra: &Entra, who: serde_json::Value) {
    entra.post("/control/browser", who).await;
}

async fn answered(entra: &Entra, start: &CodeStart) -> CodeAnswer {
    let back = entra.browse(&start.url).await.unwrap();
    assert_eq!(back.host_str(), Some("127.0.0.1"));
    CodeAnswer::parse(back.query().unwrap()).unwrap()
}

async fn signed_in(entra: &Entra, identify: &Identify) -> Result<Signed, Unidentified> {
    let start = start(identify).await;
    let answer = answered(entra, &start).await;
    identify.redeem(start.handle, answer, now()).await
}

#[tokio::test]
async fn a_person_signs_in_by_the_browser() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    at_browser(&entra, json!({"user": "alice"})).await;
    let principal = signed_in(&entra, &identify).await.unwrap().principal;
    assert_eq!(principal.kind, PrincipalKind::Person);
    assert_eq!(principal.evidence, EvidenceKind::Person);
    assert_eq!((&*principal.oid, &*principal.app), (ALICE_OID, CLI));
    assert_eq!(principal.groups, Groups::Known([DBA.into()].into()));
}

#[tokio::test]
async fn each_sign_in_has_values_of_its_own_and_the_verifier_never_leaves() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    let (one, two) = (start(&identify).await, start(&identify).await);
    let parameter = |start: &CodeStart, name: &str| {
        let url: url::Url = start.url.parse().unwrap();
        let mut found = url.query_pairs().filter(|(key, _)| key == name);
        let value = found.next().unwrap().1.into_owned();
        assert!(found.next().is_none(), "{name} is there once");
        value
    };
    for name in ["state", "nonce", "code_challenge"] {
        let value = parameter(&one, name);
        assert!(value.len() >= 43, "{name}: {value}");
        assert_ne!(value, parameter(&two, name), "{name}");
    }
    assert_eq!(parameter(&one, "code_challenge_method"), "S256");
    assert_eq!(parameter(&one, "redirect_uri"), REDIRECT);
    assert!(!one.url.contains("code_verifier"));
    assert_eq!(parameter(&one, "state"), one.handle.state());
}

#[tokio::test]
async fn an_answer_to_another_sign_in_is_refused() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    at_browser(&entra, json!({"user": "alice"})).await;
    let (mine, other) = (start(&identify).await, start(&identify).await);
    let answer = answered(&entra, &other).await;
    let error = identify.redeem(mine.handle, answer, now()).await;
    assert_eq!(
        error.unwrap_err(),
        Unidentified::Answer(AnswerProblem::State)
    );
    // The code of one sign-in with the state of another: the verifier does not fit.
    let (mine, other) = (start(&identify).await, start(&identify).await);
    let mut back = entra.browse(&other.url).await.unwrap();
    let injected = back
        .query()
        .unwrap()
        .replace(other.handle.state(), mine.handle.state());
    back.set_query(Some(&injected));
    let answer = CodeAnswer::parse(back.query().unwrap()).unwrap();
    let error = identify
        .redeem(mine.handle, answer, now())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "entra_sign_in_ended", "{error}");
}

#[tokio::test]
async fn what_the_browser_brings_back_falsified_is_refused() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    let cases = [
        (json!({"nonce": "planted"}), "nonce"),
        (
            json!({"answer": {"iss": "https://evil.example/v2.0"}}),
            "browser_answer",
        ),
        (json!({"answer": {"state": "planted"}}), "browser_answer"),
        (
            json!({"answer": {"code": "guessed"}}),
            "entra_sign_in_ended",
        ),
    ];
    for (falsified, code) in cases {
        let mut who = falsified;
        who["user"] = json!("alice");
        at_browser(&entra, who.clone()).await;
        let error = signed_in(&entra, &identify).await.unwrap_err();
        assert_eq!(error.code(), code, "{who}: {error}");
        assert!(!error.to_string().contains("planted"), "{error}");
    }
    let issuer = format!("{}/{}/v2.0", entra.origin, crate::fixture::TENANT);
    at_browser(&entra, json!({"user": "alice", "answer": {"iss": issuer}})).await;
    signed_in(&entra, &identify).await.unwrap();
}

#[tokio::test]
async fn a_code_works_once_and_not_for_long() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    at_browser(&entra, json!({"user": "alice"})).await;
    let sign_in = start(&identify).await;
    let answer = answered(&entra, &sign_in).await;
    let late = identify.redeem(sign_in.handle, answer, later(601)).await;
    assert_eq!(late.unwrap_err(), Unidentified::Answer(AnswerProblem::Late));
    let sign_in = start(&identify).await;
    let back = entra.browse(&sign_in.url).await.unwrap();
    let query = back.query().unwrap();
    let token = format!("/{}/oauth2/v2.0/token", crate::fixture::TENANT);
    // Somebody who saw the redirect tries the code without the verifier.
    let code = back
        .query_pairs()
        .find(|(name, _)| name == "code")
        .unwrap()
        .1;
    let stolen = [
        ("grant_type", "authorization_code"),
        ("client_id", CLI),
        ("code", &*code),
        ("redirect_uri", REDIRECT),
    ];
    assert_eq!(entra.form(&token, &stolen).await["error"], "invalid_grant");
    let answer = CodeAnswer::parse(query).unwrap();
    identify
        .redeem(sign_in.handle, answer, now())
        .await
        .unwrap();
}

#[tokio::test]
async fn declined_and_disabled_people_are_not_signed_in() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    at_browser(&entra, json!({"user": "bob", "approve": false})).await;
    let error = signed_in(&entra, &identify).await.unwrap_err();
    assert_eq!(error.code(), "entra_sign_in_ended");
    assert!(
        error.operator_text().starts_with("AADSTS65004: "),
        "{error}"
    );
    entra.post("/control/disable", json!({"user": "bob"})).await;
    at_browser(&entra, json!({"user": "bob"})).await;
    let shown = entra.browse(&start(&identify).await.url).await.unwrap_err();
    assert!(shown.contains("AADSTS50057"), "{shown}");
}

#[tokio::test]
async fn redirects_and_clients_have_to_be_registered() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    at_browser(&entra, json!({"user": "alice"})).await;
    let elsewhere = CodeRequest {
        redirect_uri: "https://evil.example/".to_owned(),
        ..CodeRequest::default()
    };
    let start = identify.authorize_url(&elsewhere, now()).await.unwrap();
    let shown = entra.browse(&start.url).await.unwrap_err();
    assert!(shown.contains("AADSTS50011"), "{shown}");
    for (redirect_uri, client_id) in [
        ("http://evil.example/", CLI),
        (REDIRECT, ENFORCER),
        (REDIRECT, "weir"),
    ] {
        let request = CodeRequest {
            redirect_uri: redirect_uri.to_owned(),
            client: Some(CodeClient {
                client_id: client_id.to_owned(),
                secret: None,
            }),
            offline: false,
            again: false,
        };
        let error = identify.authorize_url(&request, now()).await.unwrap_err();
        assert_eq!(error.code(), "identity_not_configured", "{request:?}");
    }
}

#[tokio::test]
async fn a_sign_in_of_a_process_tree_is_renewed_until_the_person_is_disabled() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    at_browser(&entra, json!({"user": "alice"})).await;
    let request = CodeRequest {
        redirect_uri: REDIRECT.to_owned(),
        offline: true,
        ..CodeRequest::default()
    };
    let start = identify.authorize_url(&request, now()).await.unwrap();
    let answer = answered(&entra, &start).await;
    let signed = identify.redeem(start.handle, answer, now()).await.unwrap();
    let laptop = WorkloadIdentity {
        name: "laptop".to_owned(),
        client_id: CLI.to_owned(),
        method: weir_identify::Method::Person,
        cgroup: Some(7),
        ..analyst()
    };
    identify.admit(&laptop, signed, now());
    let renewed = identify
        .bind(&laptop, None, later_by_wall(901))
        .await
        .unwrap();
    assert_eq!(&*renewed.oid, ALICE_OID);
    entra
        .post("/control/disable", json!({"user": "alice"}))
        .await;
    let error = identify
        .bind(&laptop, None, later_by_wall(1900))
        .await
        .unwrap_err();
    assert!(error.revokes(), "{error}");
}
