//! Every way of tampering with what ClickHouse holds is named by `verify`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[path = "running/store.rs"]
mod running;

use clickhouse::Client;
use running::{Scratch, Store};
use weir_model::fact::{Fact, FactContext, FactKind};
use weir_record::{
    Durability, Shipper, ShipperConfig, ShipperMetrics, SpoolConfig, SpoolDir, audit, migrate,
};
use weir_spool::schema::COLUMNS;

const SESSION: u128 = 0x0190_f0c2_0000_7000_8000_0000_0000_0001;
const FACTS: u32 = 12;

fn fact(context: &Arc<FactContext>, seq: u32) -> Fact {
    let wall_us = weir_clock::now().wall_us;
    let mut fact = Fact::new(Arc::clone(context), FactKind::Request, seq, wall_us);
    fact.statement = Arc::from(format!("select {seq}"));
    fact
}

async fn execute(admin: &Client, sql: &str) {
    let done = admin.clone().with_database("weir").query_raw(sql);
    done.execute()
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
}

/// Ships two sealed segments and leaves pristine copies of both tables.
async fn recorded(scratch: &Scratch, store: &Store) -> SpoolDir {
    let admin = store.address("migrator").client();
    migrate::migrate(&admin, "weir", migrate::Layout::Local)
        .await
        .unwrap();
    let mut last = None;
    for epoch in 0..2 {
        let spool = SpoolDir::open(SpoolConfig {
            directory: scratch.0.join("spool"),
            key_file: scratch.0.join("node.key"),
            limit_bytes: 1 << 30,
            durability: Durability::Process,
        })
        .unwrap();
        let mut lane = spool.lane(0, weir_clock::now()).unwrap();
        let context = Arc::new(FactContext {
            session_id: SESSION + epoch,
            node: "n1".to_owned(),
            workload: "analyst".to_owned(),
            ..FactContext::default()
        });
        for seq in 1..=FACTS {
            lane.push(&fact(&context, seq)).unwrap();
            if seq % 3 == 0 {
                lane.commit(weir_clock::now()).unwrap();
            }
        }
        lane.close(weir_clock::now()).unwrap();
        let config = ShipperConfig {
            stores: vec![store.address("writer")],
            node_name: "n1".to_owned(),
            rows_max: 6,
            age: Duration::ZERO,
            keep_bytes: 1 << 30,
        };
        let metrics = ShipperMetrics::register(&prometheus::Registry::new()).unwrap();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        stop.send(true).unwrap();
        let shipper = Shipper::new(config, &spool, metrics);
        shipper.run(stopped).await;
        last = Some(spool);
    }
    for table in ["fact", "batch"] {
        execute(&admin, &format!("CREATE TABLE clean_{table} AS {table}")).await;
        let copy = format!("INSERT INTO clean_{table} SELECT * FROM {table}");
        execute(&admin, &copy).await;
    }
    last.unwrap()
}

struct Record {
    admin: Client,
    reader: Client,
    spool: SpoolDir,
}

impl Record {
    /// Puts `select` in place of a table's rows, and verifies with and without the spool.
    async fn tampered(&self, table: &str, select: &str) -> [audit::Report; 2] {
        self.replace(table, select).await;
        let with = self.verify(Some(self.spool.directory())).await;
        let without = self.verify(None).await;
        let all = format!("SELECT * FROM clean_{table}");
        self.replace(table, &all).await;
        [with, without]
    }

    async fn replace(&self, table: &str, select: &str) {
        execute(&self.admin, &format!("TRUNCATE TABLE {table}")).await;
        let insert = format!("INSERT INTO {table} SETTINGS insert_deduplicate = 0 {select}");
        execute(&self.admin, &insert).await;
    }

    async fn verify(&self, spool: Option<&Path>) -> audit::Report {
        let key = self.spool.history();
        let scope = audit::Scope {
            node_id: self.spool.node(),
            node: "n1",
            keys: &key,
            spool,
            now_s: weir_clock::now().unix_s(),
            on_its_way: Duration::ZERO,
        };
        audit::verify_store(&self.reader, &scope).await.unwrap()
    }
}

