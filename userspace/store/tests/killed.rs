//! The node's process and the store are killed with SIGKILL at random moments, many times: what had a
//! receipt is stored, nothing is stored twice, and the record verifies.
//!
//! The moments come from a seed, which is printed; `WEIR_SEED` repeats one.
#![expect(
    clippy::disallowed_methods,
    reason = "the seed of another run comes from the environment"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[path = "running/store.rs"]
mod running;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use running::{Scratch, Store};
use weir_model::fact::{DecisionKind, Fact, FactContext, FactKind};
use weir_model::ident::SessionId;
use weir_record::{
    Durability, Shipper, ShipperConfig, ShipperMetrics, SpoolConfig, SpoolDir, StoreAddress, audit,
    migrate, query,
};

const DIRECTORY: &str = "WEIR_TEST_NODE";
const STORE: &str = "WEIR_TEST_STORE";
const ROUNDS: u32 = 12;
const LANES: u32 = 2;

fn open(root: &Path) -> SpoolDir {
    SpoolDir::open(SpoolConfig {
        directory: root.join("spool"),
        key_file: root.join("node.key"),
        limit_bytes: 1 << 30,
        durability: Durability::Process,
    })
    .unwrap()
}

fn address(listen: &str, role: &str) -> StoreAddress {
    StoreAddress {
        url: format!("http://{listen}"),
        database: "weir".to_owned(),
        token: Some(format!("{role}-{role}-{role}").into()),
    }
}

/// The node: lanes on threads of their own, one shipper. Says each receipt it got.
#[tokio::test(flavor = "multi_thread")]
async fn node() {
    // Only the test below gives it something to do, and kills it.
    let (Some(root), Some(listen)) = (std::env::var_os(DIRECTORY), std::env::var_os(STORE)) else {
        return;
    };
    let spool = open(Path::new(&root));
    let config = ShipperConfig {
        stores: vec![address(listen.to_str().unwrap(), "writer")],
        node_name: "n1".to_owned(),
        rows_max: 400,
        age: Duration::from_millis(20),
        keep_bytes: 1 << 30,
    };
    let metrics = ShipperMetrics::register(&prometheus::Registry::new()).unwrap();
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    for lane in 0..LANES {
        let session = (u128::from(spool.epoch()) << 8) | u128::from(lane);
        let mut lane = spool.lane(lane, weir_clock::now()).unwrap();
        std::thread::spawn(move || {
            let context = Arc::new(FactContext {
                session_id: session,
                node: "n1".to_owned(),
                ..FactContext::default()
            });
            for seq in 1.. {
                let now = weir_clock::now();
                let mut fact = Fact::new(Arc::clone(&context), FactKind::Request, seq, now.wall_us);
                fact.statement = Arc::from("x".repeat(seq as usize % 900));
                fact.decision = DecisionKind::Allow;
                lane.push(&fact).unwrap();
                let receipts = lane.commit(now).unwrap();
                let covered = receipts.iter().any(|r| r.covers(SessionId(session), seq));
                assert!(covered);
                // In one piece, or its end is missed.
                let line = format!("receipt {session} {seq}\n");
                std::io::stderr().lock().write_all(line.as_bytes()).unwrap();
                // Not more than the test can read and the store can take.
                std::thread::sleep(Duration::from_micros(300));
            }
        });
    }
    Shipper::new(config, &spool, metrics).run(stopped).await;
}

/// Session → newest receipt.
type Receipts = Arc<Mutex<BTreeMap<u128, u32>>>;

struct Node {
    child: Child,
    reading: std::thread::JoinHandle<()>,
}

