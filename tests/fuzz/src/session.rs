//! A whole conversation: any client, a server that always has the secret in the masked column.
//!
//! Whatever is said in whatever order, the secret does not reach the client.

use std::sync::Arc;

use bytes::BytesMut;
use ed25519_dalek::SigningKey;
use weir_decide::{PolicySet, PolicySettings, PolicySource, TargetRef};
use weir_govern::{Credential, Event, Governor, Output, Session};
use weir_model::fact::FactContext;
use weir_model::ident::{EvidenceKind, Groups, Principal, PrincipalKind, SessionId};
use weir_model::time::Now;
use weir_postgres::vocabulary::VOCABULARY;
use weir_postgres::{PostgresConfig, PostgresSession};
use weir_spool::{Lane, LaneStart, SegmentFile, SegmentId, SpoolError};

const SECRET: &[u8] = b"900-11-2222";
const POLICIES: &str = r#"
@id("all") permit (principal, action, resource in Weir::Target::"t");
@id("mask") @mask("redact") forbid (principal, action == Postgres::Action::"readColumn",
    resource == Postgres::Column::"t/db/public/customers/ssn");
"#;
const SQL: [&str; 12] = [
    "select id, ssn from customers",
    "select * from customers",
    "select 1",
    "select code, id from people",
    "copy customers to stdout",
    "copy (select ssn, id from people p, customers) to stdout (format csv)",
    "prepare x as select ssn, id from customers",
    "execute x",
    "begin; declare c cursor for select id, ssn from customers; fetch all from c",
    "fetch 1 from c",
    "rollback",
    "update customers set id = 1 returning ssn, id",
];

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

fn set() -> Arc<PolicySet> {
    static SET: std::sync::OnceLock<Arc<PolicySet>> = std::sync::OnceLock::new();
    let made = SET.get_or_init(|| {
        let settings = PolicySettings {
            targets: vec!["t".to_owned()],
            ..PolicySettings::default()
        };
        let source = PolicySource {
            name: "p".to_owned(),
            text: POLICIES.to_owned(),
        };
        match PolicySet::compile(&[source], &[&VOCABULARY], &settings) {
            Ok(set) => Arc::new(set),
            Err(problems) => panic!("{problems:?}"),
        }
    });
    Arc::clone(made)
}

fn governor() -> Box<Governor> {
    let principal = Principal {
        kind: PrincipalKind::Application,
        cloud: Arc::from("public"),
        tenant: Arc::from("t1"),
        oid: Arc::from("o1"),
        app: Arc::from("a1"),
        roles: Default::default(),
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
        session_id: 7,
        ..FactContext::default()
    };
    let bound = Box::new(set().bind(&principal, &target));
    Box::new(Governor::new(SessionId(7), Arc::new(context), bound))
}

struct World {
    session: PostgresSession,
    lane: Lane<Memory>,
    from_server: BytesMut,
    from_client: BytesMut,
    shown: Vec<u8>,
    /// Whether the secret comes first. A server that describes one order and sends another is no case:
    /// nobody could tell which value is the secret.
    swapped: Option<bool>,
    now: Now,
}

fn frame(out: &mut BytesMut, tag: u8, parts: &[&[u8]]) {
    let body = parts.concat();
    out.extend_from_slice(&[tag]);
    out.extend_from_slice(&u32::try_from(body.len() + 4).unwrap_or(4).to_be_bytes());
    out.extend_from_slice(&body);
}

fn column(name: &str, number: i16, kind: u32) -> Vec<u8> {
    let mut out = [name.as_bytes(), b"\0"].concat();
    out.extend(100_u32.to_be_bytes());
    out.extend(number.to_be_bytes());
    out.extend(kind.to_be_bytes());
    out.extend([0; 8]);
    out
}

fn cells(values: &[&[u8]]) -> Vec<u8> {
    let mut out = u16::try_from(values.len()).unwrap_or(0).to_be_bytes().to_vec();
    for value in values {
        out.extend(u32::try_from(value.len()).unwrap_or(0).to_be_bytes());
        out.extend(*value);
    }
    out
}

impl World {
    fn new() -> Self {
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
        let config = PostgresConfig {
            target: Arc::from("t"),
            message_bytes_max: 1 << 16,
            ..PostgresConfig::default()
        };
        let Ok(lane) = Lane::open(Memory, start, now) else {
            panic!("no lane");
        };
        let mut world = Self {
            session: PostgresSession::new(config),
            lane,
            from_server: BytesMut::new(),
            from_client: BytesMut::new(),
            shown: Vec::new(),
            swapped: None,
            now,
        };
        let startup = b"\0\x03\0\0user\0a\0database\0db\0\0";
        world.from_client.extend_from_slice(&u32::try_from(startup.len() + 4).unwrap_or(0).to_be_bytes());
        world.from_client.extend_from_slice(startup);
        world.settle();
        frame(&mut world.from_server, b'R', &[&[0; 4]]);
        frame(&mut world.from_server, b'S', &[b"standard_conforming_strings\0on\0"]);
        frame(&mut world.from_server, b'S', &[b"client_encoding\0UTF8\0"]);
        frame(&mut world.from_server, b'K', &[&[0, 0, 0, 1, 0, 0, 0, 2]]);
        frame(&mut world.from_server, b'Z', &[b"I"]);
        world.settle();
        world.names();
        world.settle();
        world
    }