/// Another value of a column's type.
fn other(name: &str, ty: &str) -> String {
    match ty {
        "UInt128" | "UInt64" | "UInt32" => format!("{name} + 1"),
        "Bool" => format!("NOT {name}"),
        ty if ty.starts_with("Enum8('flow'") => "'reply'".to_owned(),
        ty if ty.starts_with("Enum8(") => "'deny'".to_owned(),
        ty if ty.starts_with("DateTime64(") => format!("{name} + INTERVAL 1 SECOND"),
        ty if ty.starts_with("Array(") => format!("arrayConcat({name}, ['x'])"),
        ty if ty.starts_with("Map(") => "map('x', 'y')".to_owned(),
        _ => format!("concat({name}, 'x')"),
    }
}

fn named(report: &audit::Report, words: &[&str]) -> bool {
    report
        .findings
        .iter()
        .any(|finding| words.iter().all(|word| finding.contains(word)))
}

async fn columns(record: &Record) {
    for column in COLUMNS {
        let (name, at) = (column.name, "epoch = 1 AND position = 5");
        let changed = other(name, column.ty);
        let select = format!(
            "SELECT * REPLACE(CAST(if({at}, {changed}, {name}), $${}$$) AS {name}) FROM clean_fact",
            column.ty
        );
        let [with, without] = record.tampered("fact", &select).await;
        let says: &[&str] = match name {
            // Moved to another place: its old one is empty.
            "node" | "epoch" | "segment" | "position" => {
                &["segment 1-0-1", "position 5", "missing"]
            }
            _ => &["segment 1-0-1", "position 5 ", "changed"],
        };
        assert!(named(&with, says), "{name}: {:?}", with.findings);
        assert!(named(&without, says), "{name}: {:?}", without.findings);
        if says.contains(&"changed") {
            assert!(
                named(&with, &["position 5 ", &format!("changed: {name}")]),
                "{name}"
            );
        }
    }
}

async fn rows(record: &Record) {
    let at = "epoch = 1 AND position = 5";
    let rest = "SELECT * FROM clean_fact";
    let cases: [(&str, String, &[&str]); 7] = [
        (
            "deleted",
            format!("{rest} WHERE NOT ({at})"),
            &["1-0-1 position 5", "missing"],
        ),
        (
            "several deleted",
            format!("{rest} WHERE NOT (epoch = 1 AND position BETWEEN 3 AND 8)"),
            &["1-0-1 positions 3 to 6", "missing"],
        ),
        (
            "tail deleted",
            format!("{rest} WHERE NOT (epoch = 2 AND position > 9)"),
            &["2-0-1 positions 10 to 12", "missing"],
        ),
        (
            "segment deleted",
            format!("{rest} WHERE epoch != 2"),
            &["2-0-1 positions 1 to 6", "missing"],
        ),
        (
            "doubled",
            format!("{rest} UNION ALL {rest} WHERE {at}"),
            &["1-0-1 position 5 ", "doubled"],
        ),
        (
            "inserted behind the end",
            format!(
                "{rest} UNION ALL SELECT * REPLACE(toUInt32(13) AS position) FROM (SELECT * FROM clean_fact WHERE {at})"
            ),
            &["1-0-1 position 13 ", "inserted"],
        ),
        (
            "swapped",
            "SELECT * REPLACE(toUInt32(multiIf(epoch = 1 AND position = 5, 6, epoch = 1 AND \
             position = 6, 5, position)) AS position) FROM clean_fact"
                .to_owned(),
            &["1-0-1 position 5 ", "changed"],
        ),
    ];
    for (what, select, says) in cases {
        for report in record.tampered("fact", &select).await {
            assert!(named(&report, says), "{what}: {:?}", report.findings);
            assert_eq!(report.verdict(), audit::Verdict::Findings);
        }
    }
}

