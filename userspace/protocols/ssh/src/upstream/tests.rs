//! A server of our own (russh) on the other end of a pipe.

use std::sync::Mutex;

use russh::keys::PrivateKey;
use russh::server::{self, Auth};
use tokio::io::DuplexStream;
use zeroize::Zeroizing;

use super::*;
use crate::keys::{HostIdentity, new_authority};

/// Notes every credential that it is offered.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl server::Handler for Notes {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        let note = format!("{user}:{password}");
        self.0.lock().unwrap().push(note);
        Ok(if password == "right" {
            Auth::Accept
        } else {
            Auth::reject()
        })
    }
}

fn serve(key: &str, notes: &Notes) -> DuplexStream {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let config = server::Config {
        keys: vec![PrivateKey::from_openssh(key).unwrap()],
        auth_rejection_time: Duration::ZERO,
        ..server::Config::default()
    };
    let notes = notes.clone();
    tokio::spawn(async move {
        let running = server::run_stream(Arc::new(config), theirs, notes).await;
        if let Ok(running) = running {
            drop(running.await);
        }
    });
    ours
}

fn backend(known: &str, password: &str) -> Backend {
    Backend {
        keys: ServerKeys::parse(&HostIdentity::public(known).unwrap()).unwrap(),
        login: Login::Password(Zeroizing::new(password.to_owned())),
        user: "deploy".to_owned(),
    }
}

#[tokio::test]
async fn a_server_with_another_key_gets_no_credential() {
    let (known, other) = (new_authority().unwrap(), new_authority().unwrap());
    let notes = Notes::default();
    let io = serve(&other, &notes);
    let opened = Upstream::open(async { Ok(io) }, &backend(&known, "right"), "root").await;
    let error = opened.err().unwrap();
    assert!(error.contains("not the configured one"), "{error}");
    assert!(notes.0.lock().unwrap().is_empty(), "a credential was sent");
}

#[tokio::test]
async fn the_known_server_is_signed_in_to_as_the_configured_account() {
    let key = new_authority().unwrap();
    let notes = Notes::default();
    let io = serve(&key, &notes);
    let opened = Upstream::open(async { Ok(io) }, &backend(&key, "right"), "root").await;
    assert!(opened.is_ok());
    assert_eq!(*notes.0.lock().unwrap(), ["deploy:right"]);
}

#[tokio::test]
async fn a_refused_credential_is_said_without_it() {
    let key = new_authority().unwrap();
    let notes = Notes::default();
    let io = serve(&key, &notes);
    let opened = Upstream::open(async { Ok(io) }, &backend(&key, "wrong-secret"), "root").await;
    let error = opened.err().unwrap();
    assert!(
        error.contains("does not take the credential for deploy"),
        "{error}"
    );
    assert!(!error.contains("wrong-secret"), "{error}");
}

#[tokio::test]
async fn bytes_that_are_no_ssh_are_an_error() {
    let (ours, mut theirs) = tokio::io::duplex(1024);
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt as _;
        drop(theirs.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await);
    });
    let key = new_authority().unwrap();
    let opened = Upstream::open(async { Ok(ours) }, &backend(&key, "right"), "root").await;
    assert!(opened.is_err());
}
