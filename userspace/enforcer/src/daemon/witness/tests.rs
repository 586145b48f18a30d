//! A witness that is a service over TLS, made by the test: what it is sent, and what is not believed to be kept.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use weir_model::fact::{Fact, FactContext, FactKind};
use weir_record::anchor::{AnchorConfig, AnchorMetrics, Anchoring};
use weir_record::audit::{Anchors, verify_files_against};
use weir_record::{Durability, SpoolConfig, SpoolDir};

use super::*;

/// One call, as the service got it.
struct Call {
    head: String,
    body: Vec<u8>,
}

/// A service that answers each call with the next of its statuses, then with 200.
struct Service {
    folder: PathBuf,
    port: u16,
    calls: mpsc::Receiver<Call>,
}

impl Drop for Service {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

impl Service {
    fn start(name: &str, statuses: &'static [&'static str]) -> Self {
        Self::named(name, "127.0.0.1", statuses)
    }

    /// With a certificate for `host`.
    fn named(name: &str, host: &str, statuses: &'static [&'static str]) -> Self {
        let folder =
            std::env::temp_dir().join(format!("weir-witness-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        std::fs::write(folder.join("ca.pem"), made.cert.pem()).unwrap();
        secret(&folder.join("token"), "a-witness-token\n", 0o600);
        let certificate = CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes());
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let config = rustls::ServerConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.unwrap())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, calls) = mpsc::channel();
        std::thread::spawn(move || serve(&listener, &Arc::new(config), statuses, &sender));
        Self {
            folder,
            port,
            calls,
        }
    }

    fn configured(&self) -> config::Witness {
        config::Witness::Service {
            url: format!("https://127.0.0.1:{}/anchors", self.port),
            ca_file: Some(self.folder.join("ca.pem")),
            token_file: Some(self.folder.join("token")),
        }
    }

    fn call(&self) -> Call {
        self.calls.recv_timeout(Duration::from_secs(20)).unwrap()
    }
}

fn secret(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Each connection on a thread of its own, until the test is over.
fn serve(
    listener: &TcpListener,
    config: &Arc<rustls::ServerConfig>,
    statuses: &'static [&'static str],
    sender: &mpsc::Sender<Call>,
) {
    let mut statuses = statuses.iter();
    for stream in listener.incoming() {
        let status = statuses.next().copied().unwrap_or("200 OK");
        let (config, sender) = (Arc::clone(config), sender.clone());
        let stream = stream.unwrap();
        std::thread::spawn(move || answer(stream, config, status, &sender));
    }
}

