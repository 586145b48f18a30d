//! What `weir doctor` finds wrong with clock and registrations, each wrong by itself.

use serde_json::json;
use weir_identify::{
    AssertionSource, Identify, Method, Secret, WorkloadIdentity, registration_advice,
};

use crate::fixture::{Entra, MACHINE, TENANT, UNASSIGNED, analyst};
use crate::now;

async fn unassigned(entra: &Entra) -> WorkloadIdentity {
    let answer = entra
        .post("/control/secret", json!({"app": "unassigned"}))
        .await;
    WorkloadIdentity {
        client_id: UNASSIGNED.to_owned(),
        method: Method::Secret(Secret::new(answer["secret"].as_str().unwrap())),
        ..analyst()
    }
}

fn machine() -> WorkloadIdentity {
    WorkloadIdentity {
        client_id: MACHINE.to_owned(),
        method: Method::Managed,
        ..analyst()
    }
}

#[tokio::test]
async fn the_clock_is_compared_with_the_authoritys() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    let skew = identify.clock_skew().await.unwrap();
    assert!(skew.ahead_s.abs() <= 2, "{skew:?}");
    assert_eq!(skew.allowed_s, 60);
    for seconds in [600, -600] {
        entra
            .post("/control/clock", json!({"seconds": seconds}))
            .await;
        let skew = identify.clock_skew().await.unwrap();
        assert!((skew.ahead_s + seconds).abs() <= 2, "{seconds}: {skew:?}");
    }
}

#[tokio::test]
async fn a_good_registration_shows_in_its_token() {
    let entra = Entra::start().await;
    let assertion = entra.assertion("analyst").await;
    let found = entra
        .identify()
        .examine(&analyst(), Some(assertion), now())
        .await;
    let found = found.unwrap();
    assert_eq!(found.kind, "application");
    assert_eq!(found.roles, ["Agent.Connect"]);
    assert_eq!(found.groups_state, "known");
}

#[tokio::test]
async fn each_wrong_registration_is_named_with_what_to_do() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    // The role is not assigned, and Entra insists on assignment.
    let nobody = unassigned(&entra).await;
    let error = identify.examine(&nobody, None, now()).await.unwrap_err();
    assert!(error.operator_text().contains("AADSTS501051"), "{error}");
    assert!(
        error
            .operator_text()
            .contains("assign it the required app role")
    );
    // Entra does not insist: a token without the role comes.
    let lax = json!({"api": "weir-enforcer", "set": {"assignment_required": false}});
    entra.post("/control/api", lax).await;
    let error = identify.examine(&nobody, None, now()).await.unwrap_err();
    assert_eq!(error.code(), "role_missing");
    let advice = registration_advice(&error).unwrap();
    assert!(advice.contains("Assignment required"), "{advice}");
    // Access tokens of version 1.
    entra.post("/control/metadata", json!({"version": 1})).await;
    let error = identify.examine(&machine(), None, now()).await.unwrap_err();
    assert_eq!(error.code(), "version");
    let advice = registration_advice(&error).unwrap();
    assert!(advice.contains("requestedAccessTokenVersion"), "{advice}");
}

#[tokio::test]
async fn each_wrong_setting_is_named_by_its_number() {
    let entra = Entra::start().await;
    let examine = async |change: &dyn Fn(&mut weir_identify::IdentityConfig),
                         identity: WorkloadIdentity| {
        let mut config = entra.config();
        change(&mut config);
        let identify = Identify::new(config).unwrap();
        let assertion = entra.assertion("analyst").await;
        let examined = identify.examine(&identity, Some(assertion), now()).await;
        examined.unwrap_err().operator_text()
    };
    let unknown = "a9000000-0000-4000-8000-00000000dead";
    let said = examine(&|config| config.audience = unknown.to_owned(), analyst()).await;
    assert!(said.starts_with("AADSTS500011: "), "{said}");
    let stranger = WorkloadIdentity {
        client_id: unknown.to_owned(),
        ..analyst()
    };
    let said = examine(&|_| {}, stranger).await;
    assert!(said.starts_with("AADSTS700016: "), "{said}");
    entra
        .post("/control/disable", json!({"app": "analyst"}))
        .await;
    let said = examine(&|_| {}, analyst()).await;
    assert!(said.starts_with("AADSTS7000112: "), "{said}");
    let other = WorkloadIdentity {
        client_id: "a9000000-0000-4000-8000-000000000002".to_owned(),
        method: Method::Federated(AssertionSource::Handed),
        ..analyst()
    };
    let said = examine(&|_| {}, other).await;
    assert!(
        said.starts_with("AADSTS700213: ") && said.contains("federated credential"),
        "{said}"
    );
}

#[tokio::test]
async fn an_authority_that_does_not_answer_is_said_so() {
    let entra = Entra::start().await;
    entra
        .fault(json!({"path": TENANT, "kind": "status", "status": 503}))
        .await;
    let reached = entra.identify().reach(now()).await;
    let error = reached[0].1.as_ref().unwrap_err();
    assert!(error.operator_text().contains("network path"), "{error}");
}
