//! Tokens that a client presents, and who may present them.

use serde_json::{Value, json};
use weir_identify::{
    GraphConfig, Identify, Method, Presenter, Secret, Unidentified, WorkloadIdentity,
};
use weir_model::ident::{EvidenceKind, Principal, PrincipalKind};
use weir_model::time::Now;

use crate::fixture::{
    ALICE_OID, ANALYST, ANALYST_OID, CLI, ENFORCER, Entra, GRAPH_READER, OTHER_API, SERVICE,
    TENANT, TENANT_2, analyst, good_claims,
};
use crate::{later_by_wall, now};

/// As configured in the lab: every application but the CLI's is some workload's.
fn is_workloads(client: &str) -> bool {
    [ANALYST, SERVICE].contains(&client)
}

fn presenter() -> Presenter<'static> {
    Presenter {
        name: "analyst",
        tenant: TENANT,
        client_id: ANALYST,
    }
}

fn persons_claims() -> Value {
    json!({
        "aud": ENFORCER, "azp": CLI, "azpacr": "0", "idtyp": "user", "oid": ALICE_OID,
        "scp": "Agent.Run", "sub": "pairwise", "uti": "u", "groups": [],
    })
}

async fn present_at(identify: &Identify, token: &str, now: Now) -> Result<Principal, Unidentified> {
    identify
        .presented(token, &presenter(), is_workloads, now)
        .await
}

async fn present(identify: &Identify, token: &str) -> Result<Principal, Unidentified> {
    present_at(identify, token, now()).await
}

async fn with_graph(entra: &Entra) -> Identify {
    let answer = entra
        .post("/control/secret", json!({"app": "graph-reader"}))
        .await;
    let mut config = entra.config();
    config.graph = Some(GraphConfig {
        origin: format!("{}/graph", entra.origin),
        reader: WorkloadIdentity {
            name: "graph".to_owned(),
            client_id: GRAPH_READER.to_owned(),
            method: Method::Secret(Secret::new(answer["secret"].as_str().unwrap())),
            ..analyst()
        },
        token_lists_part: false,
    });
    Identify::new(config).unwrap()
}

#[tokio::test]
async fn a_persons_token_and_the_workloads_own_are_taken() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    let token = entra.mint(persons_claims()).await;
    let person = present(&identify, &token).await.unwrap();
    assert_eq!(person.kind, PrincipalKind::Person);
    assert_eq!(person.evidence, EvidenceKind::Presented);
    assert_eq!((&*person.oid, &*person.app), (ALICE_OID, CLI));
    assert_eq!(&*person.workload, "analyst", "who presented it");
    let own = entra.mint(good_claims()).await;
    let own = present(&identify, &own).await.unwrap();
    assert_eq!(
        (&*own.oid, own.kind),
        (ANALYST_OID, PrincipalKind::Application)
    );
}

#[tokio::test]
async fn each_wrong_token_is_refused_at_its_step() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    let with = |changes: Value| {
        let mut claims = persons_claims();
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    };
    let now_s = now().unix_s();
    for (claims, step) in [
        (with(json!({"aud": OTHER_API})), "step 12"),
        (with(json!({"aud": format!("api://{ENFORCER}")})), "step 12"),
        (
            with(json!({"iat": now_s - 7200, "nbf": now_s - 7200, "exp": now_s - 61})),
            "step 13",
        ),
        (
            with(json!({"tid": TENANT_2, "iss": format!("{}/{TENANT_2}/v2.0", entra.origin)})),
            "step 9",
        ),
        (with(json!({"nonce": "n"})), "step 14"),
        (with(json!({"ver": "1.0"})), "step 10"),
        (with(json!({"scp": "Other.Read"})), "step 16"),
        (with(json!({"groups": ["dba"]})), "step 17"),
    ] {
        let token = entra.mint(claims.clone()).await;
        let error = present(&identify, &token).await.unwrap_err();
        let said = error.presenter_text();
        assert!(said.contains(&format!("at {step}:")), "{claims}: {said}");
    }
    // Of another workload, of a role-less application, and what was never a token.
    let mut other = good_claims();
    other["azp"] = json!(SERVICE);
    let mut roleless = good_claims();
    roleless["roles"] = json!([]);
    for (claims, step) in [(other, "step 18"), (roleless, "step 16")] {
        let token = entra.mint(claims).await;
        let said = present(&identify, &token)
            .await
            .unwrap_err()
            .presenter_text();
        assert!(said.contains(&format!("at {step}:")), "{said}");
    }
    let id_token = entra
        .mint(json!({"aud": CLI, "oid": ALICE_OID, "nonce": "n"}))
        .await;
    let said = present(&identify, &id_token)
        .await
        .unwrap_err()
        .presenter_text();
    assert!(said.contains("at step 12:"), "{said}");
    for password in [
        "hunter2",
        "correct horse battery staple",
        "a.b.c",
        "",
        "Pa$$w0rd.with.dots",
    ] {
        let error = present(&identify, password).await.unwrap_err();
        let said = format!(
            "{error} {} {}",
            error.presenter_text(),
            error.operator_text()
        );
        assert!(said.contains("az account get-access-token"), "{said}");
        assert!(password.is_empty() || !said.contains(password), "{said}");
    }
}

