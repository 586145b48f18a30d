//! Keys: the node's authority and host keys towards agents, the server's keys and Weir's login
//! towards the server.
//!
//! Formats are OpenSSH's own (PROTOCOL.key, PROTOCOL.certkeys, sshd(8) "known_hosts").

use std::sync::Arc;

use russh::keys::key::safe_rng;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::certificate::{Builder, CertType};
use russh::keys::{Algorithm, Certificate, PrivateKey, PublicKey};
use zeroize::Zeroizing;

/// A host certificate is made anew at each start of the node.
const CERTIFICATE_S: u64 = 365 * 86_400;
/// Clocks of clients differ.
const SKEW_S: u64 = 3600;

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{what}: {detail}")]
    Unreadable { what: &'static str, detail: String },
    #[error("{0} keys are not supported: use ed25519 or ecdsa")]
    Unsupported(String),
    #[error("the list of server keys has none")]
    NoServerKey,
    #[error("the credential's certificate is of another key")]
    OtherCertificate,
}

fn unreadable(what: &'static str, error: impl std::fmt::Display) -> KeyError {
    KeyError::Unreadable {
        what,
        detail: error.to_string(),
    }
}

fn strong(key: PrivateKey) -> Result<PrivateKey, KeyError> {
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } => Ok(key),
        other => Err(KeyError::Unsupported(other.to_string())),
    }
}

/// A new ed25519 key in OpenSSH's format: the authority of a node, or a host key.
///
/// # Errors
/// [`KeyError`] when the system has no randomness.
pub fn new_authority() -> Result<Zeroizing<String>, KeyError> {
    let mut random = safe_rng();
    let key = PrivateKey::random(&mut random, Algorithm::Ed25519)
        .map_err(|error| unreadable("a new key", error))?;
    key.to_openssh(LineEnding::LF)
        .map_err(|error| unreadable("a new key", error))
}

/// What an agent's client proves this host by.
#[derive(Clone)]
pub struct HostIdentity {
    pub(crate) key: PrivateKey,
    pub(crate) certificate: Certificate,
}

impl HostIdentity {
    /// `authority` and `key` in OpenSSH's format; `names` are what agents call the host: names,
    /// addresses, `[host]:port`.
    ///
    /// # Errors
    /// [`KeyError`] when a key cannot be read or used.
    pub fn new(authority: &str, key: &str, names: &[String], now_s: u64) -> Result<Self, KeyError> {
        let authority = PrivateKey::from_openssh(authority)
            .map_err(|error| unreadable("the node's SSH authority", error))
            .and_then(strong)?;
        let key = PrivateKey::from_openssh(key)
            .map_err(|error| unreadable("the host key", error))
            .and_then(strong)?;
        let made = || -> Result<Certificate, russh::keys::ssh_key::Error> {
            let mut random = safe_rng();
            let mut builder = Builder::new_with_random_nonce(
                &mut random,
                key.public_key(),
                now_s.saturating_sub(SKEW_S),
                now_s + CERTIFICATE_S,
            )?;
            builder.cert_type(CertType::Host)?;
            builder.key_id("weir")?;
            for name in names {
                builder.valid_principal(name.clone())?;
            }
            builder.sign(&authority)
        };
        let certificate = made().map_err(|error| unreadable("a host certificate", error))?;
        Ok(Self { key, certificate })
    }

    /// The public half of a private key, as in `known_hosts`.
    ///
    /// # Errors
    /// [`KeyError`] when it cannot be read.
    pub fn public(private: &str) -> Result<String, KeyError> {
        let key = PrivateKey::from_openssh(private).map_err(|error| unreadable("a key", error))?;
        key.public_key()
            .to_openssh()
            .map_err(|error| unreadable("a key", error))
    }
}

/// The keys by which the server is known.
#[derive(Clone, Debug)]
pub struct ServerKeys(Vec<PublicKey>);

