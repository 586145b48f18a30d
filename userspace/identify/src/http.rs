//! One small HTTP client for the authority: no redirects, a size limit, a time limit.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use crate::authority::Authority;
use crate::refusal::Unidentified;

/// A discovery document or key set is far below this.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// 11,000 ids, the most that Graph gives at once.
const LISTS_BYTES_MAX: usize = 1024 * 1024;
const TIME_MAX: Duration = Duration::from_secs(5);

/// An answer, whatever its status; 3xx is not followed.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    /// `Retry-After` in seconds, when it was a number.
    pub(crate) retry_after_s: Option<u32>,
    /// `Date`, as Unix seconds.
    pub(crate) date_s: Option<i64>,
}

pub(crate) struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Named when it does not answer.
    what: &'static str,
    body_bytes_max: usize,
}

impl HttpClient {
    /// For answers that hold lists.
    pub(crate) const fn with_lists(mut self) -> Self {
        self.body_bytes_max = LISTS_BYTES_MAX;
        self
    }

    /// Trusts the machine's root certificates; `Err` when there are none and TLS is needed.
    pub(crate) fn new(authority: &Authority) -> Result<Self, String> {
        let mut roots = rustls::RootCertStore::empty();
        if !authority.plain {
            let loaded = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(loaded.certs);
            if roots.is_empty() {
                return Err(
                    "no root certificates on this machine: install ca-certificates".to_owned(),
                );
            }
        }
        Self::with_roots(roots, authority.plain, "the authority")
    }

    /// For a service beside the authority. `ca` is PEM; without one, only plain http is spoken.
    pub(crate) fn beside(ca: Option<&str>, what: &'static str) -> Result<Self, String> {
        let mut roots = rustls::RootCertStore::empty();
        if let Some(pem) = ca {
            for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                let certificate = certificate.map_err(|_| "the CA file is not PEM".to_owned())?;
                roots
                    .add(certificate)
                    .map_err(|_| "the CA file has no certificate that can sign".to_owned())?;
            }
            if roots.is_empty() {
                return Err("the CA file is empty".to_owned());
            }
        }
        Self::with_roots(roots, ca.is_none(), what)
    }

    fn with_roots(
        roots: rustls::RootCertStore,
        plain: bool,
        what: &'static str,
    ) -> Result<Self, String> {
        let tls = tls_config(roots)?;
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
        let schemes = if plain {
            builder.https_or_http()
        } else {
            builder.https_only()
        };
        let connector = schemes.enable_http1().build();
        // No idle pool: calls are rare, and a pooled connection would be tied to the runtime
        // that opened it.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Self {
            client,
            what,
            body_bytes_max: BODY_BYTES_MAX,
        })
    }

    /// As [`Self::get`], with one header more.
    pub(crate) async fn get_with(
        &self,
        url: &str,
        (name, value): (&'static str, &str),
    ) -> Result<Answer, Unidentified> {
        let request = Request::get(url)
            .header(header::ACCEPT, "application/json")
            .header(name, value)
            .body(Full::default())
            .map_err(|_| Unidentified::Malformed { what: "URL" })?;
        self.send(request).await
    }

    /// As [`Self::get`], authorised by `bearer`.
    pub(crate) async fn get_bearer(&self, url: &str, bearer: &str) -> Result<Answer, Unidentified> {
        let request = Request::get(url)
            .header(header::ACCEPT, "application/json")
            .header(header::AUTHORIZATION, bearer_value(bearer)?)
            .body(Full::default())
            .map_err(|_| Unidentified::Malformed { what: "URL" })?;
        self.send(request).await
    }

    /// JSON, authorised by `bearer`.
    pub(crate) async fn post_json(
        &self,
        url: &str,
        bearer: &str,
        body: &serde_json::Value,
    ) -> Result<Answer, Unidentified> {
        let request = Request::post(url)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, bearer_value(bearer)?)
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|_| Unidentified::Malformed { what: "URL" })?;
        self.send(request).await
    }

    pub(crate) async fn get(&self, url: &str) -> Result<Answer, Unidentified> {
        let request = Request::get(url)
            .header(header::ACCEPT, "application/json")
            .body(Full::default())
            .map_err(|_| Unidentified::Malformed { what: "URL" })?;
        self.send(request).await
    }

    /// `application/x-www-form-urlencoded`, with a fresh `client-request-id`.
    pub(crate) async fn post_form(
        &self,
        url: &str,
        fields: &[(&str, &str)],
    ) -> Result<Answer, Unidentified> {
        let form = encode(fields);
        let request = Request::post(url)
            .header(header::ACCEPT, "application/json")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("client-request-id", uuid::Uuid::new_v4().to_string())
            .body(Full::new(Bytes::copy_from_slice(form.as_bytes())))
            .map_err(|_| Unidentified::Malformed { what: "URL" })?;
        self.send(request).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, Unidentified> {
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| {
                tracing::debug!(%error, what = self.what, "cannot be reached");
                Unidentified::Away { what: self.what }
            })?;
            let status = response.status().as_u16();
            let retry_after_s = response
                .headers()
                .get(header::RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok());
            let date_s = date_s(response.headers());
            let body = Limited::new(response.into_body(), self.body_bytes_max);
            let body = body.collect().await.map_err(|error| {
                tracing::debug!(%error, "an answer of the authority was cut off or too large");
                Unidentified::Malformed {
                    what: "answer (cut off or too large)",
                }
            })?;
            Ok(Answer {
                status,
                body: body.to_bytes(),
                retry_after_s,
                date_s,
            })
        };
        tokio::time::timeout(TIME_MAX, exchange)
            .await
            .unwrap_or(Err(Unidentified::Away {
                what: "the authority (no answer within 5 s)",
            }))
    }
}

fn date_s(headers: &header::HeaderMap) -> Option<i64> {
    let text = headers.get(header::DATE)?.to_str().ok()?;
    let at = httpdate::parse_http_date(text).ok()?;
    let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

fn bearer_value(bearer: &str) -> Result<header::HeaderValue, Unidentified> {
    let text = Zeroizing::new(format!("Bearer {bearer}"));
    let mut value = header::HeaderValue::from_str(&text)
        .map_err(|_| Unidentified::Malformed { what: "credential" })?;
    value.set_sensitive(true);
    Ok(value)
}

/// The form carries secrets; what hyper copies of it is out of reach.
fn encode(fields: &[(&str, &str)]) -> Zeroizing<String> {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields);
    Zeroizing::new(form.finish())
}

fn tls_config(roots: rustls::RootCertStore) -> Result<rustls::ClientConfig, String> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
