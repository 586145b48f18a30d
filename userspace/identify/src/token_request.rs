//! A service-account token from the API server, asked for with the node's or DaemonSet's right.
//!
//! Source: Kubernetes' TokenRequest API (`authentication.k8s.io/v1`). The token is bound to the
//! pod, lives as short as it can, and is used once.

use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::http::HttpClient;
use crate::refusal::Unidentified;
use crate::secret::Secret;

/// The least that the API gives.
const LIFE_S: u32 = 600;

/// Whom to ask, and for whose token.
pub struct TokenRequest {
    http: HttpClient,
    url: String,
    body: serde_json::Value,
}

/// The parts of a [`TokenRequest`], as configured.
#[derive(Clone, Debug)]
pub struct TokenRequestConfig {
    /// `https://` origin of the API server; plain http on loopback only, for tests.
    pub server: String,
    /// PEM of the API server's CA; absent only on loopback.
    pub ca: Option<String>,
    pub namespace: String,
    pub service_account: String,
    /// Name and uid of the pod that the token is bound to.
    pub pod: Option<(String, String)>,
    /// Audience of the token exchange.
    pub audience: String,
}

#[derive(Deserialize)]
struct Answered {
    status: AnsweredStatus,
}

#[derive(Deserialize)]
struct AnsweredStatus {
    token: String,
}

impl std::fmt::Debug for TokenRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenRequest({})", self.url)
    }
}

impl TokenRequest {
    /// Checks the parts; makes no call.
    ///
    /// # Errors
    /// What is wrong, for the operator.
    pub fn new(config: &TokenRequestConfig) -> Result<Self, String> {
        let server = Url::parse(&config.server).map_err(|_| "server is not a URL".to_owned())?;
        let loopback = match server.host() {
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            Some(url::Host::Domain(_)) | None => false,
        };
        let plain = server.scheme() == "http" && loopback && config.ca.is_none();
        if !plain && (server.scheme() != "https" || config.ca.is_none()) {
            return Err("the API server needs https and its CA".to_owned());
        }
        for part in [&config.namespace, &config.service_account] {
            if !is_name(part) {
                return Err(format!("'{part}' is not a Kubernetes name"));
            }
        }
        let mut spec = json!({
            "audiences": [config.audience],
            "expirationSeconds": LIFE_S,
        });
        if let (Some((name, uid)), Some(fields)) = (&config.pod, spec.as_object_mut()) {
            let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
            fields.insert("boundObjectRef".to_owned(), bound);
        }
        Ok(Self {
            http: HttpClient::beside(config.ca.as_deref(), "the API server")?,
            url: format!(
                "{}/api/v1/namespaces/{}/serviceaccounts/{}/token",
                config.server.trim_end_matches('/'),
                config.namespace,
                config.service_account
            ),
            body: json!({
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": spec,
            }),
        })
    }

    /// One token. `credential` may ask for it.
    pub(crate) async fn ask(&self, credential: &Secret) -> Result<Secret, Unidentified> {
        let answer = self
            .http
            .post_json(&self.url, credential.expose(), &self.body)
            .await?;
        match answer.status {
            200 | 201 => serde_json::from_slice::<Answered>(&answer.body)
                .map(|answered| Secret::new(answered.status.token))
                .map_err(|_| Unidentified::Malformed {
                    what: "TokenRequest answer",
                }),
            401 | 403 => Err(Unidentified::TokenRequestDenied),
            404 => Err(Unidentified::TokenRequestGone),
            status => Err(Unidentified::unexpected_status("a TokenRequest", status)),
        }
    }
}

/// DNS-1123 subdomain, which cannot lead out of its path segment.
fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        && !text.starts_with(['.', '-'])
        && !text.ends_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> TokenRequestConfig {
        TokenRequestConfig {
            server: "http://127.0.0.1:1".to_owned(),
            ca: None,
            namespace: "agents".to_owned(),
            service_account: "analyst".to_owned(),
            pod: Some(("analyst-0".to_owned(), "u".to_owned())),
            audience: "api://AzureADTokenExchange".to_owned(),
        }
    }

    #[test]
    fn the_request_is_bound_to_the_pod_and_short() {
        let request = TokenRequest::new(&config()).unwrap();
        assert!(
            request
                .url
                .ends_with("/api/v1/namespaces/agents/serviceaccounts/analyst/token")
        );
        assert_eq!(request.body["spec"]["expirationSeconds"], LIFE_S);
        assert_eq!(request.body["spec"]["boundObjectRef"]["uid"], "u");
    }

    #[test]
    fn names_cannot_lead_elsewhere_and_plain_http_stays_on_loopback() {
        for change in [
            |c: &mut TokenRequestConfig| c.namespace = "../kube-system".to_owned(),
            |c: &mut TokenRequestConfig| c.service_account = "a/b".to_owned(),
            |c: &mut TokenRequestConfig| c.service_account = String::new(),
            |c: &mut TokenRequestConfig| c.service_account = "a?b".to_owned(),
            |c: &mut TokenRequestConfig| c.server = "http://10.0.0.1".to_owned(),
            |c: &mut TokenRequestConfig| c.server = "https://10.0.0.1".to_owned(),
            |c: &mut TokenRequestConfig| c.ca = Some("no pem".to_owned()),
        ] {
            let mut bad = config();
            change(&mut bad);
            assert!(TokenRequest::new(&bad).is_err(), "{bad:?}");
        }
    }
}
