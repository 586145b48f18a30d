//! Anchors and changes of the node's key in ClickHouse: what contradicts them is named.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[path = "running/store.rs"]
mod running;

use clickhouse::Client;
use running::{Scratch, Store};
use weir_model::fact::{Fact, FactContext, FactKind};
use weir_record::anchor::{AnchorConfig, AnchorMetrics, Anchoring};
use weir_record::audit::{Anchors, Report, Verdict};
use weir_record::{
    Durability, FileSegment, Shipper, ShipperConfig, ShipperMetrics, SpoolConfig, SpoolDir, audit,
    migrate, tables,
};
use weir_spool::Lane;

struct World {
    scratch: Scratch,
    store: Store,
    admin: Client,
    reader: Client,
    spool: SpoolDir,
    lane: Lane<FileSegment>,
    seq: u32,
}

impl World {
    async fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let store = Store::start(&scratch, "127.0.0.1:0");
        let admin = store.address("migrator").client();
        let layout = migrate::Layout::Local;
        migrate::migrate(&admin, "weir", layout).await.unwrap();
        let spool = SpoolDir::open(SpoolConfig {
            directory: scratch.0.join("spool"),
            key_file: scratch.0.join("node.key"),
            limit_bytes: 1 << 30,
            durability: Durability::Process,
        })
        .unwrap();
        let lane = spool.lane(0, weir_clock::now()).unwrap();
        let reader = store.address("reader").client();
        Self {
            scratch,
            store,
            admin,
            reader,
            spool,
            lane,
            seq: 0,
        }
    }

    fn write(&mut self, facts: u32) {
        let context = Arc::new(FactContext {
            session_id: 7,
            node: "n1".to_owned(),
            ..FactContext::default()
        });
        let now = weir_clock::now();
        for _ in 0..facts {
            self.seq += 1;
            let fact = Fact::new(
                Arc::clone(&context),
                FactKind::Request,
                self.seq,
                now.wall_us,
            );
            self.lane.push(&fact).unwrap();
            self.lane.commit(now).unwrap();
        }
    }

    async fn anchor(&self) {
        let config = AnchorConfig {
            node_name: "n1".to_owned(),
            every: Duration::from_secs(3600),
            stores: vec![self.store.address("writer")],
            witness: None,
        };
        let metrics = AnchorMetrics::register(&prometheus::Registry::new()).unwrap();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        stop.send(true).unwrap();
        Anchoring::new(config, &self.spool, metrics)
            .run(stopped)
            .await;
    }

    async fn ship(&self) {
        let config = ShipperConfig {
            stores: vec![self.store.address("writer")],
            node_name: "n1".to_owned(),
            rows_max: 3,
            age: Duration::ZERO,
            keep_bytes: 1 << 30,
        };
        let metrics = ShipperMetrics::register(&prometheus::Registry::new()).unwrap();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        stop.send(true).unwrap();
        Shipper::new(config, &self.spool, metrics)
            .run(stopped)
            .await;
    }

    async fn verify(&self, spool: Option<&Path>) -> Report {
        let keys = self.spool.history();
        let scope = audit::Scope {
            node_id: self.spool.node(),
            node: "n1",
            keys: &keys,
            spool,
            now_s: weir_clock::now().unix_s(),
            on_its_way: Duration::ZERO,
        };
        audit::verify_store(&self.reader, &scope).await.unwrap()
    }

    async fn execute(&self, sql: &str) {
        let admin = self.admin.clone().with_database("weir");
        let done = admin.query_raw(sql).execute().await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn keep(&self, table: &str) {
        let made = format!("CREATE TABLE clean_{table} AS {table}");
        self.execute(&made).await;
        let copied = format!("INSERT INTO clean_{table} SELECT * FROM {table}");
        self.execute(&copied).await;
    }

    /// Verifies with other rows in a table, without the spool, and puts the right ones back.
    async fn with(&self, table: &str, select: &str) -> Report {
        self.replace(table, select).await;
        let report = self.verify(None).await;
        self.replace(table, &format!("SELECT * FROM clean_{table}"))
            .await;
        report
    }

    async fn replace(&self, table: &str, select: &str) {
        self.execute(&format!("TRUNCATE TABLE {table}")).await;
        let insert = format!("INSERT INTO {table} SETTINGS insert_deduplicate = 0 {select}");
        self.execute(&insert).await;
    }
}

fn names(report: &Report, words: &[&str]) -> bool {
    report
        .findings
        .iter()
        .any(|finding| words.iter().all(|word| finding.contains(word)))
}

