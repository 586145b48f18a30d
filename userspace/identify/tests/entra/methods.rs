//! Every way in which a workload can sign in.

use std::sync::Arc;

use serde_json::json;
use weir_identify::{
    Account, AssertionProblem, AssertionSource, Attested, ClientCertificate, ClusterKeys, Method,
    RefusalKind, Secret, TokenRequests, Unidentified, WorkloadIdentity,
};
use weir_model::ident::{EvidenceKind, Groups};

use crate::fixture::{AGENT_IDENTITY, BLUEPRINT, Entra, MACHINE, SERVICE, analyst};
use crate::{now, refused};

fn workload(client_id: &str, method: Method) -> WorkloadIdentity {
    WorkloadIdentity {
        client_id: client_id.to_owned(),
        method,
        ..analyst()
    }
}

/// A self-signed certificate with its RSA key, as one PEM text, and the certificate alone.
fn certificate() -> (String, String) {
    let made = std::process::Command::new("openssl")
        .args([
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        ])
        .args(["-subj", "/CN=service", "-keyout", "-", "-out", "-"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let both = String::from_utf8(made.stdout).unwrap();
    let at = both.find("-----BEGIN CERTIFICATE-----").unwrap();
    let end = both.find("-----END CERTIFICATE-----").unwrap();
    let alone = format!("{}-----END CERTIFICATE-----\n", &both[at..end]);
    (both, alone)
}

#[tokio::test]
async fn a_certificate_signs_the_assertion() {
    let entra = Entra::start().await;
    let (pem, alone) = certificate();
    let body = json!({"app": "service", "certificate": alone});
    entra.post("/control/certificate", body).await;
    for rs256 in [false, true] {
        let certificate = Arc::new(ClientCertificate::parse(&pem, rs256).unwrap());
        let service = workload(SERVICE, Method::Certificate(certificate));
        let principal = entra.identify().bind(&service, None, now()).await.unwrap();
        assert_eq!(&*principal.app, SERVICE);
        assert_eq!(principal.evidence, EvidenceKind::Certificate);
    }
    let (other, _) = certificate();
    let other = Arc::new(ClientCertificate::parse(&other, false).unwrap());
    let service = workload(SERVICE, Method::Certificate(other));
    let result = entra.identify().bind(&service, None, now()).await;
    assert_eq!(refused(result), (RefusalKind::AssertionSignature, 700_027));
}

#[tokio::test]
async fn a_secret_works_and_a_wrong_one_is_named() {
    let entra = Entra::start().await;
    let answer = entra
        .post("/control/secret", json!({"app": "service"}))
        .await;
    let secret = Secret::new(answer["secret"].as_str().unwrap());
    let service = workload(SERVICE, Method::Secret(secret));
    let principal = entra.identify().bind(&service, None, now()).await.unwrap();
    assert_eq!(principal.evidence, EvidenceKind::ClientSecret);
    let wrong = workload(SERVICE, Method::Secret(Secret::new("wrong")));
    let error = entra
        .identify()
        .bind(&wrong, None, now())
        .await
        .unwrap_err();
    assert!(
        error.operator_text().starts_with("AADSTS7000215"),
        "{error}"
    );
    assert!(error.operator_text().contains("secret"), "says what to do");
}

#[tokio::test]
async fn the_metadata_service_gives_the_machines_identity_and_v1_tokens_are_refused() {
    let entra = Entra::start().await;
    let machine = workload(MACHINE, Method::Managed);
    let principal = entra.identify().bind(&machine, None, now()).await.unwrap();
    assert_eq!(&*principal.app, MACHINE);
    assert_eq!(principal.evidence, EvidenceKind::Managed);
    assert_eq!(principal.groups, Groups::Unknown, "app-only: never 'none'");
    let life_s = principal.valid_until_s - now().unix_s();
    assert!(life_s <= 3600, "a day's token binds for an hour");

    entra.post("/control/metadata", json!({"version": 1})).await;
    let error = entra
        .identify()
        .bind(&machine, None, now())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "version");
    assert!(
        error
            .operator_text()
            .contains("requestedAccessTokenVersion")
    );

    let stranger = workload(SERVICE, Method::Managed);
    let error = entra
        .identify()
        .bind(&stranger, None, now())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "identity_not_configured");
}

#[tokio::test]
async fn while_the_metadata_service_starts_nothing_is_said_of_the_identity() {
    let entra = Entra::start().await;
    let machine = workload(MACHINE, Method::Managed);
    for status in [404, 410, 500] {
        let fault = json!({"path": "/imds/", "kind": "status", "status": status});
        entra.fault(fault).await;
        let error = entra
            .identify()
            .bind(&machine, None, now())
            .await
            .unwrap_err();
        assert!(error.is_transient(), "{status}: {error}");
    }
}

