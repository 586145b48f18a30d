//! A simulated world around one session: a client with a script, a small model server, a spool in
//! memory, and chance: how bytes are cut, when answers come, when a record fails, what a reviewer
//! says. Every case is replayed by its seed: `cargo xtask sim --seed 17`; more of them are run by
//! `cargo xtask sim --seeds 10000`.

#![expect(
    clippy::disallowed_methods,
    reason = "a seed to replay comes from the environment"
)]

use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use ed25519_dalek::SigningKey;
use weir_decide::{Bound, Inherited, PolicySet, PolicySettings, PolicySource, TargetRef};
use weir_govern::{CancelKey, Credential, Event, Governor, Output, Session, Verdict};
use weir_mask::MaskKey;
use weir_model::fact::{DecisionKind, Fact, FactContext, FactKind};
use weir_model::ident::{ApprovalId, EvidenceKind, Groups, Principal, PrincipalKind, SessionId};
use weir_model::time::Now;
use weir_postgres::catalog::{Catalog, CatalogRows};
use weir_postgres::vocabulary::VOCABULARY;
use weir_postgres::{PostgresConfig, PostgresSession};
use weir_spool::{Lane, LaneStart, SegmentFile, SegmentId, SpoolError};

const SECRET: &str = "900-11-2222";
const SESSION: SessionId = SessionId(7);
const POLICIES: &str = r#"
@id("all") permit (principal, action, resource in Weir::Target::"t");
@id("no-drop") forbid (principal, action == Postgres::Action::"drop", resource);
@id("mask") @mask("redact") forbid (principal, action == Postgres::Action::"readColumn",
    resource == Postgres::Column::"t/db/public/customers/ssn");
@id("hold") @hold("dba") forbid (principal, action == Postgres::Action::"delete", resource);
"#;

/// xorshift64*: small, and the same on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

fn cells(values: &[&str]) -> Vec<Option<String>> {
    values
        .iter()
        .map(|value| Some((*value).to_owned()))
        .collect()
}

fn catalog() -> Catalog {
    let rows = CatalogRows(vec![
        ("schemas", vec![cells(&["public"]), cells(&["pg_catalog"])]),
        (
            "relations",
            vec![cells(&["100", "public", "customers", "r", "f", "f"])],
        ),
        (
            "columns",
            vec![
                cells(&["100", "1", "id", "23"]),
                cells(&["100", "2", "ssn", "25"]),
            ],
        ),
        ("views", Vec::new()),
        ("inheritance", Vec::new()),
        ("functions", Vec::new()),
        (
            "types",
            vec![cells(&["25", "pg_catalog", "text", "b", "0", "0"])],
        ),
        ("operators", Vec::new()),
        ("casts", Vec::new()),
        ("sql_functions", Vec::new()),
        ("overloads", Vec::new()),
        ("generated", Vec::new()),
    ]);
    Catalog::from_rows(&rows).expect("a catalog")
}

fn policies() -> Arc<PolicySet> {
    static SET: OnceLock<Arc<PolicySet>> = OnceLock::new();
    let settings = PolicySettings {
        reviewer_groups: ["dba".to_owned()].into(),
        targets: vec!["t".to_owned()],
        ..PolicySettings::default()
    };
    let source = PolicySource {
        name: "p".to_owned(),
        text: POLICIES.to_owned(),
    };
    let compile = || {
        let set = PolicySet::compile(&[source], &[&VOCABULARY], &settings).expect("policies");
        Arc::new(set)
    };
    Arc::clone(SET.get_or_init(compile))
}

fn bound() -> (Box<Bound>, FactContext) {
    let set = policies();
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
    let context = FactContext {
        session_id: SESSION.0,
        ..FactContext::default()
    };
    (Box::new(set.bind(&principal, &target)), context)
}

fn governor() -> Box<Governor> {
    let (bound, context) = bound();
    Box::new(Governor::new(SESSION, Arc::new(context), bound))
}

fn config() -> PostgresConfig {
    PostgresConfig {
        target: Arc::from("t"),
        cancel: CancelKey {
            pid: 9,
            secret: Box::new([1, 2, 3, 4]),
        },
        mask_key: MaskKey::new([3; 32]),
        ..PostgresConfig::default()
    }
}

/// The spool of one process.
fn lane(epoch: u32, now: Now) -> Lane<Memory> {
    let start = LaneStart {
        node: 1,
        epoch,
        lane: 0,
        key: Arc::new(SigningKey::from_bytes(&[1; 32])),
        segment_bytes: weir_spool::SEGMENT_BYTES_MAX,
    };
    Lane::open(Memory, start, now).expect("a lane")
}

