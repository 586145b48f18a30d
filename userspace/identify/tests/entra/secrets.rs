//! Backend secrets from the services that keep them, against stand-ins.

use serde_json::json;
use weir_identify::{Authority, Method, Secret, SecretSource, Unidentified, WorkloadIdentity};

use crate::fixture::{Entra, GRAPH_READER, analyst};
use crate::now;

async fn put(entra: &Entra, path: &str, value: &str) -> Secret {
    let body = json!({"path": path, "value": value});
    let answer = entra.post("/control/vault", body).await;
    Secret::new(answer["token"].as_str().unwrap())
}

#[tokio::test]
async fn vault_gives_the_present_value_and_names_what_is_wrong() {
    let entra = Entra::start().await;
    let identify = entra.identify();
    let token = put(&entra, "secret/data/db", "first").await;
    let origin = format!("{}/vault", entra.origin);
    let source = |path: &str, field: &str, token: Secret| {
        SecretSource::vault(&origin, None, (path, field), token).unwrap()
    };
    let db = source("secret/data/db", "password", token.clone());
    let fetched = identify.fetch_secret(&db, None, now()).await.unwrap();
    assert_eq!(fetched.expose(), "first");
    put(&entra, "secret/data/db", "second").await;
    let fetched = identify.fetch_secret(&db, None, now()).await.unwrap();
    assert_eq!(fetched.expose(), "second");
    for (path, field, token) in [
        ("secret/data/db", "absent", token.clone()),
        ("secret/data/db", "number", token.clone()),
        ("secret/data/other", "password", token),
        ("secret/data/db", "password", Secret::new("wrong")),
    ] {
        let wrong = source(path, field, token);
        let error = identify
            .fetch_secret(&wrong, None, now())
            .await
            .unwrap_err();
        assert!(
            matches!(error, Unidentified::NotConfigured(_)),
            "{path} {field}: {error}"
        );
    }
}

#[tokio::test]
async fn a_kubernetes_secret_is_decoded() {
    let entra = Entra::start().await;
    put(&entra, "prod/db", "hunter2").await;
    let credential = entra.get("/control/node-credential").await;
    let credential = Secret::new(credential["token"].as_str().unwrap());
    let server = format!("{}/k8s", entra.origin);
    let source =
        |path| SecretSource::kubernetes(&server, None, (path, "password"), credential.clone());
    let db = source("prod/db").unwrap();
    let fetched = entra.identify().fetch_secret(&db, None, now()).await;
    assert_eq!(fetched.unwrap().expose(), "hunter2");
    assert!(source("prod").is_err() && source("prod/../x").is_err());
}

#[tokio::test]
async fn key_vault_is_asked_as_an_identity_and_entra_tokens_are_passwords() {
    let entra = Entra::start().await;
    put(&entra, "db-password", "hunter2").await;
    let body = json!({"app": "graph-reader"});
    let answer = entra.post("/control/secret", body).await;
    let reader = WorkloadIdentity {
        client_id: GRAPH_READER.to_owned(),
        method: Method::Secret(Secret::new(answer["secret"].as_str().unwrap())),
        ..analyst()
    };
    let authority = Authority::parse(&entra.origin, true).unwrap();
    let origin = format!("{}/keyvault", entra.origin);
    let db = SecretSource::key_vault(&origin, "db-password", reader.clone(), &authority).unwrap();
    let identify = entra.identify();
    let fetched = identify.fetch_secret(&db, None, now()).await.unwrap();
    assert_eq!(fetched.expose(), "hunter2");
    let token = SecretSource::entra(&format!("{origin}/.default"), reader.clone());
    let token = identify.fetch_secret(&token, None, now()).await.unwrap();
    assert_eq!(
        token.expose().split('.').count(),
        3,
        "a token is the password"
    );
    let plain = SecretSource::key_vault("http://10.0.0.1", "x", reader, &authority);
    assert!(plain.is_err());
}