#[tokio::test]
async fn an_agent_identity_signs_in_through_its_blueprint() {
    let entra = Entra::start().await;
    let method = |blueprint: &str| Method::AgentId {
        blueprint: blueprint.to_owned(),
        source: AssertionSource::Handed,
    };
    let agent = workload(AGENT_IDENTITY, method(BLUEPRINT));
    let assertion = entra.assertion("analyst").await;
    let principal = entra
        .identify()
        .bind(&agent, assertion, now())
        .await
        .unwrap();
    assert_eq!(&*principal.app, AGENT_IDENTITY, "never the blueprint");
    assert_eq!(principal.evidence, EvidenceKind::AgentId);
    assert_eq!(entra.count("token").await, 2);

    let foreign = workload(SERVICE, method(BLUEPRINT));
    let assertion = entra.assertion("analyst").await;
    let result = entra.identify().bind(&foreign, assertion, now()).await;
    assert!(
        matches!(result, Err(Unidentified::Refused(_))),
        "{result:?}"
    );

    let body = json!({"app": "blueprint"});
    entra.post("/control/disable", body).await;
    let assertion = entra.assertion("analyst").await;
    let result = entra.identify().bind(&agent, assertion, now()).await;
    assert_eq!(
        refused(result),
        (RefusalKind::Revoked, 7_000_112),
        "stops all its agents"
    );
}

#[tokio::test]
async fn a_node_credential_asks_the_api_server_for_the_pods_token() {
    let entra = Entra::start().await;
    let request = |account: &str| {
        let server = format!("{}/k8s", entra.origin);
        let requests = TokenRequests::new(&server, None, "api://AzureADTokenExchange").unwrap();
        let account = Account {
            namespace: "agents".to_owned(),
            name: account.to_owned(),
            pod: Some(("analyst-0".to_owned(), "uid-1".to_owned())),
        };
        AssertionSource::Requested(Arc::new(Arc::new(requests).of(&account).unwrap()))
    };
    let mut identity = workload(&analyst().client_id, Method::Federated(request("analyst")));
    identity.attested = Some(attested("uid-1", &entra).await);
    let credential = entra.get("/control/node-credential").await;
    let credential = Secret::new(credential["token"].as_str().unwrap());
    let identify = entra.identify();
    let principal = identify
        .bind(&identity, credential.clone(), now())
        .await
        .unwrap();
    assert_eq!(&*principal.app, analyst().client_id.as_str());

    let stranger = Secret::new("not the node's");
    let error = entra
        .identify()
        .bind(&identity, stranger, now())
        .await
        .unwrap_err();
    assert_eq!(error, Unidentified::TokenRequestDenied);

    let other_pod = WorkloadIdentity {
        attested: Some(attested("uid-2", &entra).await),
        ..identity
    };
    let error = identify
        .bind(&other_pod, credential, now())
        .await
        .unwrap_err();
    assert_eq!(
        error,
        Unidentified::Assertion(AssertionProblem::Pod),
        "a new pod, a new binding"
    );
}

async fn attested(pod_uid: &str, entra: &Entra) -> Attested {
    let keys = entra.get("/k8s/openid/v1/jwks").await.to_string();
    let issuer = format!("{}/k8s", entra.origin);
    Attested {
        namespace: "agents".to_owned(),
        service_account: "analyst".to_owned(),
        pod_uid: Some(pod_uid.to_owned()),
        node: Some("lab-node".to_owned()),
        cluster: Some(Arc::new(
            ClusterKeys::parse(&issuer, keys.as_bytes()).unwrap(),
        )),
    }
}

#[tokio::test]
async fn a_planted_token_of_another_pod_never_reaches_entra() {
    let entra = Entra::start().await;
    let other = Entra::start().await;
    let token = |pod: &'static str, account: &'static str| json!({"namespace": "agents", "serviceaccount": account, "pod": {"name": "p", "uid": pod}});
    let mut identity = analyst();
    identity.attested = Some(attested("uid-1", &entra).await);
    for (planted, problem) in [
        (
            entra.assertion_with(token("uid-2", "analyst")).await,
            AssertionProblem::Pod,
        ),
        (
            entra.assertion_with(token("uid-1", "operator")).await,
            AssertionProblem::Subject,
        ),
        (
            other.assertion_with(token("uid-1", "analyst")).await,
            AssertionProblem::Signature,
        ),
    ] {
        let error = entra
            .identify()
            .bind(&identity, planted, now())
            .await
            .unwrap_err();
        assert_eq!(error, Unidentified::Assertion(problem));
    }
    assert_eq!(entra.count("token").await, 0);
    let own = entra.assertion_with(token("uid-1", "analyst")).await;
    assert!(entra.identify().bind(&identity, own, now()).await.is_ok());
}

#[tokio::test]
async fn files_without_what_a_certificate_needs_are_named() {
    use weir_identify::CertificateProblem;
    let (pem, alone) = certificate();
    let parse = |text: &str| ClientCertificate::parse(text, false).unwrap_err();
    assert_eq!(parse(""), CertificateProblem::NoCertificate);
    assert_eq!(parse(&alone), CertificateProblem::NoKey);
    assert_eq!(parse(&pem.repeat(40)), CertificateProblem::TooLarge);
    let debug = format!("{:?}", ClientCertificate::parse(&pem, false).unwrap());
    assert!(!debug.contains("PRIVATE"), "{debug}");
}
