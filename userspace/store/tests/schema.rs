//! Migrations, start-up checks, the cookbook and the cluster's texts on the real engine.

use std::sync::Arc;
use std::time::Duration;

#[path = "running/store.rs"]
mod running;

use clickhouse::Client;
use running::{Scratch, Store};
use serde_json::Value;
use weir_model::fact::{DecisionKind, Fact, FactContext, FactKind};
use weir_record::migrate::{self, Layout};
use weir_record::{
    Durability, Shipper, ShipperConfig, ShipperMetrics, SpoolConfig, SpoolDir, query, tables,
};

const COOKBOOK: &str = include_str!("../../../deploy/clickhouse/COOKBOOK.md");

fn cookbook() -> Vec<&'static str> {
    COOKBOOK
        .split("```sql\n")
        .skip(1)
        .map(|rest| rest.split_once("```").unwrap().0.trim())
        .collect()
}

async fn execute(admin: &Client, sql: &str) {
    let done = admin.clone().with_database("weir").query_raw(sql);
    done.execute()
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e}"));
}

/// One session: read with a masked answer, a denied delete, a held update that was approved.
fn facts() -> Vec<Fact> {
    let context = Arc::new(FactContext {
        session_id: 0x0190_f0c2_0000_7000_8000_0000_0000_0001,
        node: "n1".to_owned(),
        workload: "analyst".to_owned(),
        principal: "ada".to_owned(),
        ..FactContext::default()
    });
    let now_us = weir_clock::now().wall_us;
    let fact = |kind, seq| Fact::new(Arc::clone(&context), kind, seq, now_us);
    let mut read = fact(FactKind::Request, 1);
    read.statement = Arc::from("select email from shop.customers");
    read.objects = Arc::from(["shop.customers".to_owned()]);
    read.effects = Arc::from(["read".to_owned()]);
    read.decision = DecisionKind::Allow;
    let mut reply = fact(FactKind::Reply, 2);
    reply.reply_to = 1;
    reply.rows = 3;
    reply.masked_values = 3;
    reply.mask_rules = Arc::from(["email".to_owned()]);
    let mut denied = fact(FactKind::Request, 3);
    denied.statement = Arc::from("delete from shop.customers");
    denied.objects = Arc::clone(&read.objects);
    denied.effects = Arc::from(["delete".to_owned()]);
    denied.decision = DecisionKind::Deny;
    denied.rule = Arc::from("no-unbounded-delete");
    let mut held = fact(FactKind::Request, 4);
    held.statement = Arc::from("update shop.customers set x = 1 where id = 1");
    held.objects = Arc::clone(&read.objects);
    held.effects = Arc::from(["update".to_owned()]);
    held.decision = DecisionKind::Hold;
    let mut approval = fact(FactKind::Approval, 5);
    approval.reply_to = 4;
    approval.decision = DecisionKind::Approved;
    approval.approver = "grace".to_owned();
    vec![read, reply, denied, held, approval]
}

async fn record(scratch: &Scratch, store: &Store) {
    let spool = SpoolDir::open(SpoolConfig {
        directory: scratch.0.join("spool"),
        key_file: scratch.0.join("node.key"),
        limit_bytes: 1 << 30,
        durability: Durability::Process,
    })
    .unwrap();
    let mut lane = spool.lane(0, weir_clock::now()).unwrap();
    for fact in facts() {
        lane.push(&fact).unwrap();
    }
    lane.close(weir_clock::now()).unwrap();
    let config = ShipperConfig {
        stores: vec![store.address("writer")],
        node_name: "n1".to_owned(),
        rows_max: 1000,
        age: Duration::ZERO,
        keep_bytes: 1 << 30,
    };
    let metrics = ShipperMetrics::register(&prometheus::Registry::new()).unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    stop.send(true).unwrap();
    let shipper = Shipper::new(config, &spool, metrics);
    shipper.run(stopped).await;
}

