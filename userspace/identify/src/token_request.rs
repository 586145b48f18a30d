//! A service-account token from the API server, asked for with the node's or DaemonSet's right.
//!
//! Source: Kubernetes' TokenRequest API (`authentication.k8s.io/v1`). The token is bound to the
//! pod, lives as short as it can, and is used once.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::http::HttpClient;
use crate::refusal::Unidentified;
use crate::secret::Secret;

/// The least that the API gives.
const LIFE_S: u32 = 600;

/// An API server that gives tokens.
pub struct TokenRequests {
    http: HttpClient,
    server: String,
    audience: String,
}

impl std::fmt::Debug for TokenRequests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenRequests({})", self.server)
    }
}

/// Whose token is asked for.
#[derive(Clone, Debug)]
pub struct Account {
    pub namespace: String,
    pub name: String,
    /// Name and uid of the pod that the token is bound to.
    pub pod: Option<(String, String)>,
}

/// Whom to ask, and for whose token.
pub struct TokenRequest {
    from: Arc<TokenRequests>,
    url: String,
    body: serde_json::Value,
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

impl TokenRequests {
    /// `server` is the API server's origin, https with its CA (PEM); plain http on loopback only
    /// and without one, for tests. `audience` is the token exchange's. Makes no call.
    ///
    /// # Errors
    /// What is wrong, for the operator.
    pub fn new(server: &str, ca: Option<&str>, audience: &str) -> Result<Self, String> {
        let url = Url::parse(server).map_err(|_| "server is not a URL".to_owned())?;
        let loopback = match url.host() {
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            Some(url::Host::Domain(_)) | None => false,
        };
        let plain = url.scheme() == "http" && loopback && ca.is_none();
        if !plain && (url.scheme() != "https" || ca.is_none()) {
            return Err("the API server needs https and its CA".to_owned());
        }
        Ok(Self {
            http: HttpClient::beside(ca, "the API server")?,
            server: server.trim_end_matches('/').to_owned(),
            audience: audience.to_owned(),
        })
    }

    /// # Errors
    /// A name that none can be.
    pub fn of(self: &Arc<Self>, account: &Account) -> Result<TokenRequest, String> {
        for part in [&account.namespace, &account.name] {
            if !is_name(part) {
                return Err(format!("'{part}' is not a Kubernetes name"));
            }
        }
        let mut spec = json!({
            "audiences": [self.audience],
            "expirationSeconds": LIFE_S,
        });
        if let (Some((name, uid)), Some(fields)) = (&account.pod, spec.as_object_mut()) {
            let bound = json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid});
            fields.insert("boundObjectRef".to_owned(), bound);
        }
        Ok(TokenRequest {
            from: Arc::clone(self),
            url: format!(
                "{}/api/v1/namespaces/{}/serviceaccounts/{}/token",
                self.server, account.namespace, account.name
            ),
            body: json!({
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": spec,
            }),
        })
    }
}

impl TokenRequest {
    /// One token. `credential` may ask for it.
    pub(crate) async fn ask(&self, credential: &Secret) -> Result<Secret, Unidentified> {
        let answer = self
            .from
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

    fn account() -> Account {
        Account {
            namespace: "agents".to_owned(),
            name: "analyst".to_owned(),
            pod: Some(("analyst-0".to_owned(), "u".to_owned())),
        }
    }

    fn server() -> Arc<TokenRequests> {
        let audience = "api://AzureADTokenExchange";
        Arc::new(TokenRequests::new("http://127.0.0.1:1", None, audience).unwrap())
    }

    #[test]
    fn the_request_is_bound_to_the_pod_and_short() {
        let request = server().of(&account()).unwrap();
        assert!(
            request
                .url
                .ends_with("/api/v1/namespaces/agents/serviceaccounts/analyst/token")
        );
        assert_eq!(request.body["spec"]["expirationSeconds"], LIFE_S);
        assert_eq!(request.body["spec"]["boundObjectRef"]["uid"], "u");
    }

    #[test]
    fn names_cannot_lead_elsewhere() {
        for change in [
            |one: &mut Account| one.namespace = "../kube-system".to_owned(),
            |one: &mut Account| one.name = "a/b".to_owned(),
            |one: &mut Account| one.name = String::new(),
            |one: &mut Account| one.name = "a?b".to_owned(),
        ] {
            let mut bad = account();
            change(&mut bad);
            assert!(server().of(&bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn plain_http_stays_on_loopback() {
        for (origin, ca) in [
            ("http://10.0.0.1", None),
            ("https://10.0.0.1", None),
            ("https://10.0.0.1", Some("no pem")),
            ("http://127.0.0.1", Some("no pem")),
        ] {
            assert!(TokenRequests::new(origin, ca, "a").is_err(), "{origin}");
        }
    }
}
