//! Against a real tenant: what the test Entra cannot prove. Run by `cargo xtask test --tier live`
//! with its settings; without them each test fails and says so, it never passes unrun.

#![expect(
    clippy::disallowed_methods,
    reason = "the tenant to ask comes from the environment"
)]

mod settings;

use settings::{certificate, identify, identify_with, need, workload};
use weir_identify::{
    AssertionSource, GraphConfig, Identify, Method, RefusalKind, Secret, Unidentified,
    WorkloadIdentity,
};
use weir_model::ident::Groups;

const NOBODY: &str = "a9000000-0000-4000-8000-00000000dead";

fn now() -> weir_model::time::Now {
    weir_clock::now()
}

/// The number that Entra gave; the text is for whoever compares it with the table.
async fn refused(
    identify: &Identify,
    identity: &WorkloadIdentity,
    handed: Option<Secret>,
) -> (RefusalKind, u32) {
    match identify.examine(identity, handed, now()).await {
        Err(Unidentified::Refused(refusal)) => (refusal.kind, refusal.number),
        other => panic!("no refusal of Entra: {other:?}"),
    }
}

#[tokio::test]
async fn discovery_and_keys_are_taken() {
    for (tenant, outcome) in identify().reach(now()).await {
        assert_eq!(outcome, Ok(()), "{tenant}");
    }
}

#[tokio::test]
async fn the_clocks_agree() {
    let skew = identify().clock_skew().await.unwrap();
    assert!(skew.ahead_s.abs() < skew.allowed_s, "{skew:?}");
}

#[tokio::test]
async fn a_certificate_signs_in_and_the_token_holds() {
    let found = identify()
        .examine(&workload(certificate()), None, now())
        .await;
    let found = found.unwrap();
    assert_eq!(found.kind, "application");
    // Sources disagree on whether app-only tokens list groups: both are taken, neither as none.
    assert!(
        matches!(found.groups_state, "known" | "unknown"),
        "{found:?}"
    );
    assert!(
        found.roles.iter().any(|role| role == "Agent.Connect"),
        "{found:?}"
    );
}

#[tokio::test]
async fn unknown_application_tenant_and_audience_have_the_numbers_of_the_table() {
    let own = identify();
    let stranger = WorkloadIdentity {
        client_id: NOBODY.to_owned(),
        ..workload(certificate())
    };
    assert_eq!(
        refused(&own, &stranger, None).await,
        (RefusalKind::SetUp, 700_016)
    );
    let other = identify_with(|config| config.audience = NOBODY.to_owned());
    let refusal = refused(&other, &workload(certificate()), None).await;
    assert_eq!(refusal, (RefusalKind::SetUp, 500_011));
}

#[tokio::test]
async fn a_wrong_secret_has_the_number_of_the_table() {
    let wrong = workload(Method::Secret(Secret::new("not-the-secret")));
    let refusal = refused(&identify(), &wrong, None).await;
    assert_eq!(refusal, (RefusalKind::SetUp, 7_000_215));
}

#[tokio::test]
async fn federated_tokens_sign_in_and_mismatches_have_their_numbers() {
    let path = need("ENTRA_LIVE_FEDERATED_TOKEN_FILE");
    let token = std::fs::read_to_string(path).unwrap();
    let federated = workload(Method::Federated(AssertionSource::Handed));
    let handed = Secret::new(token.trim());
    let found = identify()
        .examine(&federated, Some(handed.clone()), now())
        .await;
    assert!(found.is_ok(), "{found:?}");
    let stranger = WorkloadIdentity {
        client_id: need("ENTRA_LIVE_OTHER_CLIENT_ID"),
        ..federated
    };
    let (kind, number) = refused(&identify(), &stranger, Some(handed)).await;
    assert_eq!(kind, RefusalKind::NoCredential, "AADSTS{number}");
}

#[tokio::test]
async fn agent_id_works_on_an_api_of_ones_own() {
    let path = need("ENTRA_LIVE_FEDERATED_TOKEN_FILE");
    let token = std::fs::read_to_string(path).unwrap();
    let agent = WorkloadIdentity {
        client_id: need("ENTRA_LIVE_AGENT_CLIENT_ID"),
        ..workload(Method::AgentId {
            blueprint: need("ENTRA_LIVE_BLUEPRINT"),
            source: AssertionSource::Handed,
        })
    };
    let found = identify()
        .examine(&agent, Some(Secret::new(token.trim())), now())
        .await;
    assert!(found.is_ok(), "{found:?}");
}

#[tokio::test]
async fn graph_completes_groups_and_knows_the_state_of_accounts() {
    let identify = identify_with(|config| {
        config.graph = Some(GraphConfig {
            origin: need("ENTRA_LIVE_GRAPH"),
            reader: workload(certificate()),
            token_lists_part: true,
        });
    });
    let principal = identify
        .bind(&workload(certificate()), None, now())
        .await
        .unwrap();
    assert!(
        matches!(principal.groups, Groups::Known(_)),
        "{principal:?}"
    );
    assert_eq!(identify.still_presented(&principal, now()).await, Ok(()));
}

#[tokio::test]
async fn managed_identities_sign_in() {
    let machine = WorkloadIdentity {
        client_id: need("ENTRA_LIVE_MANAGED_CLIENT_ID"),
        ..workload(Method::Managed)
    };
    let found = identify().examine(&machine, None, now()).await;
    assert!(found.is_ok(), "{found:?}");
}
