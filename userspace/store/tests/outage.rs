//! Hours without ClickHouse, clocks that are set, a server that dies and one that takes over: every fact is
//! stored, once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[path = "running/store.rs"]
mod running;

use running::{Scratch, Store};
use weir_model::fact::{DecisionKind, Fact, FactContext, FactKind};
use weir_model::time::Now;
use weir_record::{
    Durability, Shipper, ShipperConfig, ShipperMetrics, SpoolConfig, SpoolDir, StoreAddress, audit,
    migrate, query,
};

const SESSION: u128 = 0x0190_f0c2_0000_7000_8000_0000_0000_0000;

fn open(root: &Path) -> SpoolDir {
    SpoolDir::open(SpoolConfig {
        directory: root.join("spool"),
        key_file: root.join("node.key"),
        limit_bytes: 8 << 30,
        durability: Durability::Process,
    })
    .unwrap()
}

fn context(session: u128) -> Arc<FactContext> {
    Arc::new(FactContext {
        session_id: SESSION + session,
        node: "n1".to_owned(),
        workload: "analyst".to_owned(),
        principal: "oid".to_owned(),
        ..FactContext::default()
    })
}

fn fact(context: &Arc<FactContext>, seq: u32, wall_us: i64) -> Fact {
    let mut fact = Fact::new(Arc::clone(context), FactKind::Request, seq, wall_us);
    fact.statement = Arc::from(format!("select {seq} from orders where id = {}", seq * 7));
    fact.decision = DecisionKind::Allow;
    fact
}

fn config(stores: Vec<StoreAddress>) -> ShipperConfig {
    ShipperConfig {
        stores,
        node_name: "n1".to_owned(),
        rows_max: 20_000,
        age: Duration::from_millis(100),
        keep_bytes: 8 << 30,
    }
}

fn metrics() -> ShipperMetrics {
    ShipperMetrics::register(&prometheus::Registry::new()).unwrap()
}

async fn migrated(store: &Store) {
    let admin = store.address("migrator").client();
    migrate::migrate(&admin, "weir", migrate::Layout::Local)
        .await
        .unwrap();
}

async fn stored(address: &StoreAddress) -> Option<u64> {
    let sql = "SELECT count() AS n, uniqExact(session_id, seq) AS u FROM fact";
    let rows: Vec<serde_json::Value> = query::fetch(address.client().query_raw(sql)).await.ok()?;
    assert_eq!(rows[0]["n"], rows[0]["u"], "facts are stored once");
    rows[0]["n"].as_u64()
}