async fn anchors(world: &World) {
    let cut = "SELECT * FROM clean_batch WHERE last_position <= 3";
    let report = world.with("batch", cut).await;
    assert!(
        names(
            &report,
            &["1-0-1", "cut off behind position 3", "signed 5 facts"]
        ),
        "{:?}",
        report.findings
    );
    let report = world
        .with("batch", "SELECT * FROM clean_batch WHERE 0")
        .await;
    assert!(names(&report, &["1-0-1", "facts of no batch"]));
    for (name, value, says) in [
        ("position", "toUInt32(9)", "signature of an anchor"),
        ("hash", "repeat('00', 32)", "signature of an anchor"),
        ("signature", "repeat('00', 64)", "signature of an anchor"),
        ("at", "at + INTERVAL 1 SECOND", "signature of an anchor"),
        ("hash", "'x'", "cannot be read"),
        ("segment", "toUInt64(2)", "signature of an anchor"),
    ] {
        let select = format!("SELECT * REPLACE({value} AS {name}) FROM clean_anchor");
        let report = world.with("anchor", &select).await;
        if name == "segment" {
            // The hash is of the segment: its signature holds, and the facts are nowhere.
            assert!(
                names(&report, &["1-0-2", "cut off"]),
                "{:?}",
                report.findings
            );
        } else {
            assert!(names(&report, &[says]), "{name}: {:?}", report.findings);
        }
    }
    // Without it all of the open segment is unproven, and nothing is wrong.
    let report = world
        .with("anchor", "SELECT * FROM clean_anchor WHERE 0")
        .await;
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!((report.verdict(), report.unproven), (Verdict::Unproven, 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn anchors_in_clickhouse_prove_open_segments_and_name_what_is_cut() {
    let mut world = World::new("anchors").await;
    assert_eq!(
        tables::check(&world.reader).await.unwrap(),
        Vec::<String>::new()
    );
    world.write(5);
    world.anchor().await;
    // The facts are on their way: nothing is missing as long as the spool has them.
    let spool = world.scratch.0.join("spool");
    let report = world.verify(Some(&spool)).await;
    assert_eq!(report.findings, Vec::<String>::new());
    let report = world.verify(None).await;
    assert!(names(&report, &["1-0-1", "cut off behind position 0"]));
    world.write(3);
    world.ship().await;
    for spool in [Some(spool.as_path()), None] {
        let report = world.verify(spool).await;
        assert_eq!(report.findings, Vec::<String>::new());
        assert_eq!((report.verdict(), report.unproven), (Verdict::Unproven, 3));
        assert_eq!((report.last_anchor.as_str(), report.facts), ("1-0-1", 8));
    }
    world.keep("batch").await;
    world.keep("anchor").await;
    anchors(&world).await;
    // The spool's files are held against what ClickHouse has.
    let node = world.spool.node();
    let newest = Anchors::newest(&world.reader, node).await.unwrap();
    let file = spool.join("00000001-000-00000001.seg");
    let bytes = std::fs::read(&file).unwrap();
    let header = weir_spool::read_header(&bytes).unwrap().len;
    std::fs::write(&file, &bytes[..header]).unwrap();
    let keys = world.spool.history();
    let report = audit::verify_files_against(&spool, &keys, &newest).unwrap();
    assert!(names(&report, &["1-0-1", "cut off behind position 0"]));
    world.store.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_the_key_are_shipped_and_a_forged_history_is_named() {
    let mut world = World::new("key-changes").await;
    world.write(2);
    let rotate = |world: &World| {
        let keys = world.spool.keys();
        keys.rotate(world.spool.directory(), 1_000).unwrap();
    };
    rotate(&world);
    world.write(4);
    rotate(&world);
    world.write(4);
    world.ship().await;
    world.anchor().await;
    let spool = world.scratch.0.join("spool");
    for spool in [Some(spool.as_path()), None] {
        let report = world.verify(spool).await;
        assert_eq!(report.findings, Vec::<String>::new());
        assert_eq!((report.facts, report.unproven), (10, 0));
    }
    world.keep("node_key").await;
    let forged = "SELECT * REPLACE(replaceOne(line, '1000', '2000') AS line) FROM clean_node_key";
    let report = world.with("node_key", forged).await;
    assert!(names(&report, &["key change 1", "one of them is forged"]));
    let column = "SELECT * REPLACE('00' AS key) FROM clean_node_key";
    let report = world.with("node_key", column).await;
    assert!(names(&report, &["key change 2", "columns were changed"]));
    let more = "SELECT * REPLACE(change + 7 AS change) FROM clean_node_key";
    let report = world.with("node_key", more).await;
    assert!(names(
        &report,
        &["key change 8", "not in this node's history"]
    ));
    let doubled =
        "SELECT * FROM clean_node_key UNION ALL SELECT * FROM clean_node_key WHERE change = 1";
    let report = world.with("node_key", doubled).await;
    assert!(
        names(&report, &["key change 1", "doubled"]),
        "{:?}",
        report.findings
    );
    world
        .execute("ALTER TABLE node_key DELETE WHERE change = 2 SETTINGS mutations_sync = 2")
        .await;
    let report = world.verify(Some(&spool)).await;
    assert!(
        names(&report, &["key change 2", "deleted"]),
        "{:?}",
        report.findings
    );
    world.store.kill();
}