impl Node {
    fn start(root: &Path, listen: &str, receipts: &Receipts) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "node", "--nocapture"])
            .env(DIRECTORY, root)
            .env(STORE, listen)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stderr.take().unwrap());
        let receipts = Arc::clone(receipts);
        let reading = std::thread::spawn(move || {
            // What is in the pipe is still read after the kill: those receipts count as well.
            let mut line = String::new();
            while output.read_line(&mut line).unwrap() > 0 {
                let told = line.strip_prefix("receipt ");
                // Half a line is the last one of a process that was killed.
                if let Some(told) = told.and_then(|told| told.strip_suffix('\n')) {
                    let (session, seq) = told.split_once(' ').unwrap();
                    let (session, seq) = (session.parse().unwrap(), seq.parse().unwrap());
                    receipts.lock().unwrap().insert(session, seq);
                }
                line.clear();
            }
        });
        Self { child, reading }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        assert!(!self.child.wait().unwrap().success());
        self.reading.join().unwrap();
    }
}

fn seed() -> u64 {
    let given = std::env::var("WEIR_SEED").ok();
    let seed = given.and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    writeln!(std::io::stderr().lock(), "WEIR_SEED={seed}").unwrap();
    seed
}

#[tokio::test(flavor = "multi_thread")]
async fn what_had_a_receipt_is_stored_once_whoever_is_killed() {
    let mut chance = StdRng::seed_from_u64(seed());
    let scratch = Scratch::new("killed");
    let root = &scratch.0;
    let mut store = Store::start(&scratch, "127.0.0.1:0");
    let listen = store.url.trim_start_matches("http://").to_owned();
    migrate::migrate(
        &store.address("migrator").client(),
        "weir",
        migrate::Layout::Local,
    )
    .await
    .unwrap();
    let receipts = Receipts::default();
    let mut node = Node::start(root, &listen, &receipts);
    for _round in 0..ROUNDS {
        tokio::time::sleep(Duration::from_micros(chance.random_range(1_000..700_000))).await;
        // Neither is spared, and sometimes both die.
        let (kill_node, kill_store) = match chance.random_range(0..3) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        if kill_store {
            store.kill();
            tokio::time::sleep(Duration::from_micros(chance.random_range(0..200_000))).await;
            store = Store::start(&scratch, &listen);
        }
        if kill_node {
            node.kill();
            node = Node::start(root, &listen, &receipts);
        }
    }
    node.kill();

    // Whoever comes next ships what is left.
    let spool = open(root);
    let config = ShipperConfig {
        stores: vec![store.address("writer")],
        node_name: "n1".to_owned(),
        rows_max: 400,
        age: Duration::ZERO,
        keep_bytes: 1 << 30,
    };
    let metrics = ShipperMetrics::register(&prometheus::Registry::new()).unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    stop.send(true).unwrap();
    Shipper::new(config, &spool, metrics).run(stopped).await;

    let reader = store.address("reader").client();
    let sql = "SELECT toString(session_id) AS session, count() AS n, max(seq) AS last, \
        uniqExact(seq) AS u FROM fact GROUP BY session_id";
    let rows: Vec<serde_json::Value> = query::fetch(reader.query_raw(sql)).await.unwrap();
    let mut total = 0;
    let mut stored = BTreeMap::new();
    for row in &rows {
        assert_eq!((&row["n"], &row["n"]), (&row["last"], &row["u"]), "{row}");
        total += row["n"].as_u64().unwrap();
        let session: u128 = row["session"].as_str().unwrap().parse().unwrap();
        stored.insert(session, row["last"].as_u64().unwrap());
    }
    let receipts = receipts.lock().unwrap().clone();
    assert!(
        receipts.len() > 2,
        "the node wrote too little: {receipts:?}"
    );
    for (session, told) in &receipts {
        let last = stored.get(session).copied().unwrap_or(0);
        // One fact may be in the spool whose receipt was not told.
        let told = u64::from(*told);
        assert!(
            (told..=told + 1).contains(&last),
            "{session}: {told} told, {last} stored"
        );
    }
    let key = spool.history();
    let scope = audit::Scope {
        node_id: spool.node(),
        node: "n1",
        keys: &key,
        spool: Some(spool.directory()),
        now_s: weir_clock::now().unix_s(),
        on_its_way: Duration::ZERO,
    };
    let report = audit::verify_store(&reader, &scope).await.unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!(report.facts, total);
    let files = audit::verify_files(spool.directory(), &key).unwrap();
    assert_eq!(files.findings, Vec::<String>::new());
    store.kill();
}
