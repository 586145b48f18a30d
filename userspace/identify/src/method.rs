//! How a workload proves to Entra who it is.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;
use weir_model::ident::EvidenceKind;
use weir_model::time::Now;

use crate::secret::Secret;
use crate::token_request::TokenRequest;

/// Entra takes at most ten minutes.
const ASSERTION_LIFE_S: i64 = 300;
/// A key file is far below this.
const PEM_BYTES_MAX: usize = 64 * 1024;

/// One of the ways to sign in.
#[derive(Clone, Debug)]
pub enum Method {
    /// Its service-account token is the assertion.
    Federated(AssertionSource),
    /// An assertion that Weir signs.
    Certificate(Arc<ClientCertificate>),
    /// A shared secret: whoever reads it is the workload.
    Secret(Secret),
    /// The machine's metadata service gives the token.
    Managed,
    /// Entra Agent ID: `client_id` is the agent identity, reached through its blueprint, which the
    /// service-account token is the assertion of.
    AgentId {
        /// Client-id GUID of the blueprint. Never authorised on.
        blueprint: String,
        source: AssertionSource,
    },
    /// A person of this node signs in; nothing can be minted without one.
    Person,
}

/// Where the service-account token comes from.
#[derive(Clone, Debug)]
pub enum AssertionSource {
    /// What the broker hands over is the token.
    Handed,
    /// What the broker hands over is a credential that may ask the API server for one.
    Requested(Arc<TokenRequest>),
}

impl Method {
    /// Whether the broker has to be asked for something.
    #[must_use]
    pub const fn wants_assertion(&self) -> bool {
        match self {
            Self::Federated(_) | Self::AgentId { .. } => true,
            Self::Certificate(_) | Self::Secret(_) | Self::Managed | Self::Person => false,
        }
    }

    pub(crate) const fn evidence(&self) -> EvidenceKind {
        match self {
            Self::Federated(_) => EvidenceKind::Federated,
            Self::Certificate(_) => EvidenceKind::Certificate,
            Self::Secret(_) => EvidenceKind::ClientSecret,
            Self::Managed => EvidenceKind::Managed,
            Self::AgentId { .. } => EvidenceKind::AgentId,
            Self::Person => EvidenceKind::Person,
        }
    }
}

/// A service principal's certificate with its RSA key.
pub struct ClientCertificate {
    key: EncodingKey,
    /// `x5t#S256` (RFC 7515, section 4.1.8).
    thumbprint: String,
    algorithm: Algorithm,
}

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientCertificate({})", self.thumbprint)
    }
}

/// Why a certificate file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateProblem {
    #[error("is larger than 64 KiB")]
    TooLarge,
    #[error("holds no certificate in PEM")]
    NoCertificate,
    #[error("holds no private key in PEM")]
    NoKey,
    #[error("holds a key that is not RSA: Entra takes RSA only")]
    NotRsa,
}

#[derive(Serialize)]
struct AssertionClaims<'a> {
    aud: &'a str,
    iss: &'a str,
    sub: &'a str,
    jti: String,
    nbf: i64,
    iat: i64,
    exp: i64,
}

impl ClientCertificate {
    /// Reads a certificate and its key from one PEM text. The certificate is the first one.
    ///
    /// # Errors
    /// What is missing or of the wrong kind.
    pub fn parse(pem: &str, rs256: bool) -> Result<Self, CertificateProblem> {
        if pem.len() > PEM_BYTES_MAX {
            return Err(CertificateProblem::TooLarge);
        }
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| CertificateProblem::NoCertificate)?;
        let key =
            PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| CertificateProblem::NoKey)?;
        let text = private_pem(&key);
        let key = EncodingKey::from_rsa_pem(text.expose().as_bytes())
            .map_err(|_| CertificateProblem::NotRsa)?;
        Ok(Self {
            key,
            thumbprint: URL_SAFE_NO_PAD.encode(digest(&SHA256, &certificate)),
            algorithm: if rs256 {
                Algorithm::RS256
            } else {
                Algorithm::PS256
            },
        })
    }

    /// A fresh assertion for one request at `endpoint`.
    ///
    /// Source: the vendor's page on certificate credentials; RFC 7523, section 3.
    pub(crate) fn assertion(&self, client_id: &str, endpoint: &str, now: Now) -> Option<Secret> {
        let now_s = now.unix_s();
        let claims = AssertionClaims {
            aud: endpoint,
            iss: client_id,
            sub: client_id,
            jti: uuid::Uuid::new_v4().to_string(),
            nbf: now_s,
            iat: now_s,
            exp: now_s.saturating_add(ASSERTION_LIFE_S),
        };
        let header = Header {
            x5t_s256: Some(self.thumbprint.clone()),
            ..Header::new(self.algorithm)
        };
        jsonwebtoken::encode(&header, &claims, &self.key)
            .ok()
            .map(Secret::new)
    }
}

/// The key alone: the reader of keys takes a text with nothing else in it.
fn private_pem(key: &PrivateKeyDer<'_>) -> Secret {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        PrivateKeyDer::Pkcs8(_) | _ => "PRIVATE KEY",
    };
    let body =
        zeroize::Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(key.secret_der()));
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    Secret::new(text)
}