    /// The answer to the session's own question.
    fn names(&mut self) {
        for value in [&b"weir_app"[..], b"public"] {
            frame(&mut self.from_server, b'D', &[&cells(&[value])]);
            frame(&mut self.from_server, b'C', &[b"SELECT 1\0"]);
        }
        frame(&mut self.from_server, b'Z', &[b"I"]);
    }

    fn settle(&mut self) {
        for _ in 0..64 {
            self.session.handle_client(&mut self.from_client, self.now);
            self.session.handle_server(&mut self.from_server, self.now);
            let mut facts = Vec::new();
            self.session.drain_facts(&mut facts);
            let mut quiet = facts.is_empty();
            for fact in &facts {
                let _pushed = self.lane.push(fact);
            }
            if let (false, Ok(receipts)) = (quiet, self.lane.commit(self.now)) {
                for receipt in &receipts {
                    self.session.handle(Event::Recorded(*receipt), self.now);
                }
            }
            while let Some(output) = self.session.poll_output() {
                quiet = false;
                self.carry_out(output);
            }
            if quiet {
                return;
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        let event = match output {
            Output::ToClient(bytes) => return self.shown.extend_from_slice(&bytes.into_bytes()),
            Output::Identify => Event::Identified(governor()),
            Output::Connect(_) => Event::Connected(Credential {
                user: "weir_app".to_owned(),
                password: zeroize::Zeroizing::new(String::new()),
                server_proven: true,
                channel_binding: None,
            }),
            Output::Catalog(_) => Event::Catalog(Arc::new(crate::sql::catalog())),
            _ => return,
        };
        self.session.handle(event, self.now);
    }

    fn ask(&mut self, extended: bool, sql: &str) {
        if !extended {
            return frame(&mut self.from_client, b'Q', &[sql.as_bytes(), b"\0"]);
        }
        frame(&mut self.from_client, b'P', &[b"s\0", sql.as_bytes(), b"\0\0\0"]);
        frame(&mut self.from_client, b'B', &[b"\0s\0\0\0\0\0\0\0"]);
        frame(&mut self.from_client, b'E', &[b"\0\0\0\0\0"]);
        frame(&mut self.from_client, b'S', &[]);
    }

    /// The table's rows, described as the table's; `swapped` puts the secret first, if this is the
    /// first answer.
    fn answer(&mut self, described: bool, swapped: bool) {
        let swapped = *self.swapped.get_or_insert(swapped);
        if described {
            let (id, ssn) = (column("id", 1, 23), column("ssn", 2, 25));
            let pair = if swapped { [ssn, id] } else { [id, ssn] };
            frame(&mut self.from_server, b'T', &[&[0, 2], &pair[0], &pair[1]]);
        }
        let pair: [&[u8]; 2] = if swapped { [SECRET, b"1"] } else { [b"1", SECRET] };
        frame(&mut self.from_server, b'D', &[&cells(&pair)]);
    }
}

/// Bytes are steps: what kind of message, which statement, how it is answered.
pub(crate) fn conversation(data: &[u8]) {
    let mut world = World::new();
    let mut rest = data;
    while let Some(([step, choice], after)) = rest.split_first_chunk::<2>() {
        rest = after;
        let choice_of = usize::from(*choice);
        match step % 12 {
            0 | 1 => world.ask(step % 12 == 1, SQL[choice_of % SQL.len()]),
            2 => world.answer(choice & 1 == 0, choice & 2 == 0),
            3 => frame(&mut world.from_server, b'C', &[b"SELECT 1\0"]),
            4 => frame(&mut world.from_server, b'Z', &[&[b"ITE"[choice_of % 3]]]),
            5 => frame(&mut world.from_server, b"12nst3GHc"[choice_of % 9], &[]),
            6 => world.names(),
            7 => frame(&mut world.from_server, b'E', &[b"SERROR\0C22P02\0Mfailed\0\0"]),
            8 | 9 => {
                let (bytes, after) = rest.split_at(choice_of.min(rest.len()));
                rest = after;
                let to = if step % 12 == 8 { &mut world.from_client } else { &mut world.from_server };
                to.extend_from_slice(bytes);
            }
            10 => frame(&mut world.from_server, b'H', &[&[0, 0, 2, 0, 0, 0, 0]]),
            _ => frame(&mut world.from_client, b"SHC"[choice_of % 3], &[b""]),
        }
        world.settle();
    }
    let leaked = world.shown.windows(SECRET.len()).any(|window| window == SECRET);
    assert!(!leaked, "the secret reached the client");
}

/// A copy of the table, with any data behind the answer.
pub(crate) fn copy(data: &[u8]) {
    const COPIES: [&str; 4] = [
        "copy customers to stdout",
        "copy customers to stdout (format csv, quote '''')",
        "copy customers to stdout (format binary)",
        "copy customers (ssn) to stdout (format csv, header)",
    ];
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let choice = usize::from(*choice) % COPIES.len();
    let mut world = World::new();
    world.ask(false, COPIES[choice]);
    world.settle();
    let (format, count) = (u8::from(choice == 2), if choice == 3 { 1 } else { 2 });
    let formats = vec![0; count * 2];
    frame(&mut world.from_server, b'H', &[&[format, 0, u8::try_from(count).unwrap_or(0)], &formats]);
    for row in data.split(|byte| *byte == 0xfe) {
        frame(&mut world.from_server, b'd', &[row]);
        world.settle();
    }
    frame(&mut world.from_server, b'c', &[]);
    frame(&mut world.from_server, b'C', &[b"COPY 1\0"]);
    frame(&mut world.from_server, b'Z', &[b"I"]);
    world.settle();
}
