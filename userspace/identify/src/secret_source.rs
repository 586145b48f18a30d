//! Backend secrets kept by services that are asked over HTTP.
//!
//! Sources: Vault's KV version 2 API, the Kubernetes API of Secrets, Azure Key Vault's REST API.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::collections::BTreeMap;
use url::Url;
use weir_model::time::Now;

use crate::Identify;
use crate::authority::Authority;
use crate::bind::WorkloadIdentity;
use crate::http::{Answer, HttpClient};
use crate::refusal::Unidentified;
use crate::secret::Secret;

const KEY_VAULT_API: &str = "7.4";

/// A service and what to ask it for.
pub struct SecretSource {
    http: Option<HttpClient>,
    what: Asked,
}

enum Asked {
    Vault {
        url: String,
        field: String,
        token: Secret,
    },
    KubernetesSecret {
        url: String,
        key: String,
        token: Secret,
    },
    KeyVault {
        url: String,
        scope: String,
        reader: WorkloadIdentity,
    },
    Entra {
        scope: String,
        reader: WorkloadIdentity,
    },
}

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretSource")
    }
}

#[derive(Deserialize)]
struct VaultBody {
    data: VaultData,
}

#[derive(Deserialize)]
struct VaultData {
    data: BTreeMap<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct SecretBody {
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct KeyVaultBody {
    value: String,
}

const MALFORMED: Unidentified = Unidentified::Malformed {
    what: "the secret service's answer",
};

/// https with a CA; plain http on loopback only, for sidecars and tests.
fn client(origin: &str, ca: Option<&str>) -> Result<HttpClient, String> {
    if origin.starts_with("https://") {
        let ca = ca.ok_or("https needs ca_file")?;
        return HttpClient::beside(Some(ca), "the secret service");
    }
    Authority::parse_local(origin).map_err(|_| "must be https, or http on loopback".to_owned())?;
    HttpClient::beside(None, "the secret service")
}

fn plain_path(path: &str) -> Result<&str, String> {
    let good = path
        .split('/')
        .all(|part| !part.is_empty() && part != "." && part != "..")
        && path
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    if good {
        Ok(path)
    } else {
        Err("the path may hold letters, digits, '-', '_', '.' and single '/'".to_owned())
    }
}

impl SecretSource {
    /// Vault KV v2. `path` is `MOUNT/data/NAME`.
    ///
    /// # Errors
    /// What is wrong, for the operator.
    pub fn vault(
        origin: &str,
        ca: Option<&str>,
        (path, field): (&str, &str),
        token: Secret,
    ) -> Result<Self, String> {
        Ok(Self {
            http: Some(client(origin, ca)?),
            what: Asked::Vault {
                url: format!("{}/v1/{}", origin.trim_end_matches('/'), plain_path(path)?),
                field: field.to_owned(),
                token,
            },
        })
    }

    /// One key of a Kubernetes Secret. `path` is `NAMESPACE/NAME`.
    ///
    /// # Errors
    /// What is wrong, for the operator.
    pub fn kubernetes(
        server: &str,
        ca: Option<&str>,
        (path, key): (&str, &str),
        token: Secret,
    ) -> Result<Self, String> {
        let (namespace, name) = plain_path(path)?
            .split_once('/')
            .ok_or("must be namespace/name")?;
        let server_url = server.trim_end_matches('/');
        Ok(Self {
            http: Some(client(server, ca)?),
            what: Asked::KubernetesSecret {
                url: format!("{server_url}/api/v1/namespaces/{namespace}/secrets/{name}"),
                key: key.to_owned(),
                token,
            },
        })
    }

    /// Azure Key Vault, asked as `reader`.
    ///
    /// # Errors
    /// What is wrong, for the operator.
    pub fn key_vault(
        origin: &str,
        secret: &str,
        reader: WorkloadIdentity,
        authority: &Authority,
    ) -> Result<Self, String> {
        let url = Url::parse(origin).map_err(|_| "is not a URL".to_owned())?;
        let local = authority.plain && Authority::parse_local(origin).is_ok();
        let http = if local {
            HttpClient::beside(None, "Key Vault")?
        } else if url.scheme() == "https" {
            HttpClient::new(authority)?
        } else {
            return Err("must be https".to_owned());
        };
        // A vault's tokens are for its service, not for the single vault.
        let host = url.host_str().unwrap_or_default();
        let service = host.split_once('.').map_or(host, |(_, service)| service);
        let scope = if local {
            format!("{}/.default", origin.trim_end_matches('/'))
        } else {
            format!("https://{service}/.default")
        };
        Ok(Self {
            http: Some(http),
            what: Asked::KeyVault {
                url: format!(
                    "{}/secrets/{}?api-version={KEY_VAULT_API}",
                    origin.trim_end_matches('/'),
                    plain_path(secret)?
                ),
                scope,
                reader,
            },
        })
    }

    /// The token of `reader` for `scope` is the secret.
    #[must_use]
    pub fn entra(scope: &str, reader: WorkloadIdentity) -> Self {
        Self {
            http: None,
            what: Asked::Entra {
                scope: scope.to_owned(),
                reader,
            },
        }
    }

    /// Whose service-account token is needed to ask.
    #[must_use]
    pub fn wants_assertion_of(&self) -> Option<&str> {
        match &self.what {
            Asked::KeyVault { reader, .. } | Asked::Entra { reader, .. } => reader
                .method
                .wants_assertion()
                .then_some(reader.name.as_str()),
            Asked::Vault { .. } | Asked::KubernetesSecret { .. } => None,
        }
    }
}

impl Identify {
    /// Asks the service.
    ///
    /// # Errors
    /// It refuses, does not answer, or has no such secret.
    pub async fn fetch_secret(
        &self,
        source: &SecretSource,
        handed: Option<Secret>,
        now: Now,
    ) -> Result<Secret, Unidentified> {
        match (&source.what, &source.http) {
            (Asked::Vault { url, field, token }, Some(http)) => {
                let answer = http
                    .get_with(url, ("x-vault-token", token.expose()))
                    .await?;
                let body: VaultBody = good(&answer)?;
                let value = body.data.data.get(field).and_then(|value| value.as_str());
                value.map(Secret::new).ok_or(NO_FIELD)
            }
            (Asked::KubernetesSecret { url, key, token }, Some(http)) => {
                let answer = http.get_bearer(url, token.expose()).await?;
                let body: SecretBody = good(&answer)?;
                let value = body.data.get(key).ok_or(NO_FIELD)?;
                let bytes = STANDARD.decode(value).map_err(|_| MALFORMED)?;
                let text = String::from_utf8(bytes).map_err(|_| MALFORMED)?;
                Ok(Secret::new(text.trim_end_matches(['\n', '\r'])))
            }
            (Asked::KeyVault { url, scope, reader }, Some(http)) => {
                let token = self.token_handed(reader, scope, handed, now).await?;
                let answer = http.get_bearer(url, token.expose()).await?;
                let body: KeyVaultBody = good(&answer)?;
                Ok(Secret::new(body.value))
            }
            (Asked::Entra { scope, reader }, _) => {
                self.token_handed(reader, scope, handed, now).await
            }
            (_, None) => Err(MALFORMED),
        }
    }
}

const NO_FIELD: Unidentified = Unidentified::NotConfigured(
    "the secret has no such field: check field in the target's credential",
);

fn good<T: for<'de> Deserialize<'de>>(answer: &Answer) -> Result<T, Unidentified> {
    match answer.status {
        200 => serde_json::from_slice(&answer.body).map_err(|_| MALFORMED),
        401 | 403 => Err(Unidentified::NotConfigured(
            "the secret service refused: check the token or identity that reads the secret",
        )),
        404 => Err(Unidentified::NotConfigured(
            "the secret service has no such secret: check its path",
        )),
        status => Err(Unidentified::unexpected_status("a secret request", status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_where_they_are_and_plain_http_on_loopback() {
        let vault = |origin: &str, path: &str| {
            SecretSource::vault(origin, None, (path, "f"), Secret::new("t")).is_ok()
        };
        assert!(vault("http://127.0.0.1:8200", "secret/data/db"));
        assert!(!vault("http://127.0.0.1:8200", "secret/../sys"));
        assert!(!vault("http://127.0.0.1:8200", "secret/data/db?x"));
        assert!(!vault("http://127.0.0.1:8200", ""));
        assert!(!vault("http://10.0.0.1:8200", "secret/data/db"));
        assert!(!vault("https://10.0.0.1:8200", "secret/data/db"), "no CA");
    }
}
