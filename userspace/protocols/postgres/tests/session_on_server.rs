//! The session against a real PostgreSQL: raw protocol in, raw protocol out, a spool in memory.
//!
//! Each case tries to make the session and the server disagree on what a name stands for, which
//! would let rows of one statement through the masks of another.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use ed25519_dalek::SigningKey;
use tokio_postgres::{NoTls, SimpleQueryMessage};
use weir_decide::{Bound, PolicySet, PolicySettings, PolicySource, TargetRef};
use weir_govern::{CancelKey, Credential, Event, Governor, HoldRequest, Output, Session, Verdict};
use weir_mask::{Detector, MaskKey, Patterns};
use weir_model::fact::{Fact, FactContext, FactKind};
use weir_model::ident::{ApprovalId, EvidenceKind, Groups, Principal, PrincipalKind, SessionId};
use weir_model::time::Now;
use weir_postgres::catalog::{CATALOG_QUERIES, Catalog, CatalogRows, Definitions};
use weir_postgres::vocabulary::VOCABULARY;
use weir_postgres::{PostgresConfig, PostgresSession};
use weir_spool::{Lane, LaneStart, SegmentFile, SegmentId, SpoolError};

const SECRET: &str = "900-11-2222";
const SESSION: SessionId = SessionId(7);
const POLICIES: &str = r#"
@id("all") permit (principal, action, resource in Weir::Target::"t");
@id("no-truncate") forbid (principal, action == Postgres::Action::"truncate", resource);
@id("no-program") forbid (principal, action == Postgres::Action::"runProgram", resource);
@id("mask") @mask("redact") forbid (principal, action == Postgres::Action::"readColumn",
    resource == Postgres::Column::"t/postgres/public/customers/ssn");
@id("mask-base") @mask("redact") forbid (principal, action == Postgres::Action::"readColumn",
    resource == Postgres::Column::"t/postgres/public/base/secret");
@id("hold") @hold("dba") forbid (principal, action == Postgres::Action::"delete", resource);
@id("asked") @hold("dba") forbid (principal, action == Postgres::Action::"select",
    resource == Postgres::Table::"t/postgres/other/asked");
@id("asked-too") @hold("dba") forbid (principal, action == Postgres::Action::"set",
    resource == Postgres::Setting::"t/postgres/app.asked");
@id("few") @limit("rows:3") forbid (principal, action == Postgres::Action::"select",
    resource == Postgres::Table::"t/postgres/other/many");
@id("few-here") @budget("rows:6 per session") forbid (principal, action == Postgres::Action::"select",
    resource == Postgres::Table::"t/postgres/other/budgeted");
@id("not-long") @budget("seconds:2, statements:3 per 1h") forbid (principal, action == Postgres::Action::"select",
    resource == Postgres::Table::"t/postgres/other/slow");
@id("detect") @detect("all") forbid (principal, action == Postgres::Action::"readColumn",
    resource in Postgres::Table::"t/postgres/other/many");
@id("mask-stock") @mask("redact") forbid (principal, action == Postgres::Action::"readColumn",
    resource == Postgres::Column::"t/postgres/shop/stock/ssn");
@id("show") @hold("dba") @approve("effect") forbid (principal,
    action in [Postgres::Action::"update", Postgres::Action::"insert"],
    resource in Postgres::Schema::"t/postgres/shop");
@id("hidden") forbid (principal, action == Postgres::Action::"readColumn",
    resource in Postgres::Table::"t/postgres/shop/vault");
@id("both-ends") @record("head:2, tail:3") forbid (principal, action == Postgres::Action::"select",
    resource == Postgres::Table::"t/postgres/kept/ends");
@id("whole") @record("all") forbid (principal, action == Postgres::Action::"select",
    resource == Postgres::Table::"t/postgres/kept/whole");