#[tokio::test]
async fn a_token_of_another_allowed_tenant_is_not_this_workloads() {
    let entra = Entra::start().await;
    let mut config = entra.config();
    config.tenants.push(TENANT_2.to_owned());
    let identify = Identify::new(config).unwrap();
    let claims = persons_claims();
    let token = entra.mint_of(TENANT_2, claims).await;
    assert!(
        identify.verify(&token, now()).await.ok,
        "it is good by itself"
    );
    let error = present(&identify, &token).await.unwrap_err();
    assert_eq!(error.code(), "presented_tenant");
}

#[tokio::test]
async fn a_presented_token_ends_with_itself() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    let mut claims = persons_claims();
    claims["exp"] = json!(now().unix_s() + 300);
    let token = entra.mint(claims).await;
    let person = present(&identify, &token).await.unwrap();
    assert!((295..=300).contains(&(person.valid_until_s - now().unix_s())));
    assert!(
        identify
            .still_presented(&person, later_by_wall(290))
            .await
            .is_ok()
    );
    let ended = identify.still_presented(&person, later_by_wall(301)).await;
    assert_eq!(ended.unwrap_err().code(), "expired");
    let late = present_at(&identify, &token, later_by_wall(361)).await;
    assert_eq!(late.unwrap_err().code(), "expired");
    // A longer token serves for an hour at most.
    let mut long = persons_claims();
    long["exp"] = json!(now().unix_s() + 27 * 3600);
    let long = present(&identify, &entra.mint(long).await).await.unwrap();
    assert!(long.valid_until_s <= now().unix_s() + 3600);
}

#[tokio::test]
async fn disabled_and_deleted_subjects_are_heard_of_through_graph() {
    let entra = Entra::start().await;
    let identify = with_graph(&entra).await;
    let token = entra.mint(persons_claims()).await;
    let person = present(&identify, &token).await.unwrap();
    assert!(identify.still_presented(&person, now()).await.is_ok());
    entra
        .post("/control/disable", json!({"user": "alice"}))
        .await;
    let error = identify.still_presented(&person, now()).await.unwrap_err();
    assert_eq!(error.code(), "presented_disabled");
    let again = present(&identify, &token).await.unwrap_err();
    assert_eq!(
        again.code(),
        "presented_disabled",
        "its token is good for an hour yet"
    );
    entra
        .post("/control/enable", json!({"user": "alice"}))
        .await;
    assert!(present(&identify, &token).await.is_ok());

    let mut nobody = persons_claims();
    nobody["oid"] = json!("0e000000-0000-4000-8000-00000000dead");
    let error = present(&identify, &entra.mint(nobody).await)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "presented_disabled");

    entra
        .fault(json!({"path": "/graph/", "kind": "status", "status": 503}))
        .await;
    assert!(
        identify.still_presented(&person, now()).await.is_ok(),
        "away is no refusal"
    );
}