fn message(out: &mut BytesMut, tag: u8, body: &[u8]) {
    out.put_u8(tag);
    out.put_u32(u32::try_from(body.len()).expect("short") + 4);
    out.put_slice(body);
}

/// Name of the session's own statement and portal.
const PROBE: &str = "weir probe";

/// A server that knows one table, in the simple and the extended protocol.
#[derive(Default)]
struct Server {
    input: BytesMut,
    started: bool,
    /// Texts of everything that was run.
    ran: Vec<String>,
    prepared: String,
    /// The session's own question.
    probe: String,
    failed: bool,
}

impl Server {
    fn take(&mut self, bytes: &[u8]) -> BytesMut {
        self.input.extend_from_slice(bytes);
        let mut out = BytesMut::new();
        if !self.started {
            let Some(length) = self
                .input
                .first_chunk::<4>()
                .map(|b| u32::from_be_bytes(*b))
            else {
                return out;
            };
            if self.input.len() < length as usize {
                return out;
            }
            drop(self.input.split_to(length as usize));
            self.started = true;
            message(&mut out, b'R', &[0; 4]);
            message(&mut out, b'S', b"server_version\x0015.0\0");
            message(&mut out, b'K', &[0, 0, 0, 1, 0, 0, 0, 2]);
            message(&mut out, b'Z', b"I");
        }
        while let Some(header) = self.input.first_chunk::<5>().copied() {
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
            if self.input.len() < length + 1 {
                break;
            }
            let frame = self.input.split_to(length + 1);
            self.frame(header[0], &frame[5..], &mut out);
        }
        out
    }

    fn frame(&mut self, tag: u8, body: &[u8], out: &mut BytesMut) {
        let text = |at: usize| {
            let rest = &body[at..];
            let end = rest
                .iter()
                .position(|byte| *byte == 0)
                .expect("a terminator");
            String::from_utf8(rest[..end].to_vec()).expect("text")
        };
        match tag {
            b'Q' => {
                let sql = text(0);
                if sql.ends_with("refused") {
                    message(out, b'E', b"SERROR\0C42601\0Msyntax\0\0");
                } else {
                    self.answer(&sql, true, out);
                }
                message(out, b'Z', b"I");
            }
            b'S' => {
                self.failed = false;
                message(out, b'Z', b"I");
            }
            _ if self.failed => {}
            b'P' => {
                let name = text(0);
                let sql = text(name.len() + 1);
                if name == PROBE {
                    self.probe = sql;
                    message(out, b'1', b"");
                } else if sql.ends_with("refused") {
                    self.failed = true;
                    message(out, b'E', b"SERROR\0C42601\0Msyntax\0\0");
                } else {
                    self.prepared = sql;
                    message(out, b'1', b"");
                }
            }
            b'B' => message(out, b'2', b""),
            b'D' => description(out, &[("id", 100, 1, 23), ("ssn", 100, 2, 25)]),
            b'E' if text(0) == PROBE => {
                let path = self.probe.contains("current_schemas");
                row(out, &[if path { "public" } else { "weir_app" }]);
                message(out, b'C', b"SELECT 1\0");
            }
            b'C' => message(out, b'3', b""),
            b'E' => {
                let sql = self.prepared.clone();
                self.answer(&sql, false, out);
            }
            _ => {}
        }
    }

    fn answer(&mut self, sql: &str, describe: bool, out: &mut BytesMut) {
        self.ran.push(sql.to_owned());
        if sql.starts_with("select") {
            if describe {
                description(out, &[("id", 100, 1, 23), ("ssn", 100, 2, 25)]);
            }
            for id in 0..3 {
                row(out, &[&id.to_string(), SECRET]);
            }
            message(out, b'C', b"SELECT 3\0");
        } else if sql.starts_with("copy") {
            message(out, b'H', &[0, 0, 2, 0, 0, 0, 0]);
            if sql.ends_with("described") {
                description(out, &[("id", 100, 1, 23), ("id", 100, 1, 23)]);
            }
            row(out, &["1", SECRET]);
        } else {
            message(out, b'C', b"DELETE 1\0");
        }
    }
}