@id("mask-kept") @mask("redact") forbid (principal, action == Postgres::Action::"readColumn",
    resource == Postgres::Column::"t/postgres/kept/whole/ssn");
"#;
const SCHEMA: &str = "
create table public.customers (id int primary key, name text, ssn text);
insert into public.customers values (1, 'Ann', '900-11-2222'), (2, 'Bob', '900-11-2222');
create schema other;
create table other.customers (id int primary key, name text, ssn text);
insert into other.customers values (1, 'open', 'open');
create table other.many (n int, note text, number bigint);
insert into other.many select g, 'paid by 4111 1111 1111 1111', case g when 1 then 4111111111111111 else 1234 end
    from generate_series(1, 10) g;
create table other.budgeted (n int);
insert into other.budgeted select generate_series(1, 10);
create table other.slow (n int);
insert into other.slow values (1);
create schema kept;
create table kept.ends (n int);
insert into kept.ends select generate_series(1, 50);
create table kept.whole (n int, ssn text);
insert into kept.whole select g, '900-11-2222' from generate_series(1, 300) g;
create schema shop;
create table shop.stock (id int primary key, item text, ssn text);
insert into shop.stock select g, 'item ' || g, '900-11-2222' from generate_series(1, 30) g;
create table shop.vault (id int primary key, word text);
insert into shop.vault values (1, 'treasure');
create table shop.watched (id int primary key);
create function shop.noted() returns trigger language plpgsql as 'begin return new; end';
create trigger noted before insert on shop.watched for each row execute function shop.noted();
create table shop.parent (id int primary key);
create table shop.child (id int references shop.parent on update cascade);
";

struct Server {
    process: Child,
    directory: PathBuf,
    port: u16,
    /// Of the target, for all sessions.
    definitions: Definitions,
}

fn binaries() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("PostgreSQL is installed")
        .map(|entry| entry.expect("an entry").path().join("bin"))
        .filter(|path| path.join("initdb").exists())
        .collect();
    found.sort();
    found.pop().expect("PostgreSQL is installed")
}

fn id_of(kind: &str) -> u32 {
    let output = Command::new("id")
        .args([kind, "postgres"])
        .output()
        .expect("id runs");
    String::from_utf8(output.stdout)
        .expect("text")
        .trim()
        .parse()
        .expect("a user postgres")
}

impl Server {
    fn start(name: &str) -> Self {
        Self::start_as(name, &[], &[])
    }

