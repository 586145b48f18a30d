//! One HTTP service: no redirects, limits on size and time.

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
use tokio::time::timeout;
use url::Url;

use crate::config::Address;
use crate::deliver::DeliveryError;

const BODY_BYTES_MAX: usize = 64 * 1024;
const TIME_MAX: Duration = Duration::from_secs(15);

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after_s: Option<u64>,
    pub(crate) body: Bytes,
}

pub(crate) struct HttpClient {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: String,
}

impl HttpClient {
    pub(crate) fn new(address: &Address) -> Result<Self, String> {
        let url = Url::parse(&address.url).map_err(|_| "that is no URL".to_owned())?;
        let local = url.host().is_some_and(|host| match host {
            url::Host::Ipv4(addr) => addr.is_loopback(),
            url::Host::Ipv6(addr) => addr.is_loopback(),
            url::Host::Domain(_) => false,
        });
        let plain = url.scheme() == "http" && local;
        if url.scheme() != "https" && !plain {
            return Err("must be https, or http to a loopback address".to_owned());
        }
        let mut roots = rustls::RootCertStore::empty();
        match &address.ca {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    let certificate = certificate.map_err(|_| "the CA is not PEM".to_owned())?;
                    roots
                        .add(certificate)
                        .map_err(|_| "the CA cannot sign".to_owned())?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() && !plain {
            return Err("no root certificates: install ca-certificates".to_owned());
        }
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let tls = rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
        let connector = if plain {
            builder.https_or_http().enable_http1().build()
        } else {
            builder.https_only().enable_http1().build()
        };
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            url: address.url.trim_end_matches('/').to_owned(),
        })
    }

    /// Posts to the address, or to `method` below it.
    pub(crate) async fn post(
        &self,
        method: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Answer, DeliveryError> {
        let again = |text: String| DeliveryError::Again(text, None);
        let url = match method {
            "" => self.url.clone(),
            method => format!("{}/{method}", self.url),
        };
        let mut request = Request::post(url).header(header::USER_AGENT, "weir");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| DeliveryError::Never(error.to_string()))?;
        let exchange = async {
            let answer = self.client.request(request).await;
            let answer = answer.map_err(|error| again(format!("it does not answer: {error}")))?;
            let status = answer.status().as_u16();
            let retry_after = answer.headers().get(header::RETRY_AFTER);
            let retry_after_s = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
            let body = Limited::new(answer.into_body(), BODY_BYTES_MAX)
                .collect()
                .await;
            let body =
                body.map_err(|_| again("its answer is too large or broke off".to_owned()))?;
            Ok(Answer {
                status,
                retry_after_s,
                body: body.to_bytes(),
            })
        };
        match timeout(TIME_MAX, exchange).await {
            Ok(answer) => answer,
            Err(_late) => Err(again("no answer in 15 s".to_owned())),
        }
    }
}