fn description(out: &mut BytesMut, columns: &[(&str, u32, i16, u32)]) {
    let mut body = BytesMut::new();
    body.put_u16(u16::try_from(columns.len()).expect("few"));
    for (name, table, attnum, type_oid) in columns {
        body.put_slice(name.as_bytes());
        body.put_u8(0);
        body.put_u32(*table);
        body.put_i16(*attnum);
        body.put_u32(*type_oid);
        body.put_i16(-1);
        body.put_i32(-1);
        body.put_i16(0);
    }
    message(out, b'T', &body);
}

fn row(out: &mut BytesMut, values: &[&str]) {
    let mut body = BytesMut::new();
    body.put_u16(u16::try_from(values.len()).expect("few"));
    for value in values {
        body.put_u32(u32::try_from(value.len()).expect("short"));
        body.put_slice(value.as_bytes());
    }
    message(out, b'D', &body);
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

/// What the script sends and how often each of its statements may run.
struct Script {
    bytes: BytesMut,
    /// Statements that the server must run, in order, if all goes well.
    permitted: Vec<String>,
    denied: usize,
}

/// With the startup message alone.
fn hello() -> Script {
    let mut bytes = BytesMut::new();
    let parameters = b"user\0me\0database\0db\0\0";
    bytes.put_u32(u32::try_from(parameters.len()).expect("short") + 8);
    bytes.put_u32(3 << 16);
    bytes.put_slice(parameters);
    Script {
        bytes,
        permitted: Vec::new(),
        denied: 0,
    }
}

fn script(chance: &mut Chance) -> Script {
    let mut script = hello();
    for number in 0..1 + chance.below(8) {
        let sql = match chance.below(5) {
            4 => format!("select id from customers where ssn = '{SECRET}'"),
            0 => "drop table customers".to_owned(),
            1 => format!("delete from customers where id = {number}"),
            _ => format!("select id, ssn from customers where id > {number}"),
        };
        let extended = chance.one_in(2) && sql.starts_with("select");
        if extended {
            for (tag, body) in [
                (b'P', [b"\0".as_slice(), sql.as_bytes(), b"\0\0\0"].concat()),
                (b'B', vec![0; 8]),
                (b'D', b"P\0".to_vec()),
                (b'E', vec![0; 5]),
                (b'S', Vec::new()),
            ] {
                message(&mut script.bytes, tag, &body);
            }
        } else {
            message(&mut script.bytes, b'Q', &[sql.as_bytes(), b"\0"].concat());
        }
        if sql.starts_with("drop") || sql.contains(SECRET) {
            script.denied += 1
        } else {
            script.permitted.push(sql)
        }
    }
    message(&mut script.bytes, b'X', b"");
    script
}

struct World {
    chance: Chance,
    now: Now,
    session: PostgresSession,
    lane: Lane<Memory>,
    server: Server,
    facts: Vec<Fact>,
    to_client: BytesMut,
    to_session: BytesMut,
    closed: bool,
    record_fails: bool,
    held: usize,
    refused_by_reviewer: bool,
    /// What a reviewer has decided and the session does not know yet.
    verdict: Option<Verdict>,
    /// The process is replaced again and again, and the session moves.
    upgrades: bool,
    epoch: u32,
    moves: Moves,
}

/// How often a session moved, and in what state.
#[derive(Debug, Default)]
struct Moves {
    all: usize,
    held: usize,
    mid_result: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let now = Now {
            mono_us: 1,
            wall_us: 1_800_000_000_000_000,
        };
        Self {
            upgrades: chance.one_in(2),
            record_fails: chance.one_in(10),
            refused_by_reviewer: chance.one_in(4),
            chance,
            now,
            session: PostgresSession::new(config()),
            lane: lane(1, now),
            epoch: 1,
            verdict: None,
            moves: Moves::default(),
            server: Server::default(),
            facts: Vec::new(),
            to_client: BytesMut::new(),
            to_session: BytesMut::new(),
            closed: false,
            held: 0,
        }
    }

    /// As `relay` does it: facts to the spool, receipts back, then outputs.
    fn settle(&mut self) {
        loop {
            let mut fresh = Vec::new();
            self.session.drain_facts(&mut fresh);
            if !fresh.is_empty() {
                if self.record_fails && self.chance.one_in(3) {
                    self.session.handle(Event::RecordFailed, self.now);
                    self.record_fails = false;
                    continue;
                }
                for fact in &fresh {
                    self.lane.push(fact).expect("facts follow each other");
                }
                self.facts.append(&mut fresh);
                let receipts = self.lane.commit(self.now).expect("memory has room");
                for receipt in &receipts {
                    self.session.handle(Event::Recorded(*receipt), self.now);
                }
                continue;
            }
            match self.session.poll_output() {
                Some(output) => self.carry_out(output),
                None => return,
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::ToServer(bytes) => {
                let answer = self.server.take(&bytes.into_bytes());
                self.to_session.extend_from_slice(&answer);
            }
            Output::ToClient(bytes) => self.to_client.extend_from_slice(&bytes.into_bytes()),
            Output::Identify => {
                self.session.handle(Event::Identified(governor()), self.now);
            }
            Output::Connect(_) => {
                let credential = Credential {
                    user: "weir_app".to_owned(),
                    password: zeroize::Zeroizing::new(String::new()),
                    server_proven: true,
                    channel_binding: None,
                };
                self.session.handle(Event::Connected(credential), self.now);
            }
            Output::Catalog(_) => {
                self.session
                    .handle(Event::Catalog(Arc::new(catalog())), self.now);
            }
            Output::Hold(request) => {
                self.held += 1;
                let (seq, approval) = (request.seq, ApprovalId(self.held as u128));
                self.hear_of_another_hold(seq);
                self.session
                    .handle(Event::HoldOpened { seq, approval }, self.now);
                self.hear_of_another_hold(seq);
                let verdict = if self.refused_by_reviewer {
                    Verdict::Rejected {
                        approval,
                        approver: "alice".to_owned(),
                        justification: "no".to_owned(),
                    }
                } else {
                    Verdict::Approved {
                        approval,
                        approver: "alice".to_owned(),
                    }
                };
                self.verdict = Some(verdict);
            }
            Output::Close(_) => self.closed = true,
            Output::UpgradeTls(_)
            | Output::Present(_)
            | Output::AbandonHold(_)
            | Output::RegisterCancel(_)
            | Output::AskCancel(_)
            | Output::SendCancel(_) => {}
        }
    }

    /// News of a hold that was cancelled arrive while another request is held: not a word of it may
    /// count for that one.
    fn hear_of_another_hold(&mut self, seq: u32) {
        let (seq, approval) = (seq - 1, ApprovalId(u128::MAX));
        let approver = "mallory".to_owned();
        for event in [
            Event::HoldOpened { seq, approval },
            Event::HoldEnded(Verdict::Approved { approval, approver }),
            Event::HoldFailed { seq },
        ] {
            self.session.handle(event, self.now);
        }
    }

    /// The next process takes over, if the session can move now.
    fn upgrade(&mut self) {
        let Some(snapshot) = self.session.snapshot() else {
            return;
        };
        assert_eq!(snapshot.held.is_some(), self.verdict.is_some());
        let now = (&Inherited::from_predecessor(), self.now);
        let restored = PostgresSession::restore(config(), &snapshot.bytes, bound().0, now);
        self.session = restored.expect("our own snapshot");
        self.moves.all += 1;
        self.moves.held += usize::from(snapshot.held.is_some());
        self.moves.mid_result += usize::from(!self.to_session.is_empty());
        self.epoch += 1;
        self.lane = lane(self.epoch, self.now);
        self.settle();
    }

    fn run(&mut self, script: &Script) {
        let mut left = script.bytes.clone();
        let mut client_in = BytesMut::new();
        let mut server_in = BytesMut::new();
        let mut idle = 0;
        while !self.closed && idle < 1000 {
            self.now.mono_us += 10;
            let mut moved = false;
            if self.session.wants_client() && !left.is_empty() {
                let count = 1 + self.chance.below(40).min(left.len() - 1);
                client_in.extend_from_slice(&left.split_to(count));
                moved = true;
            }
            if !client_in.is_empty() {
                let before = client_in.len();
                self.session.handle_client(&mut client_in, self.now);
                moved |= client_in.len() != before;
            }
            self.settle();
            if !self.to_session.is_empty() {
                let count = 1 + self.chance.below(60).min(self.to_session.len() - 1);
                server_in.extend_from_slice(&self.to_session.split_to(count));
                self.session.handle_server(&mut server_in, self.now);
                moved = true;
            }
            self.settle();
            if self.verdict.is_some() && self.chance.one_in(3) {
                let verdict = self.verdict.take().expect("just seen");
                self.session.handle(Event::HoldEnded(verdict), self.now);
                self.settle();
                moved = true;
            }
            if self.upgrades && self.chance.one_in(4) {
                self.upgrade();
            }
            idle = if moved { 0 } else { idle + 1 };
        }
    }
}

fn case(seed: u64) -> Moves {
    let mut world = World::new(seed);
    let failing = world.record_fails;
    let script = script(&mut world.chance);
    world.run(&script);
    let client = Bytes::from(world.to_client.to_vec());
    let shown = String::from_utf8_lossy(&client);
    assert!(
        !shown.contains(SECRET),
        "seed {seed}: an unmasked value reached the client"
    );
    assert!(
        !world.server.ran.iter().any(|sql| sql.starts_with("drop")),
        "seed {seed}: a denied statement was run"
    );
    // The world may say so in the record as well, but never in the clear.
    assert!(
        !world
            .facts
            .iter()
            .any(|fact| fact.response_masked.contains(SECRET)),
        "seed {seed}: an unmasked value is in the record"
    );
    assert!(
        !world
            .facts
            .iter()
            .any(|fact| fact.statement.contains(SECRET)),
        "seed {seed}: what a masked column is compared with is in the record"
    );
    let allowed = |fact: &&Fact| {
        fact.kind == FactKind::Request
            && matches!(fact.decision, DecisionKind::Allow | DecisionKind::Hold)
            && !is_labelled(fact, "phase")
    };
    let recorded = world.facts.iter().filter(allowed).count();
    assert!(
        recorded >= world.server.ran.len(),
        "seed {seed}: {} statements were run, {recorded} recorded",
        world.server.ran.len()
    );
    if failing {
        return world.moves;
    }
    assert!(
        world.closed,
        "seed {seed}: the session hangs; client saw {shown:?}"
    );
    let expected: Vec<&String> = script
        .permitted
        .iter()
        .filter(|sql| !(world.refused_by_reviewer && sql.starts_with("delete")))
        .collect();
    assert_eq!(
        world.server.ran.iter().collect::<Vec<_>>(),
        expected,
        "seed {seed}; client saw {shown:?}"
    );
    let denied = world
        .facts
        .iter()
        .filter(|fact| fact.kind == FactKind::Request && fact.decision == DecisionKind::Deny)
        .count();
    assert_eq!(denied, script.denied, "seed {seed}");
    world.moves
}

#[test]
fn sim_nothing_unmasked_unpermitted_or_unrecorded_whatever_the_timing() {
    if let Ok(seed) = std::env::var("WEIR_SIM_SEED") {
        case(seed.parse().expect("a number"));
        return;
    }
    let seeds: u64 = match std::env::var("WEIR_SIM_SEEDS") {
        Ok(seeds) => seeds.parse().expect("a number"),
        Err(_) => 250,
    };
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let parts: Vec<Moves> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads)
            .map(|first| {
                scope.spawn(move || {
                    let mut moves = Moves::default();
                    for seed in (1..=seeds).filter(|seed| seed % threads == first) {
                        let of = case(seed);
                        moves.all += of.all;
                        moves.held += of.held;
                        moves.mid_result += of.mid_result;
                    }
                    moves
                })
            })
            .collect();
        started
            .into_iter()
            .map(|thread| thread.join().expect("every case holds"))
            .collect()
    });
    let moves = Moves {
        all: parts.iter().map(|part| part.all).sum(),
        held: parts.iter().map(|part| part.held).sum(),
        mid_result: parts.iter().map(|part| part.mid_result).sum(),
    };
    // Otherwise the cases above say nothing of upgrades.
    assert!(
        seeds < 250 || (moves.all > 400 && moves.held > 30 && moves.mid_result > 200),
        "{moves:?}"
    );
}

/// The plan of a COPY is for the columns of its lines: no row of another order is taken by it.
#[test]
fn sim_rows_within_a_copy_are_not_believed() {
    let copy = "copy (select ssn, id from customers) to stdout";
    for sql in [copy.to_owned(), format!("{copy} -- described")] {
        let mut world = World::new(1);
        (world.upgrades, world.record_fails) = (false, false);
        let mut script = hello();
        message(&mut script.bytes, b'Q', &[sql.as_bytes(), b"\0"].concat());
        world.run(&script);
        assert_eq!(world.server.ran, [sql], "it was not run");
        let shown = String::from_utf8_lossy(&world.to_client).into_owned();
        assert!(!shown.contains(SECRET), "the secret reached the client");
        assert!(world.closed, "it went on with a server that is confused");
    }
}

/// Preparations are labelled.
fn is_labelled(fact: &Fact, name: &str) -> bool {
    fact.labels.iter().any(|label| label.0 == name)
}
