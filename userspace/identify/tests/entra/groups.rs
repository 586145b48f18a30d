//! Groups that a token does not list.

use serde_json::json;
use weir_identify::{GraphConfig, Identify, Method, Secret, WorkloadIdentity};
use weir_model::ident::Groups;

use crate::fixture::{ANALYST_OID, ANALYSTS, DBA, Entra, GRAPH_READER, MACHINE, analyst};
use crate::{later_by_wall, now};

const OPERATORS: &str = "9a000000-0000-4000-8000-000000000002";

async fn reader(entra: &Entra, token_lists_part: bool) -> GraphConfig {
    let body = json!({"app": "graph-reader"});
    let answer = entra.post("/control/secret", body).await;
    GraphConfig {
        origin: format!("{}/graph", entra.origin),
        reader: WorkloadIdentity {
            name: "graph".to_owned(),
            client_id: GRAPH_READER.to_owned(),
            method: Method::Secret(Secret::new(answer["secret"].as_str().unwrap())),
            ..analyst()
        },
        token_lists_part,
    }
}

async fn identify(entra: &Entra, token_lists_part: bool) -> Identify {
    let mut config = entra.config();
    config.graph = Some(reader(entra, token_lists_part).await);
    Identify::new(config).unwrap()
}

fn machine() -> WorkloadIdentity {
    WorkloadIdentity {
        client_id: MACHINE.to_owned(),
        method: Method::Managed,
        ..analyst()
    }
}

fn known(ids: &[&str]) -> Groups {
    Groups::Known(ids.iter().map(|id| (*id).into()).collect())
}

#[tokio::test]
async fn an_app_only_token_without_groups_is_completed_by_graph_and_cached() {
    let entra = Entra::start().await;
    let identify = identify(&entra, false).await;
    let principal = identify.bind(&machine(), None, now()).await.unwrap();
    assert_eq!(principal.groups, known(&[ANALYSTS]));
    identify.forget(&machine());
    identify.bind(&machine(), None, now()).await.unwrap();
    assert_eq!(entra.count("graph").await, 1, "asked once in ten minutes");
    // What the token lists is not asked for.
    let assertion = entra.assertion("analyst").await;
    identify.bind(&analyst(), assertion, now()).await.unwrap();
    assert_eq!(entra.count("graph").await, 1);
}

#[tokio::test]
async fn a_filtered_claim_is_a_part_and_graph_has_the_whole() {
    let entra = Entra::start().await;
    let set = json!({"app": ANALYST_OID, "set": {"groups_in_token": false}});
    entra.post("/control/groups", set).await;
    let identify = identify(&entra, true).await;
    let assertion = entra.assertion("analyst").await;
    let principal = identify.bind(&analyst(), assertion, now()).await.unwrap();
    assert_eq!(principal.groups, known(&[ANALYSTS]));
    assert_eq!(entra.count("graph").await, 1);
}

#[tokio::test]
async fn a_person_with_too_many_groups_is_asked_for_below_users() {
    let entra = Entra::start().await;
    let set = json!({"user": "alice", "set": {"overage": true}});
    entra.post("/control/groups", set).await;
    let identify = identify(&entra, false).await;
    let start = identify.device_begin().await.unwrap();
    let approval = json!({"user_code": start.user_code, "user": "alice"});
    entra.post("/control/device", approval).await;
    let done = identify.device_poll(&start.handle, now()).await;
    let weir_identify::DevicePoll::Done(principal) = done else {
        panic!("{done:?}")
    };
    assert_eq!(principal.groups, known(&[DBA]));
}

#[tokio::test]
async fn pages_are_followed_on_the_configured_origin_only() {
    let entra = Entra::start().await;
    let many = json!({"app": MACHINE, "set": {
        "graph_too_many": true, "groups": ["analysts", "operators", "dba"],
    }});
    entra.post("/control/groups", many).await;
    let principal = identify(&entra, false).await;
    let principal = principal.bind(&machine(), None, now()).await.unwrap();
    assert_eq!(principal.groups, known(&[ANALYSTS, OPERATORS, DBA]));

    let foreign = json!({"app": MACHINE, "set": {"graph_foreign_next": "http://127.0.0.1:1"}});
    entra.post("/control/groups", foreign).await;
    let identify = identify(&entra, false).await;
    let error = identify.bind(&machine(), None, now()).await.unwrap_err();
    assert_eq!(error.code(), "entra_foreign_url");
}

#[tokio::test]
async fn without_graph_for_long_nobody_is_bound() {
    let entra = Entra::start().await;
    let identify = identify(&entra, false).await;
    identify.bind(&machine(), None, now()).await.unwrap();
    entra
        .fault(json!({"path": "/graph/", "kind": "status", "status": 503}))
        .await;
    identify.forget(&machine());
    let older = identify
        .bind(&machine(), None, later_by_wall(1200))
        .await
        .unwrap();
    assert_eq!(
        older.groups,
        known(&[ANALYSTS]),
        "an older list serves for a while"
    );
    identify.forget(&machine());
    let error = identify
        .bind(&machine(), None, later_by_wall(3700))
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error}");
}