    /// With these files in its folder of data, and more settings.
    fn start_as(name: &str, files: &[(&str, &str)], settings: &[&str]) -> Self {
        let (uid, gid) = (id_of("-u"), id_of("-g"));
        let directory =
            std::env::temp_dir().join(format!("weir-session-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("a directory");
        std::os::unix::fs::chown(&directory, Some(uid), Some(gid)).expect("chown");
        let data = directory.join("data");
        let made = Command::new(binaries().join("initdb"))
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .current_dir(&directory)
            .uid(uid)
            .gid(gid)
            .stdout(Stdio::null())
            .status()
            .expect("initdb runs");
        assert!(made.success());
        for (file, text) in files {
            let path = data.join(file);
            std::fs::write(&path, text).expect("a file");
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).expect("chown");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("chmod");
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let process = Command::new(binaries().join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&directory)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-p"])
            .arg(port.to_string())
            .args(settings)
            .current_dir(&directory)
            .uid(uid)
            .gid(gid)
            .stderr(Stdio::null())
            .spawn()
            .expect("postgres starts");
        let server = Self {
            process,
            directory,
            port,
            definitions: Definitions::default(),
        };
        server.load_schema();
        server
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
    }

    async fn client(&self) -> tokio_postgres::Client {
        for _attempt in 0..3000 {
            let mut config = tokio_postgres::Config::new();
            config
                .host("127.0.0.1")
                .port(self.port)
                .user("postgres")
                .dbname("postgres");
            if let Ok((client, connection)) = config.connect(NoTls).await {
                tokio::spawn(async move { connection.await.ok() });
                return client;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the server does not answer");
    }

    fn load_schema(&self) {
        Self::runtime()
            .block_on(async { self.client().await.batch_execute(SCHEMA).await })
            .expect("the schema loads");
    }

    fn catalog(&self) -> Catalog {
        Self::runtime().block_on(async {
            let client = self.client().await;
            let mut rows = CatalogRows::default();
            for query in CATALOG_QUERIES {
                let answer = client.simple_query(query.sql).await.expect(query.name);
                let cells = answer
                    .iter()
                    .filter_map(|message| {
                        let SimpleQueryMessage::Row(row) = message else {
                            return None;
                        };
                        Some(
                            (0..row.len())
                                .map(|at| row.get(at).map(str::to_owned))
                                .collect(),
                        )
                    })
                    .collect();
                rows.0.push((query.name, cells));
            }
            Catalog::from_rows(&rows).expect("a catalog")
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
        std::fs::remove_dir_all(&self.directory).ok();
    }
}

fn compiled(policies: &str) -> Arc<PolicySet> {
    let settings = PolicySettings {
        reviewer_groups: ["dba".to_owned()].into(),
        targets: vec!["t".to_owned()],
        ..PolicySettings::default()
    };
    let source = PolicySource {
        name: "p".to_owned(),
        text: policies.to_owned(),
    };
    Arc::new(PolicySet::compile(&[source], &[&VOCABULARY], &settings).expect("policies"))
}

fn usual() -> Arc<PolicySet> {
    static SET: OnceLock<Arc<PolicySet>> = OnceLock::new();
    Arc::clone(SET.get_or_init(|| compiled(POLICIES)))
}

fn governor(set: &Arc<PolicySet>) -> Box<Governor> {
    let context = FactContext {
        session_id: SESSION.0,
        ..FactContext::default()
    };
    Box::new(Governor::new(
        SESSION,
        Arc::new(context),
        Box::new(bound(set)),
    ))
}

fn bound(set: &Arc<PolicySet>) -> Bound {
    let principal = Principal {
        kind: PrincipalKind::Application,
        cloud: Arc::from("public"),
        tenant: Arc::from("t1"),
        oid: Arc::from("o1"),
        app: Arc::from("a1"),
        roles: ["Agent.Connect".into()].into(),
        groups: Groups::Unknown,
        on_behalf_of: None,
        token_id: Arc::from(""),
        evidence: EvidenceKind::Federated,
        workload: Arc::from("w"),
        valid_until_s: i64::MAX,
    };
    let target = TargetRef {
        name: Arc::from("t"),
        namespace: VOCABULARY.namespace,
    };
    set.bind(&principal, &target)
}

struct Memory;

impl SegmentFile for Memory {
    fn append(&mut self, _bytes: &[u8]) -> Result<(), SpoolError> {
        Ok(())
    }

    fn sync(&mut self) -> Result<(), SpoolError> {
        Ok(())
    }

    fn next(&mut self, _id: SegmentId, _header: &[u8]) -> Result<(), SpoolError> {
        Ok(())
    }
}

/// A connection to the server.
trait Upstream: Read + Write {}

impl<T: Read + Write> Upstream for T {}

/// How it is connected to and logged in at.
enum Login {
    Trust,
    Scram(scram::Proof),
}

/// One client's conversation through a session.
struct Talk<'a> {
    server: &'a Server,
    session: PostgresSession,
    set: Arc<PolicySet>,
    lane: Lane<Memory>,
    upstream: Option<Box<dyn Upstream>>,
    login: Login,
    client_in: BytesMut,
    server_in: BytesMut,
    seen: Vec<u8>,
    facts: Vec<Fact>,
    holds: usize,
    /// What went to the server.
    sent: Vec<u8>,
    /// The newest held request; decided by [`Talk::decide`] where `asks`.
    held: Option<HoldRequest>,
    asks: bool,
    closed: bool,
    clock: u64,
}

impl<'a> Talk<'a> {
    fn open(server: &'a Server) -> Self {
        let detectors = Patterns::new(&Detector::ALL, &[]).expect("patterns");
        Self::with(server, Some(Arc::new(detectors)))
    }

    fn without_detectors(server: &'a Server) -> Self {
        Self::with(server, None)
    }

    fn with(server: &'a Server, patterns: Option<Arc<Patterns>>) -> Self {
        let mut talk = Self::new(server, patterns, Login::Trust);
        talk.exchange(&hello(), 1);
        talk
    }

    fn new(server: &'a Server, patterns: Option<Arc<Patterns>>, login: Login) -> Self {
        let now = Now {
            mono_us: 1,
            wall_us: 1_800_000_000_000_000,
        };
        let start = LaneStart {
            node: 1,
            epoch: 1,
            lane: 0,
            key: Arc::new(SigningKey::from_bytes(&[1; 32])),
            segment_bytes: weir_spool::SEGMENT_BYTES_MAX,
        };
        let session = PostgresSession::new(PostgresConfig {
            target: Arc::from("t"),
            cancel: CancelKey {
                pid: 9,
                secret: Box::new([1, 2, 3, 4]),
            },
            mask_key: MaskKey::new([3; 32]),
            patterns,
            definitions: server.definitions.clone(),
            ..PostgresConfig::default()
        });
        Self {
            server,
            session,
            set: usual(),
            lane: Lane::open(Memory, start, now).expect("a lane"),
            upstream: None,
            login,
            client_in: BytesMut::new(),
            server_in: BytesMut::new(),
            seen: Vec::new(),
            facts: Vec::new(),
            holds: 0,
            sent: Vec::new(),
            held: None,
            asks: false,
            closed: false,
            clock: 1,
        }
    }

    fn now(&mut self) -> Now {
        self.clock += 10;
        Now {
            mono_us: self.clock,
            wall_us: 1_800_000_000_000_000,
        }
    }

    fn settle(&mut self) {
        loop {
            let now = self.now();
            let mut fresh = Vec::new();
            self.session.drain_facts(&mut fresh);
            if !fresh.is_empty() {
                for fact in &fresh {
                    self.lane.push(fact).expect("facts follow each other");
                }
                self.facts.append(&mut fresh);
                for receipt in &self.lane.commit(now).expect("room") {
                    self.session.handle(Event::Recorded(*receipt), now);
                }
                continue;
            }
            let Some(output) = self.session.poll_output() else {
                return;
            };
            self.carry_out(output, now);
        }
    }

    fn carry_out(&mut self, output: Output, now: Now) {
        match output {
            Output::ToServer(bytes) => {
                let upstream = self.upstream.as_mut().expect("connected");
                let bytes = bytes.into_bytes();
                upstream.write_all(&bytes).expect("the server takes bytes");
                self.sent.extend_from_slice(&bytes);
            }
            Output::ToClient(bytes) => self.seen.extend_from_slice(&bytes.into_bytes()),
            Output::Identify => self
                .session
                .handle(Event::Identified(governor(&self.set)), now),
            Output::Connect(_) => {
                let stream = TcpStream::connect(("127.0.0.1", self.server.port)).expect("up");
                let (upstream, credential) = match &self.login {
                    Login::Trust => (Box::new(impatient(stream)) as Box<dyn Upstream>, trusted()),
                    Login::Scram(proof) => proof.connect(stream),
                };
                self.upstream = Some(upstream);
                self.session.handle(Event::Connected(credential), now);
            }
            Output::Catalog(_) => {
                let catalog = Arc::new(self.server.catalog());
                self.session.handle(Event::Catalog(catalog), now);
            }
            Output::Hold(request) => {
                self.holds += 1;
                let approval = ApprovalId(self.holds as u128);
                self.session.handle(
                    Event::HoldOpened {
                        seq: request.seq,
                        approval,
                    },
                    now,
                );
                self.held = Some(*request);
                if !self.asks {
                    self.decided(true, now);
                }
            }
            Output::Close(reason) => {
                self.closed = true;
                self.seen
                    .extend_from_slice(format!("<closed {}>", reason.label()).as_bytes());
            }
            // As libpq does: a connection of its own, which the server closes.
            Output::SendCancel(bytes) => {
                let mut other = TcpStream::connect(("127.0.0.1", self.server.port)).expect("up");
                other
                    .write_all(&bytes.into_bytes())
                    .expect("the server takes bytes");
                other.read_to_end(&mut Vec::new()).ok();
            }
            Output::UpgradeTls(_)
            | Output::Present(_)
            | Output::AbandonHold(_)
            | Output::RegisterCancel(_)
            | Output::AskCancel(_) => {}
        }
    }

    fn decided(&mut self, approve: bool, now: Now) {
        let approval = ApprovalId(self.holds as u128);
        let approver = "alice".to_owned();
        let verdict = if approve {
            Verdict::Approved { approval, approver }
        } else {
            Verdict::Rejected {
                approval,
                approver,
                justification: "no".to_owned(),
            }
        };
        self.session.handle(Event::HoldEnded(verdict), now);
    }

    /// What the client gets behind a reviewer's word.
    fn decide(&mut self, approve: bool) -> Vec<String> {
        let now = self.now();
        self.decided(approve, now);
        self.exchange(b"", 1)
    }

    fn step(&mut self) {
        let now = self.now();
        if !self.client_in.is_empty() {
            let mut input = std::mem::take(&mut self.client_in);
            self.session.handle_client(&mut input, now);
            self.client_in = input;
        }
        self.settle();
        if let Some(upstream) = &mut self.upstream {
            let mut buffer = [0; 65536];
            if let Ok(count) = upstream.read(&mut buffer) {
                self.server_in.extend_from_slice(&buffer[..count]);
                let now = self.now();
                let mut input = std::mem::take(&mut self.server_in);
                self.session.handle_server(&mut input, now);
                self.server_in = input;
            }
        }
        self.settle();
    }

    /// Sends bytes, waits for that many `ReadyForQuery`, gives what came back as lines.
    fn exchange(&mut self, bytes: &[u8], ready: usize) -> Vec<String> {
        self.until(bytes, |lines| {
            lines.iter().filter(|l| l.starts_with('Z')).count() >= ready
        })
    }

    fn until(&mut self, bytes: &[u8], enough: impl Fn(&[String]) -> bool) -> Vec<String> {
        self.seen.clear();
        self.client_in.extend_from_slice(bytes);
        // Each step waits for the server for up to 5 ms.
        for _step in 0..4000 {
            self.step();
            let lines = lines(&self.seen);
            if enough(&lines) || self.closed {
                return lines;
            }
        }
        panic!("no end of the answer; so far {:?}", lines(&self.seen));
    }

    fn query(&mut self, sql: &str) -> Vec<String> {
        self.exchange(&frame(b'Q', &[sql.as_bytes(), b"\0"].concat()), 1)
    }

    fn submitted(&self, statement: &str) -> usize {
        self.facts
            .iter()
            .filter(|fact| fact.kind == FactKind::Request && !is_labelled(fact, "phase"))
            .filter(|fact| fact.statement.contains(statement))
            .count()
    }
}

/// The start-up message.
fn hello() -> BytesMut {
    let parameters = b"user\0me\0database\0postgres\0\0";
    let mut hello = BytesMut::new();
    hello.put_u32(u32::try_from(parameters.len()).expect("short") + 8);
    hello.put_u32(3 << 16);
    hello.put_slice(parameters);
    hello
}

/// Reads wait for the server for 5 ms.
fn impatient(stream: TcpStream) -> TcpStream {
    stream
        .set_read_timeout(Some(Duration::from_millis(5)))
        .expect("a timeout");
    stream
}

fn trusted() -> Credential {
    Credential {
        user: "postgres".to_owned(),
        password: zeroize::Zeroizing::new(String::new()),
        server_proven: true,
        channel_binding: None,
    }
}

/// What a client saw, one message a line: tag and printable contents.
fn lines(bytes: &[u8]) -> Vec<String> {
    let mut rest = bytes;
    let mut lines = Vec::new();
    while let Some(header) = rest.first_chunk::<5>() {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if header[0] == b'<' || rest.len() < length + 1 {
            break;
        }
        let body: String = rest[5..=length]
            .iter()
            .map(|b| {
                if (32..127).contains(b) {
                    char::from(*b)
                } else {
                    '.'
                }
            })
            .collect();
        lines.push(format!("{} {body}", char::from(header[0])));
        rest = &rest[length + 1..];
    }
    if rest.starts_with(b"<closed") {
        lines.push(String::from_utf8_lossy(rest).into_owned());
    }
    lines
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    out.put_u8(tag);
    out.put_u32(u32::try_from(body.len()).expect("short") + 4);
    out.put_slice(body);
    out.to_vec()
}

fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(
        b'P',
        &[name.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat(),
    )
}

fn bind(portal: &str, name: &str) -> Vec<u8> {
    let body = [portal.as_bytes(), b"\0", name.as_bytes(), b"\0", &[0; 6]].concat();
    frame(b'B', &body)
}

fn bind_text(name: &str, value: &str) -> Vec<u8> {
    let length = u32::try_from(value.len()).expect("short").to_be_bytes();
    let head = [b"\0", name.as_bytes(), b"\0\0\0\0\x01"].concat();
    frame(
        b'B',
        &[&head, length.as_slice(), value.as_bytes(), &[0, 0]].concat(),
    )
}

fn execute(portal: &str) -> Vec<u8> {
    frame(b'E', &[portal.as_bytes(), &[0; 5]].concat())
}

fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

fn run(name: &str) -> Vec<u8> {
    [bind("", name), execute(""), sync()].concat()
}

fn rows(lines: &[String]) -> usize {
    lines.iter().filter(|line| line.starts_with("D ")).count()
}

#[track_caller]
fn clean(lines: &[String]) {
    let all = lines.join("\n");
    assert!(
        !all.contains(SECRET),
        "an unmasked value reached the client:\n{all}"
    );
}

fn server(name: &str) -> Server {
    Server::start(name)
}

#[path = "session_on_server/addresses.rs"]
mod addresses;
#[path = "session_on_server/bodies.rs"]
mod bodies;
#[path = "session_on_server/cases.rs"]
mod cases;
#[path = "session_on_server/casts.rs"]
mod casts;
#[path = "session_on_server/cursors.rs"]
mod cursors;
#[path = "session_on_server/defects.rs"]
mod defects;
#[path = "session_on_server/detectors.rs"]
mod detectors;
#[path = "session_on_server/effects.rs"]
mod effects;
#[path = "session_on_server/filled.rs"]
mod filled;
#[path = "session_on_server/kept.rs"]
mod kept;
#[path = "session_on_server/own_names.rs"]
mod own_names;
#[path = "session_on_server/read_only.rs"]
mod read_only;
#[path = "session_on_server/scram.rs"]
mod scram;
#[path = "session_on_server/settings.rs"]
mod settings;
#[path = "session_on_server/shadowed.rs"]
mod shadowed;
#[path = "session_on_server/shared.rs"]
mod shared;
#[path = "session_on_server/ways.rs"]
mod ways;

/// Preparations are labelled.
fn is_labelled(fact: &Fact, name: &str) -> bool {
    fact.labels.iter().any(|label| label.0 == name)
}