/// A client that does not trust the certificate leaves within the handshake.
fn answer(
    stream: TcpStream,
    config: Arc<rustls::ServerConfig>,
    status: &str,
    sender: &mpsc::Sender<Call>,
) -> Option<()> {
    let connection = rustls::ServerConnection::new(config).ok()?;
    let mut reader = BufReader::new(rustls::StreamOwned::new(connection, stream));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    let mut body = vec![0; length?.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    sender.send(Call { head, body }).ok()?;
    let answer = format!(
        "HTTP/1.1 {status}\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
    reader.get_mut().write_all(answer.as_bytes()).ok()?;
    reader.get_mut().conn.send_close_notify();
    reader.get_mut().flush().ok()
}

/// Gives it one line.
async fn give(witness: &Witness) -> Result<(), String> {
    let Witness::Post(post) = witness else {
        panic!("a service")
    };
    post(bytes::Bytes::from_static(b"{\"line\":1}\n")).await
}

#[tokio::test]
async fn a_service_gets_lines_with_its_token_over_tls() {
    let service = Service::start("lines", &[]);
    let witness = open(&service.configured()).unwrap();
    give(&witness).await.unwrap();
    let call = service.call();
    assert!(call.head.starts_with("POST /anchors HTTP/1.1\r\n"));
    let head = call.head.to_ascii_lowercase();
    assert!(
        head.contains("authorization: bearer a-witness-token\r\n"),
        "{head}"
    );
    assert!(
        head.contains("content-type: application/x-ndjson\r\n"),
        "{head}"
    );
    assert_eq!(call.body, b"{\"line\":1}\n");
}

#[tokio::test]
async fn another_answer_than_2xx_is_a_failure_and_redirects_are_not_followed() {
    let service = Service::start("refuses", &["503 Busy", "302 Found", "401 No", "204 Kept"]);
    let witness = open(&service.configured()).unwrap();
    for status in ["503", "302", "401"] {
        let error = give(&witness).await.unwrap_err();
        assert_eq!(error, format!("it answered {status}"));
    }
    give(&witness).await.unwrap();
    for _call in 0..4 {
        let call = service.call();
        assert!(call.head.starts_with("POST /anchors "), "{}", call.head);
        assert_eq!(call.body, b"{\"line\":1}\n");
    }
    assert!(service.calls.try_recv().is_err());
}

#[tokio::test]
async fn nothing_is_sent_to_a_service_that_is_not_proven() {
    let (service, other) = (Service::start("one", &[]), Service::start("other", &[]));
    let strange = Service::named("named", "witness.example", &[]);
    let mut trusting_another = service.configured();
    if let config::Witness::Service { ca_file, .. } = &mut trusting_another {
        *ca_file = Some(other.folder.join("ca.pem"));
    }
    for configured in [trusting_another, strange.configured()] {
        let error = give(&open(&configured).unwrap()).await.unwrap_err();
        assert!(error.contains("does not answer"), "{error}");
        assert!(!error.contains("a-witness-token"), "{error}");
    }
    for service in [&service, &strange] {
        assert!(service.calls.try_recv().is_err(), "something was sent");
    }
}

#[test]
fn what_cannot_be_used_is_refused_at_start() {
    let service = Service::start("start", &[]);
    let says = |edit: &dyn Fn(&mut config::Witness)| {
        let mut configured = service.configured();
        edit(&mut configured);
        format!("{:#}", open(&configured).err().expect("a refusal"))
    };
    let ca = |name: &str| {
        says(&|configured| {
            if let config::Witness::Service { ca_file, .. } = configured {
                *ca_file = Some(service.folder.join(name));
            }
        })
    };
    let token = |name: &str| {
        says(&|configured| {
            if let config::Witness::Service { token_file, .. } = configured {
                *token_file = Some(service.folder.join(name));
            }
        })
    };
    let address = |text: &str| {
        says(&|configured| {
            if let config::Witness::Service { url, .. } = configured {
                text.clone_into(url);
            }
        })
    };
    std::fs::write(service.folder.join("empty.pem"), "").unwrap();
    std::fs::write(
        service.folder.join("broken.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    secret(&service.folder.join("open-token"), "t", 0o644);
    let cases = [
        (ca("missing.pem"), "ca_file"),
        (ca("empty.pem"), "no root certificates"),
        (ca("broken.pem"), "the CA cannot sign"),
        (token("missing"), "opening"),
        (token("open-token"), "can be read by everybody"),
        (address("https://"), "record.witness.url"),
        (address("http://witness.example/a"), "must be https"),
        (
            address("http://127.0.0.1:1@witness.example/a"),
            "must be https",
        ),
    ];
    for (said, expected) in cases {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let folder = config::Witness::File(service.folder.clone());
    assert!(open(&folder).is_err());
    std::os::unix::fs::symlink(service.folder.join("ca.pem"), service.folder.join("link")).unwrap();
    assert!(open(&config::Witness::File(service.folder.join("link"))).is_err());
}

/// Anchors that a service was busy for come again, and prove what was cut off behind them.
#[tokio::test(flavor = "multi_thread")]
async fn anchors_reach_a_service_and_prove_the_record() {
    let service = Service::start("anchors", &["503 Busy"]);
    let spool = SpoolDir::open(SpoolConfig {
        directory: service.folder.join("spool"),
        key_file: service.folder.join("node.key"),
        limit_bytes: 1 << 30,
        durability: Durability::Process,
    })
    .unwrap();
    let mut lane = spool.lane(0, weir_clock::now()).unwrap();
    let context = Arc::new(FactContext {
        session_id: 1,
        ..FactContext::default()
    });
    for seq in 1..=9 {
        let fact = Fact::new(Arc::clone(&context), FactKind::Request, seq, 1);
        lane.push(&fact).unwrap();
        lane.commit(weir_clock::now()).unwrap();
    }
    let config = AnchorConfig {
        node_name: "n1".to_owned(),
        every: Duration::from_millis(20),
        stores: Vec::new(),
        witness: Some(open(&service.configured()).unwrap()),
    };
    let metrics = AnchorMetrics::register(&prometheus::Registry::new()).unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let giving = tokio::spawn(Anchoring::new(config, &spool, metrics).run(stopped));
    let calls = tokio::task::spawn_blocking(move || (service.call(), service.call(), service));
    let (refused, kept, service) = calls.await.unwrap();
    assert_eq!(refused.body, kept.body);
    stop.send(true).unwrap();
    giving.await.unwrap();

    let file = service.folder.join("witness");
    std::fs::write(&file, &kept.body).unwrap();
    let anchors = Anchors::of_witness(&file, spool.node()).unwrap();
    let verify = || verify_files_against(spool.directory(), &spool.history(), &anchors).unwrap();
    let report = verify();
    assert_eq!((report.findings, report.unproven), (Vec::new(), 0));
    assert_eq!(report.last_anchor, "1-0-1");
    let segment = spool.directory().join("00000001-000-00000001.seg");
    let bytes = std::fs::read(&segment).unwrap();
    std::fs::write(&segment, &bytes[..bytes.len() - 1]).unwrap();
    assert!(!verify().findings.is_empty());
}
