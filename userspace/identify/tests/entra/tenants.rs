//! Two tenants of one authority, and what is not a tenant's own.

use serde_json::json;
use weir_identify::{AssertionSource, Identify, Method, RefusalKind, WorkloadIdentity};
use weir_model::ident::Groups;

use crate::fixture::{
    ANALYST, Entra, GUEST, GUEST_OID, GUESTS, TENANT, TENANT_2, analyst, good_claims,
};
use crate::{later, now, refused};

fn guest() -> WorkloadIdentity {
    WorkloadIdentity {
        name: "guest".to_owned(),
        tenant: TENANT_2.to_owned(),
        client_id: GUEST.to_owned(),
        method: Method::Federated(AssertionSource::Handed),
        ..analyst()
    }
}

fn both(entra: &Entra) -> Identify {
    let mut config = entra.config();
    config.tenants.push(TENANT_2.to_owned());
    Identify::new(config).unwrap()
}

#[tokio::test]
async fn workloads_of_two_tenants_are_bound_each_to_its_own() {
    let entra = Entra::start().await;
    let identify = both(&entra);
    let own = identify
        .bind(&analyst(), entra.assertion("analyst").await, now())
        .await;
    let other = identify
        .bind(&guest(), entra.assertion("guest").await, now())
        .await;
    assert_eq!(&*own.unwrap().tenant, TENANT);
    let other = other.unwrap();
    assert_eq!((&*other.tenant, &*other.oid), (TENANT_2, GUEST_OID));
    assert_eq!(other.groups, Groups::Known([GUESTS.into()].into()));
}

#[tokio::test]
async fn a_tenant_that_is_not_listed_is_not_asked() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    let error = identify
        .bind(&guest(), entra.assertion("guest").await, now())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "tenant_not_allowed");
    assert_eq!(entra.count("token").await, 0);
    let token = entra.mint_of(TENANT_2, good_claims()).await;
    let verdict = identify.verify(&token, now()).await;
    assert_eq!(verdict.step, Some(6), "its keys were never fetched");
}

#[tokio::test]
async fn applications_of_the_same_id_in_two_tenants_are_two() {
    let entra = Entra::start().await;
    let identify = both(&entra);
    // The second tenant has a principal of that application, without credential and role.
    let elsewhere = WorkloadIdentity {
        tenant: TENANT_2.to_owned(),
        ..analyst()
    };
    let result = identify
        .bind(&elsewhere, entra.assertion("analyst").await, now())
        .await;
    assert_eq!(refused(result), (RefusalKind::NoCredential, 700_211));
    let own = identify
        .bind(&analyst(), entra.assertion("analyst").await, now())
        .await;
    assert_eq!(
        &*own.unwrap().app,
        ANALYST,
        "the refusal is the other binding's alone"
    );
    let unknown = WorkloadIdentity {
        tenant: TENANT.to_owned(),
        ..guest()
    };
    let result = identify
        .bind(&unknown, entra.assertion("guest").await, now())
        .await;
    assert_eq!(refused(result), (RefusalKind::SetUp, 700_016));
}

#[tokio::test]
async fn one_tenants_keys_sign_nothing_for_the_other() {
    let entra = Entra::start().await;
    let identify = both(&entra);
    let issuer = |tenant: &str| format!("{}/{tenant}/v2.0", entra.origin);
    for (signer, claimed) in [(TENANT, TENANT_2), (TENANT_2, TENANT)] {
        let mut claims = good_claims();
        claims["tid"] = json!(claimed);
        claims["iss"] = json!(issuer(claimed));
        let verdict = identify
            .verify(&entra.mint_of(signer, claims).await, now())
            .await;
        assert_eq!(verdict.code, Some("key_of_other_tenant"), "{signer}");
        let mut mixed = good_claims();
        mixed["tid"] = json!(signer);
        mixed["iss"] = json!(issuer(claimed));
        let verdict = identify
            .verify(&entra.mint_of(signer, mixed).await, now())
            .await;
        assert_eq!(verdict.code, Some("issuer"), "{signer}");
    }
    for tenant in [TENANT, TENANT_2] {
        let token = entra.mint_of(tenant, good_claims()).await;
        assert!(identify.verify(&token, now()).await.ok, "{tenant}");
    }
}

#[tokio::test]
async fn an_emergency_rollover_in_one_tenant_leaves_the_other_alone() {
    let entra = Entra::start().await;
    let identify = both(&entra);
    let stolen = entra.mint_of(TENANT_2, good_claims()).await;
    let own = entra.mint(good_claims()).await;
    assert!(identify.verify(&stolen, now()).await.ok && identify.verify(&own, now()).await.ok);
    let body = json!({"tid": TENANT_2, "drop_old": true});
    entra.post("/control/rotate-keys", body).await;
    let fresh = entra.mint_of(TENANT_2, good_claims()).await;
    assert!(
        identify.verify(&fresh, now()).await.ok,
        "one look finds the new key"
    );
    assert_eq!(identify.verify(&stolen, now()).await.step, Some(6));
    assert!(identify.verify(&own, now()).await.ok);
    // Nothing signed by the new key: the old one is gone with the next hourly look.
    let identify = both(&entra);
    assert!(identify.verify(&fresh, now()).await.ok);
    entra
        .post(
            "/control/rotate-keys",
            json!({"tid": TENANT_2, "drop_old": true}),
        )
        .await;
    assert!(
        identify.verify(&fresh, later(60)).await.ok,
        "not heard of yet"
    );
    assert_eq!(identify.verify(&fresh, later(3601)).await.step, Some(6));
}

#[tokio::test]
async fn metadata_of_version_1_and_of_any_tenant_are_not_taken() {
    let entra = Entra::start().await;
    for path in [
        "/common/v2.0/.well-known/openid-configuration".to_owned(),
        "/organizations/v2.0/.well-known/openid-configuration".to_owned(),
        format!("/{TENANT}/.well-known/openid-configuration"),
        format!("/{TENANT_2}/v2.0/.well-known/openid-configuration"),
    ] {
        let document = entra.get(&path).await;
        // What the tenant's own address would answer if it were mixed up.
        let fault = json!({
            "path": format!("/{TENANT}/v2.0/.well-known"), "kind": "body",
            "body": document.to_string(),
        });
        entra.fault(fault).await;
        let identify = entra.identify();
        let error = identify
            .bind(&analyst(), entra.assertion("analyst").await, now())
            .await
            .unwrap_err();
        assert_eq!(error.code(), "entra_malformed", "{path}: {error}");
        entra.fault(json!({})).await;
    }
    let keys = entra.get("/common/discovery/v2.0/keys").await;
    assert!(
        keys["keys"].as_array().unwrap().len() >= 3,
        "all tenants' and the consumers'"
    );
}

#[tokio::test]
async fn tokens_of_version_1_are_refused_at_step_10() {
    let entra = Entra::start().await;
    let mut claims = good_claims();
    claims["ver"] = json!("1.0");
    claims["iss"] = json!(format!("https://sts.windows.net/{TENANT}/"));
    claims["appid"] = json!(ANALYST);
    let verdict = entra
        .identify()
        .verify(&entra.mint(claims).await, now())
        .await;
    assert_eq!((verdict.step, verdict.code), (Some(10), Some("version")));
    assert!(
        verdict
            .reason
            .unwrap()
            .contains("requestedAccessTokenVersion")
    );
}