impl ServerKeys {
    /// Lines of `known_hosts` or of `*.pub` files: whatever stands before the algorithm is
    /// ignored, since the file is of one server. Lines with `@` markers are refused.
    ///
    /// # Errors
    /// [`KeyError`] when a line cannot be read, or there is none.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for line in text.lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if line.starts_with('@') {
                return Err(unreadable(
                    "a server key",
                    "@cert-authority and @revoked are not supported here",
                ));
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let at = words.iter().position(|word| word.starts_with("AAAA"));
            let Some([algorithm, key]) = at.and_then(|at| words.get(at.checked_sub(1)?..=at))
            else {
                return Err(unreadable("a server key", "no key stands in the line"));
            };
            // A client that cannot use RSA does not need its key.
            if *algorithm == "ssh-rsa" {
                continue;
            }
            let key = PublicKey::from_openssh(&format!("{algorithm} {key}"))
                .map_err(|error| unreadable("a server key", error))?;
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(KeyError::NoServerKey);
        }
        Ok(Self(keys))
    }

    pub(crate) fn holds(&self, key: &PublicKey) -> bool {
        self.0
            .iter()
            .any(|known| known.key_data() == key.key_data())
    }

    pub(crate) fn algorithms(&self) -> Vec<Algorithm> {
        let mut algorithms: Vec<Algorithm> = self.0.iter().map(PublicKey::algorithm).collect();
        algorithms.dedup();
        algorithms
    }
}

/// How Weir signs in to the server.
#[derive(Clone)]
pub enum Login {
    Password(Zeroizing<String>),
    Key {
        key: Arc<PrivateKey>,
        certificate: Option<Box<Certificate>>,
    },
}

impl Login {
    /// A private key in OpenSSH's format, without a passphrase, and its certificate if it has one.
    ///
    /// # Errors
    /// [`KeyError`] when one cannot be read or used.
    pub fn key(private: &str, certificate: Option<&str>) -> Result<Self, KeyError> {
        // A source may have dropped the last newline, which the format needs.
        let private = Zeroizing::new(format!("{}\n", private.trim_end()));
        let key = PrivateKey::from_openssh(private.as_str())
            .map_err(|error| unreadable("the credential's key", error))
            .and_then(strong)?;
        let certificate = certificate
            .map(|text| Certificate::from_openssh(text.trim_end()).map(Box::new))
            .transpose()
            .map_err(|error| unreadable("the credential's certificate", error))?;
        let is_of = |one: &Certificate| one.public_key() == key.public_key().key_data();
        if !certificate.as_deref().is_none_or(is_of) {
            return Err(KeyError::OtherCertificate);
        }
        Ok(Self::Key {
            key: Arc::new(key),
            certificate,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_keys_are_read_from_the_usual_files() {
        let private = new_authority().unwrap();
        let public = HostIdentity::public(&private).unwrap();
        for line in [
            public.clone(),
            format!("db-host,10.0.0.1 {public} comment"),
            format!("[db-host]:2222 {public}"),
            format!("# a comment\n\n|1|abc=|def= {public}\n"),
        ] {
            assert!(ServerKeys::parse(&line).is_ok(), "{line}");
        }
        for line in [
            "",
            "# nothing",
            "db-host",
            "ssh-ed25519 AAAAnonsense",
            "AAAA",
        ] {
            assert!(ServerKeys::parse(line).is_err(), "{line}");
        }
        let marked = format!("@cert-authority * {public}");
        assert!(ServerKeys::parse(&marked).is_err());
    }

    #[test]
    fn only_the_given_keys_are_the_servers() {
        let (one, other) = (new_authority().unwrap(), new_authority().unwrap());
        let public = HostIdentity::public(&one).unwrap();
        let keys = ServerKeys::parse(&public).unwrap();
        let of = |text: &str| PrivateKey::from_openssh(text).unwrap().public_key().clone();
        assert!(keys.holds(&of(&one)));
        assert!(!keys.holds(&of(&other)));
    }

    #[test]
    fn a_host_certificate_names_the_host() {
        let (authority, key) = (new_authority().unwrap(), new_authority().unwrap());
        let names = ["db-host".to_owned(), "10.0.0.1".to_owned()];
        let host = HostIdentity::new(&authority, &key, &names, 1_700_000_000).unwrap();
        assert_eq!(host.certificate.valid_principals(), names);
        assert!(HostIdentity::new("no key", &key, &names, 0).is_err());
    }
}