/// A row of another segment's content with a digest that fits it: only the chain can tell.
async fn with_fitting_digest(record: &Record) {
    // The row of position 5 in epoch 2, recorded by an honest node of the same place and name, is
    // a row with a valid digest; here it comes from a second spool with other statements.
    let admin = &record.admin;
    let foreign = Scratch::new("tamper-foreign");
    let spool = SpoolDir::open(SpoolConfig {
        directory: foreign.0.join("spool"),
        key_file: foreign.0.join("node.key"),
        limit_bytes: 1 << 30,
        durability: Durability::Process,
    })
    .unwrap();
    let mut lane = spool.lane(0, weir_clock::now()).unwrap();
    let context = Arc::new(FactContext {
        session_id: SESSION,
        node: "n1".to_owned(),
        ..FactContext::default()
    });
    for seq in 1..=5 {
        lane.push(&fact(&context, seq)).unwrap();
    }
    lane.close(weir_clock::now()).unwrap();
    let file = std::fs::read(spool.directory().join("00000001-000-00000001.seg")).unwrap();
    let header = weir_spool::read_header(&file).unwrap();
    let mut reader = weir_spool::BlockReader::new(&header);
    let Ok(weir_spool::Next::Block(block, _)) = reader.next(&file[header.len..]) else {
        panic!("a block")
    };
    let row = block.rows().nth(4).flatten().unwrap().to_vec();
    record
        .replace(
            "fact",
            "SELECT * FROM clean_fact WHERE NOT (epoch = 1 AND position = 5)",
        )
        .await;
    let mut insert = admin
        .clone()
        .with_database("weir")
        .insert_formatted_with("INSERT INTO fact FORMAT RowBinary");
    insert.send(row.into()).await.unwrap();
    insert.end().await.unwrap();
    let without = record.verify(None).await;
    assert!(
        named(&without, &["1-0-1 batch 1", "rows do not give its hash"]),
        "{:?}",
        without.findings
    );
    let with = record.verify(Some(record.spool.directory())).await;
    assert!(
        named(&with, &["1-0-1 position 5 ", "changed:", "workload"]),
        "{:?}",
        with.findings
    );
    record.replace("fact", "SELECT * FROM clean_fact").await;
}

async fn batches(record: &Record) {
    let rest = "SELECT * FROM clean_batch";
    let cases = [
        (
            format!("{rest} WHERE NOT (epoch = 1 AND batch = 1)"),
            "1-0-1",
        ),
        (
            format!("{rest} WHERE NOT (epoch = 1 AND batch = 2)"),
            "1-0-1",
        ),
        (format!("{rest} WHERE epoch != 2"), "2-0-1"),
        (
            format!("{rest} UNION ALL {rest} WHERE epoch = 1 AND batch = 1"),
            "1-0-1",
        ),
    ];
    for (select, says) in cases {
        for report in record.tampered("batch", &select).await {
            assert!(named(&report, &[says]), "{select}: {:?}", report.findings);
        }
    }
    for (name, value) in [
        ("node", "'n2'"),
        ("node_id", "'00'"),
        ("epoch", "toUInt32(7)"),
        ("segment", "toUInt64(9)"),
        ("batch", "toUInt32(9)"),
        ("first_position", "toUInt32(2)"),
        ("last_position", "toUInt32(5)"),
        ("facts", "toUInt32(5)"),
        ("previous_hash", "repeat('00', 32)"),
        ("hash", "repeat('00', 32)"),
        ("blocks", "[toUInt32(2), toUInt32(4)]"),
        ("signature", "repeat('00', 64)"),
    ] {
        let select = format!(
            "SELECT * REPLACE(if(epoch = 1 AND batch = 1, {value}, {name}) AS {name}) FROM clean_batch"
        );
        for report in record.tampered("batch", &select).await {
            assert!(named(&report, &["1-0-1"]), "{name}: {:?}", report.findings);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_changed_in_clickhouse_is_named() {
    let scratch = Scratch::new("tamper");
    let store = Store::start(&scratch, "127.0.0.1:0");
    let spool = recorded(&scratch, &store).await;
    let record = Record {
        admin: store.address("migrator").client(),
        reader: store.address("reader").client(),
        spool,
    };
    for spool in [Some(record.spool.directory()), None] {
        let clean = record.verify(spool).await;
        assert_eq!(clean.findings, Vec::<String>::new());
        assert_eq!(clean.verdict(), audit::Verdict::Clean);
        assert_eq!(
            (clean.facts, clean.last_anchor.as_str()),
            (u64::from(FACTS) * 2, "2-0-1")
        );
    }
    columns(&record).await;
    rows(&record).await;
    with_fitting_digest(&record).await;
    batches(&record).await;
    // The signed end taken away from the newest segment: no finding, and never clean.
    let unsigned = "SELECT * REPLACE(if(epoch = 2, '', signature) AS signature) FROM clean_batch";
    let [_, without] = record.tampered("batch", unsigned).await;
    assert_eq!(without.verdict(), audit::Verdict::Unproven);
    assert_eq!(
        (without.unproven, without.last_anchor.as_str()),
        (u64::from(FACTS), "1-0-1")
    );
    store.kill();
}