async fn ask(reader: &Client, sql: &str) -> Vec<Value> {
    let rows = query::fetch(reader.query_raw(sql)).await;
    rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_are_applied_once_and_the_cookbook_answers() {
    let scratch = Scratch::new("schema");
    let store = Store::start(&scratch, "127.0.0.1:0");
    let admin = store.address("migrator").client();
    let all = migrate::pending(&admin, "weir", Layout::Local)
        .await
        .unwrap();
    assert_eq!(all.len(), migrate::MIGRATIONS.len());
    let applied = migrate::migrate(&admin, "weir", Layout::Local)
        .await
        .unwrap();
    assert_eq!(applied.len(), migrate::MIGRATIONS.len());
    let again = migrate::migrate(&admin, "weir", Layout::Local)
        .await
        .unwrap();
    assert_eq!(again, Vec::<&str>::new());
    let other = migrate::pending(&admin, "weir", Layout::Cluster)
        .await
        .unwrap_err();
    assert!(other.contains("applied with another text"), "{other}");

    record(&scratch, &store).await;
    let reader = store.address("reader").client();
    let mut answers = Vec::new();
    for sql in cookbook() {
        answers.push(ask(&reader, sql).await);
    }
    let first = |index: usize, column: &str| answers[index][0][column].clone();
    assert_eq!(answers[0].len(), 3);
    assert_eq!(first(0, "principal"), "ada");
    assert_eq!(
        (first(1, "result_rows"), first(1, "masked_values")),
        (3.into(), 3.into())
    );
    assert_eq!(
        (first(2, "outcome"), first(2, "approver")),
        ("approved".into(), "grace".into())
    );
    assert_eq!(
        (first(3, "rule"), first(3, "denials")),
        ("no-unbounded-delete".into(), 1.into())
    );
    assert_eq!(first(5, "most"), 3);
    assert_eq!(answers[6].len(), 0);
    store.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_wrong_with_the_tables_is_said() {
    let scratch = Scratch::new("tables");
    let store = Store::start(&scratch, "127.0.0.1:0");
    let admin = store.address("migrator").client();
    migrate::migrate(&admin, "weir", Layout::Local)
        .await
        .unwrap();
    let reader = store.address("reader").client();
    assert_eq!(tables::check(&reader).await.unwrap(), Vec::<String>::new());
    let cases = [
        (
            "ALTER TABLE batch MODIFY SETTING non_replicated_deduplication_window = 10",
            "table batch remembers too few",
        ),
        (
            "ALTER TABLE fact MODIFY SETTING fsync_after_insert = 0",
            "table fact may lose",
        ),
        (
            "ALTER TABLE fact MODIFY COLUMN pid UInt64",
            "column fact.pid is UInt64",
        ),
        (
            "ALTER TABLE fact MODIFY COLUMN comm DEFAULT 'x'",
            "column fact.comm has a DEFAULT",
        ),
        (
            "ALTER TABLE fact DROP COLUMN status",
            "column fact.status is missing",
        ),
        ("DROP VIEW fact_5m_feed", "view fact_5m_feed is missing"),
        ("DROP TABLE fact_5m", "table fact_5m is missing"),
    ];
    for (number, (sql, says)) in cases.iter().enumerate() {
        execute(&admin, sql).await;
        let problems = tables::check(&reader).await.unwrap();
        assert!(
            problems.iter().any(|p| p.contains(says)),
            "{sql}: {problems:?}"
        );
        assert_eq!(problems.len(), number + 1, "{problems:?}");
    }
    store.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_can_parse_what_it_cannot_run() {
    let scratch = Scratch::new("parse");
    let store = Store::start(&scratch, "127.0.0.1:0");
    let admin = store.address("migrator").client();
    let mut texts: Vec<String> = Layout::Cluster
        .files()
        .into_iter()
        .map(|file| file.1)
        .collect();
    for layout in [Layout::Local, Layout::Cluster] {
        texts.extend(migrate::role_statements(layout));
    }
    for statement in texts.iter().flat_map(|text| text.split(";\n")) {
        if statement.trim().is_empty() {
            continue;
        }
        let sql = "SELECT formatQuerySingleLine({sql:String}) AS text";
        let sql = admin.clone().with_database("default").query_raw(sql);
        let rows: Result<Vec<Value>, _> = query::fetch(sql.param("sql", statement)).await;
        assert!(rows.is_ok(), "{statement}: {rows:?}");
    }
    store.kill();
}
