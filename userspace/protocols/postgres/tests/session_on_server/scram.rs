//! SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677) at a real server over TLS.

use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use sha2::{Digest, Sha256};

use super::*;

const PASSWORD: &str = "correct horse";
const HBA: &str = "hostssl all all 127.0.0.1/32 scram-sha-256\nhostnossl all all 127.0.0.1/32 trust\n\
    local all all trust\n";

/// How the server is known, and the certificate that the login is bound to.
pub(super) struct Proof {
    config: Arc<ClientConfig>,
    /// RFC 5929, section 4: the digest of the certificate.
    end_point: Vec<u8>,
    password: &'static str,
}

impl Proof {
    pub(super) fn connect(&self, mut stream: TcpStream) -> (Box<dyn Upstream>, Credential) {
        stream.write_all(&weir_postgres::SSL_REQUEST).expect("sent");
        let mut answer = [0];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer, *b"S");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client =
            ClientConnection::new(Arc::clone(&self.config), name).expect("a connection");
        while client.is_handshaking() {
            client.complete_io(&mut stream).expect("a handshake");
        }
        let credential = Credential {
            password: zeroize::Zeroizing::new(self.password.to_owned()),
            server_proven: false,
            channel_binding: Some(self.end_point.clone()),
            ..trusted()
        };
        (
            Box::new(StreamOwned::new(client, impatient(stream))),
            credential,
        )
    }
}

fn secured(name: &str) -> (Server, Proof) {
    let certified =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let (certificate, key) = (certified.cert, certified.signing_key);
    let files = [
        ("server.crt", certificate.pem()),
        ("server.key", key.serialize_pem()),
        ("pg_hba.conf", HBA.to_owned()),
    ];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let server = Server::start_as(name, &files, &["-c", "ssl=on"]);
    Server::runtime().block_on(async {
        let client = server.client().await;
        let set = format!("alter role postgres password '{PASSWORD}'");
        client.batch_execute(&set).await.expect("a password");
    });
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let proof = Proof {
        config: Arc::new(config),
        end_point: Sha256::digest(certificate.der()).to_vec(),
        password: PASSWORD,
    };
    (server, proof)
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_login_is_bound_to_the_certificate_of_the_server() {
    let (server, proof) = secured("plus");
    let mut talk = Talk::new(&server, None, Login::Scram(proof));
    talk.exchange(&hello(), 1);
    assert!(holds(&talk.sent, b"SCRAM-SHA-256-PLUS\0"));
    assert!(holds(&talk.sent, b"p=tls-server-end-point,,"));
    assert_eq!(rows(&talk.query("select name from customers")), 2);
}

#[test]
fn somebody_elses_certificate_or_password_ends_the_login() {
    let (server, mut proof) = secured("plus-other");
    // As when TLS ends at somebody in between: the server refuses what is bound to another certificate.
    proof.end_point = Sha256::digest(b"another certificate").to_vec();
    let mut talk = Talk::new(&server, None, Login::Scram(proof));
    let seen = talk.until(&hello(), |_lines| false);
    assert!(holds(&talk.sent, b"SCRAM-SHA-256-PLUS\0"));
    assert!(talk.closed && rows(&seen) == 0, "{seen:?}");
    let (server, mut proof) = secured("plus-password");
    proof.password = "wrong";
    let mut talk = Talk::new(&server, None, Login::Scram(proof));
    let seen = talk.until(&hello(), |_lines| false);
    assert!(talk.closed, "{seen:?}");
}
