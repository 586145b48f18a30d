//! One small HTTP client for the authority: no redirects, a size limit, a time limit.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use zeroize::Zeroizing;

use crate::authority::Authority;
use crate::refusal::Unidentified;

/// A discovery document or key set is far below this.
const BODY_BYTES_MAX: usize = 64 * 1024;
const TIME_MAX: Duration = Duration::from_secs(5);

/// An answer, whatever its status; 3xx is not followed.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    /// `Retry-After` in seconds, when it was a number.
    pub(crate) retry_after_s: Option<u32>,
}

pub(crate) struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl HttpClient {
    /// Trusts the machine's root certificates; `Err` when there are none and TLS is needed.
    pub(crate) fn new(authority: &Authority) -> Result<Self, String> {
        let tls = tls_config(authority)?;
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
        let schemes = if authority.plain {
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
        Ok(Self { client })
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
                tracing::debug!(%error, "the authority cannot be reached");
                Unidentified::Away {
                    what: "the authority",
                }
            })?;
            let status = response.status().as_u16();
            let retry_after_s = response
                .headers()
                .get(header::RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.parse().ok());
            let body = Limited::new(response.into_body(), BODY_BYTES_MAX);
            let body = body.collect().await.map_err(|error| {
                tracing::debug!(%error, "an answer of the authority was cut off or too large");
                Unidentified::Malformed {
                    what: "answer (cut off, or above 64 KiB)",
                }
            })?;
            Ok(Answer {
                status,
                body: body.to_bytes(),
                retry_after_s,
            })
        };
        tokio::time::timeout(TIME_MAX, exchange)
            .await
            .unwrap_or(Err(Unidentified::Away {
                what: "the authority (no answer within 5 s)",
            }))
    }
}

/// The form carries secrets; what hyper copies of it is out of reach.
fn encode(fields: &[(&str, &str)]) -> Zeroizing<String> {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields);
    Zeroizing::new(form.finish())
}

fn tls_config(authority: &Authority) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    if !authority.plain {
        let loaded = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(loaded.certs);
        if roots.is_empty() {
            return Err("no root certificates on this machine: install ca-certificates".to_owned());
        }
    }
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
