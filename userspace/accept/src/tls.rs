//! TLS towards the agent: a server configuration per target.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use weir_model::fault::{Fault, FaultKind};

use crate::authority::Pair;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("the certificate chain cannot be read")]
    Chain,
    #[error("the private key cannot be read")]
    Key,
    #[error("TLS configuration: {0}")]
    Config(#[from] rustls::Error),
}

impl Fault for TlsError {
    fn kind(&self) -> FaultKind {
        FaultKind::Internal
    }
}

/// An acceptor for one target. `alpn` lists the protocols offered, most wanted first; empty for
/// protocols that ask for TLS inside their own stream.
///
/// # Errors
/// [`TlsError`] when chain and key do not fit.
pub fn acceptor(leaf: &Pair, alpn: &[&[u8]]) -> Result<TlsAcceptor, TlsError> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(leaf.certificate_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| TlsError::Chain)?;
    let key = PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).map_err(|_| TlsError::Key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A connector that trusts only the given CA certificates: a target's pinned CA. `alpn` as in
/// [`acceptor`].
///
/// # Errors
/// [`TlsError::Chain`] when there is no usable certificate in `ca_pem`.
pub fn connector(ca_pem: &str, alpn: &[&[u8]]) -> Result<tokio_rustls::TlsConnector, TlsError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca_pem.as_bytes()) {
        roots.add(certificate.map_err(|_| TlsError::Chain)?)?;
    }
    if roots.is_empty() {
        return Err(TlsError::Chain);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(tokio_rustls::TlsConnector::from(Arc::new(config)))
}

/// Channel binding `tls-server-end-point` (RFC 5929, section 4.1): the certificate's digest, by the
/// digest of its signature, with SHA-256 in place of MD5 and SHA-1. `None` where the signature has
/// none of its own (Ed25519) or is not known.
#[must_use]
pub fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    use sha2::{Digest, Sha256, Sha384, Sha512};
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    match parsed.signature_algorithm.algorithm.to_id_string().as_str() {
        // RSA with MD5, SHA-1 and SHA-256; ECDSA with SHA-1 and SHA-256.
        "1.2.840.113549.1.1.4"
        | "1.2.840.113549.1.1.5"
        | "1.2.840.113549.1.1.11"
        | "1.2.840.10045.4.1"
        | "1.2.840.10045.4.3.2" => Some(Sha256::digest(certificate).to_vec()),
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => {
            Some(Sha384::digest(certificate).to_vec())
        }
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => {
            Some(Sha512::digest(certificate).to_vec())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use rustls::pki_types::ServerName;

    use super::*;
    use crate::authority::{AuthorityError, Names, new_intermediate, new_leaf, new_root};

    const NOW_S: i64 = 1_800_000_000;

    fn now_s() -> i64 {
        weir_clock::now().unix_s()
    }

    fn names() -> Names {
        Names {
            dns: vec!["db.demo.internal".to_owned()],
            nets: vec![("10.77.0.10".parse().unwrap(), 32)],
        }
    }

    /// Client trusts the root only; returns what the handshake said.
    async fn handshake(leaf: &Pair, root: &Pair, name: &'static str) -> std::io::Result<()> {
        let acceptor = acceptor(leaf, &[]).unwrap();
        let connector = connector(&root.certificate_pem, &[]).unwrap();
        let (near, far) = tokio::io::duplex(64 * 1024);
        let server = acceptor.accept(far);
        let client = connector.connect(ServerName::try_from(name).unwrap(), near);
        let (client, _server) = tokio::join!(client, server);
        client.map(|_| ())
    }

    #[tokio::test]
    async fn a_leaf_within_the_constraints_is_trusted_by_name_and_by_address() {
        let root = new_root("test", now_s()).unwrap();
        let node = new_intermediate(&root, "n1", &names(), now_s()).unwrap();
        let addr: IpAddr = "10.77.0.10".parse().unwrap();
        let leaf = new_leaf(&node, &["db.demo.internal".to_owned()], &[addr], now_s()).unwrap();
        handshake(&leaf, &root, "db.demo.internal").await.unwrap();
        handshake(&leaf, &root, "10.77.0.10").await.unwrap();
        handshake(&leaf, &root, "other.internal").await.unwrap_err();
    }

    #[tokio::test]
    async fn a_leaf_outside_the_constraints_is_refused_by_clients() {
        let root = new_root("test", now_s()).unwrap();
        let node = new_intermediate(&root, "n1", &names(), now_s()).unwrap();
        let leaf = new_leaf(&node, &["bank.example".to_owned()], &[], now_s()).unwrap();
        handshake(&leaf, &root, "bank.example").await.unwrap_err();
        let addr: IpAddr = "192.0.2.9".parse().unwrap();
        let leaf = new_leaf(&node, &[], &[addr], now_s()).unwrap();
        handshake(&leaf, &root, "192.0.2.9").await.unwrap_err();
    }

    #[test]
    fn an_unconstrained_intermediate_is_refused() {
        let root = new_root("test", NOW_S).unwrap();
        let refused = new_intermediate(&root, "n1", &Names::default(), NOW_S).unwrap_err();
        assert!(matches!(refused, AuthorityError::Unconstrained));
    }

    #[test]
    fn a_login_is_bound_to_the_certificate_and_to_no_garbage() {
        let root = new_root("test", NOW_S).unwrap();
        let certificate = CertificateDer::pem_slice_iter(root.certificate_pem.as_bytes())
            .next()
            .unwrap()
            .unwrap();
        let bound = server_end_point(&certificate).unwrap();
        assert!(matches!(bound.len(), 32 | 48 | 64));
        assert_eq!(server_end_point(&certificate), Some(bound));
        assert_eq!(server_end_point(b"no certificate"), None);
    }

    #[test]
    fn garbage_is_an_error_and_not_a_panic() {
        let bad = Pair {
            certificate_pem: "x".to_owned(),
            key_pem: "y".to_owned(),
        };
        assert!(acceptor(&bad, &[]).is_err());
        assert!(connector("nothing here", &[]).is_err());
    }
}