async fn until_stored(address: &StoreAddress, expected: u64) {
    let started_us = weir_clock::now().mono_us;
    while stored(address).await.unwrap_or(0) != expected {
        let waited_us = weir_clock::now().mono_us - started_us;
        assert!(waited_us < 240_000_000, "not shipped in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn clean(spool: &SpoolDir, reader: &StoreAddress, expected: u64) {
    let key = spool.history();
    let scope = audit::Scope {
        node_id: spool.node(),
        node: "n1",
        keys: &key,
        spool: Some(spool.directory()),
        now_s: weir_clock::now().unix_s(),
        on_its_way: Duration::ZERO,
    };
    let report = audit::verify_store(&reader.client(), &scope).await.unwrap();
    assert_eq!(report.findings, Vec::<String>::new());
    assert_eq!((report.facts, report.unproven), (expected, 0));
    let files = audit::verify_files(spool.directory(), &key).unwrap();
    assert_eq!(files.findings, Vec::<String>::new());
    assert_eq!(files.facts, expected);
}

/// `cargo xtask bench record` does the same with an hour's facts and more.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_recorded_while_the_store_was_down_arrives_once() {
    const SESSIONS: u32 = 20;
    const FACTS: u32 = 3000;
    let scratch = Scratch::new("outage");
    let spool = open(&scratch.0);
    // Nobody listens here.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = nowhere.local_addr().unwrap().to_string();
    drop(nowhere);
    let address = |role: &str| StoreAddress {
        url: format!("http://{listen}"),
        database: "weir".to_owned(),
        token: Some(format!("{role}-{role}-{role}").into()),
    };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let shipper = Shipper::new(config(vec![address("writer")]), &spool, metrics());
    let shipper = tokio::spawn(shipper.run(stopped));
    let mut lanes = [0, 1].map(|lane| spool.lane(lane, weir_clock::now()).unwrap());
    let contexts: Vec<_> = (0..SESSIONS).map(|s| context(s.into())).collect();
    for seq in 1..=FACTS {
        let now = weir_clock::now();
        for (lane, context) in [0, 1].into_iter().cycle().zip(&contexts) {
            lanes[lane].push(&fact(context, seq, now.wall_us)).unwrap();
        }
        for lane in &mut lanes {
            lane.commit(now).unwrap();
        }
    }
    for lane in lanes {
        lane.close(weir_clock::now()).unwrap();
    }
    let store = Store::start(&scratch, &listen);
    migrated(&store).await;
    let expected = u64::from(SESSIONS * FACTS);
    until_stored(&address("reader"), expected).await;
    stop.send(true).unwrap();
    shipper.await.unwrap();
    clean(&spool, &address("reader"), expected).await;
    store.kill();
}

/// By hours and by months, back and forth, within one batch: more days than a server takes at once by
/// itself. (What is older than the table's TTL is not kept by it.)
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_loses_nothing_and_doubles_nothing() {
    const FACTS: u32 = 600;
    let scratch = Scratch::new("clock");
    let store = Store::start(&scratch, "127.0.0.1:0");
    migrated(&store).await;
    let spool = open(&scratch.0);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let shipper = Shipper::new(config(vec![store.address("writer")]), &spool, metrics());
    let shipper = tokio::spawn(shipper.run(stopped));
    let start = weir_clock::now();
    let mut lane = spool.lane(0, start).unwrap();
    let context = context(1);
    for seq in 1..=FACTS {
        let hours = match seq % 4 {
            0 => -i64::from(seq),
            1 => i64::from(seq) * 7,
            2 => -1,
            _ => 24 * i64::from(seq % 300),
        };
        let now = Now {
            mono_us: start.mono_us + u64::from(seq) * 1000,
            wall_us: start.wall_us + hours * 3_600_000_000,
        };
        lane.push(&fact(&context, seq, now.wall_us)).unwrap();
        lane.commit(now).unwrap();
    }
    lane.close(start).unwrap();
    until_stored(&store.address("reader"), FACTS.into()).await;
    stop.send(true).unwrap();
    shipper.await.unwrap();
    clean(&spool, &store.address("reader"), FACTS.into()).await;
    store.kill();
}

/// Two fronts of one table, as two replicas share their tokens: the first address never answers.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_replica_takes_over_when_one_is_gone() {
    const FACTS: u32 = 500;
    let scratch = Scratch::new("replicas");
    let store = Store::start(&scratch, "127.0.0.1:0");
    migrated(&store).await;
    let spool = open(&scratch.0);
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = StoreAddress {
        url: format!("http://{}", gone.local_addr().unwrap()),
        ..store.address("writer")
    };
    drop(gone);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let registry = prometheus::Registry::new();
    let metrics = ShipperMetrics::register(&registry).unwrap();
    let stores = vec![dead, store.address("writer")];
    let shipper = tokio::spawn(Shipper::new(config(stores), &spool, metrics).run(stopped));
    let mut lane = spool.lane(0, weir_clock::now()).unwrap();
    let context = context(1);
    for seq in 1..=FACTS {
        let now = weir_clock::now();
        lane.push(&fact(&context, seq, now.wall_us)).unwrap();
        lane.commit(now).unwrap();
    }
    lane.close(weir_clock::now()).unwrap();
    until_stored(&store.address("reader"), FACTS.into()).await;
    stop.send(true).unwrap();
    shipper.await.unwrap();
    clean(&spool, &store.address("reader"), FACTS.into()).await;
    let value = |name: &str| {
        let all = registry.gather();
        let family = all.iter().find(|family| family.name() == name).unwrap();
        family.get_metric()[0].get_gauge().get_value()
    };
    assert_eq!(value("weir_shipper_store") as u64, 1);
    assert_eq!(value("weir_shipper_unshipped_bytes") as u64, 0);
    store.kill();
}
