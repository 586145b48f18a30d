//! From the spool through the real engine, with the store killed on the way: exactly once.

#[path = "running/store.rs"]
mod running;

use std::sync::Arc;
use std::time::Duration;

use running::{Scratch, Store};
use weir_model::fact::{DecisionKind, Fact, FactContext, FactKind};
use weir_model::ident::SessionId;
use weir_record::{
    Durability, Shipper, ShipperConfig, ShipperMetrics, SpoolConfig, SpoolDir, StoreAddress, audit,
    migrate, query, replay,
};

fn facts(session: u128, count: u32) -> impl Iterator<Item = Fact> {
    let context = Arc::new(FactContext {
        session_id: session,
        node: "n1".to_owned(),
        workload: "analyst".to_owned(),
        principal: "oid".to_owned(),
        ..FactContext::default()
    });
    (1..=count).map(move |seq| {
        let wall_us = weir_clock::now().wall_us;
        let mut fact = Fact::new(Arc::clone(&context), FactKind::Request, seq, wall_us);
        fact.statement = Arc::from(format!("select {seq}"));
        fact.decision = DecisionKind::Allow;
        fact
    })
}

/// `UUIDv7` form, as real sessions have.
const FIRST_SESSION: u128 = 0x0190_f0c2_0000_7000_8000_0000_0000_0000;

async fn count(address: &StoreAddress) -> Option<u64> {
    let sql = "SELECT count() AS n, uniqExact(session_id, seq) AS u FROM fact";
    let rows: Vec<serde_json::Value> = query::fetch(address.client().query_raw(sql)).await.ok()?;
    assert_eq!(rows[0]["n"], rows[0]["u"], "facts are stored once");
    rows[0]["n"].as_u64()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_arrives_exactly_once_though_the_store_is_killed() {
    const SESSIONS: u32 = 10;
    const FACTS: u32 = 400;
    let scratch = Scratch::new("ship");
    let mut store = Store::start(&scratch, "127.0.0.1:0");
    migrate::migrate(
        &store.address("migrator").client(),
        "weir",
        migrate::Layout::Local,
    )
    .await
    .unwrap();
    migrate::migrate(
        &store.address("migrator").client(),
        "weir",
        migrate::Layout::Local,
    )
    .await
    .unwrap();
    let key_file = scratch.0.join("node.key");
    let spool = SpoolDir::open(SpoolConfig {
        directory: scratch.0.join("spool"),
        key_file: key_file.clone(),
        limit_bytes: 1 << 30,
        durability: Durability::Process,
    })
    .unwrap();
    let config = ShipperConfig {
        stores: vec![store.address("writer")],
        node_name: "n1".to_owned(),
        rows_max: 50,
        age: Duration::from_millis(100),
        keep_bytes: 1 << 30,
    };
    let metrics = ShipperMetrics::register(&prometheus::Registry::new()).unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let shipper = tokio::spawn(Shipper::new(config, &spool, metrics).run(stopped));
    let mut lane = spool.lane(0, weir_clock::now()).unwrap();
    for session in 0..SESSIONS {
        for fact in facts(FIRST_SESSION + u128::from(session), FACTS) {
            lane.push(&fact).unwrap();
            lane.commit(weir_clock::now()).unwrap();
        }
    }
    let expected = u64::from(SESSIONS * FACTS);
    let started_us = weir_clock::now().mono_us;
    let mut kills = 0;
    loop {
        let waited_us = weir_clock::now().mono_us - started_us;
        assert!(waited_us < 120_000_000, "not shipped in time");
        let stored = count(&store.address("reader")).await.unwrap_or(0);
        if stored == expected {
            break;
        }
        if kills < 3 && stored > expected * (kills + 1) / 5 {
            let listen = store.kill();
            store = Store::start(&scratch, &listen);
            kills += 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(kills, 3);
    lane.close(weir_clock::now()).unwrap();
    stop.send(true).unwrap();
    shipper.await.unwrap();

    let reader = store.address("reader").client();
    assert_eq!(count(&store.address("reader")).await, Some(expected));
    let key = spool.history();
    let scope = audit::Scope {
        node_id: spool.node(),
        node: "n1",
        keys: &key,
        spool: Some(spool.directory()),
        now_s: weir_clock::now().unix_s(),
        on_its_way: Duration::ZERO,
    };
    let stored = audit::verify_store(&reader, &scope).await.unwrap();
    assert_eq!(stored.findings, Vec::<String>::new());
    assert_eq!((stored.facts, stored.unproven), (expected, 0));
    assert_eq!(stored.last_anchor, "1-0-1");
    let report = audit::verify_files(spool.directory(), &spool.history()).unwrap();
    assert_eq!(
        (report.facts, report.unproven, report.findings.len()),
        (expected, 0, 0)
    );
    let sessions = query::sessions(&reader, 100).await.unwrap();
    assert_eq!(sessions.len(), SESSIONS as usize);
    let mut ids: Vec<_> = sessions
        .iter()
        .filter_map(|row| SessionId::parse(&row.session))
        .map(|id| id.0)
        .collect();
    ids.sort_unstable();
    let all: Vec<_> = (0..SESSIONS)
        .map(|n| FIRST_SESSION + u128::from(n))
        .collect();
    assert_eq!(ids, all);
    assert_eq!(sessions[0].requests, u64::from(FACTS));
    let facts = query::session_facts(&reader, FIRST_SESSION + 7)
        .await
        .unwrap();
    assert_eq!(facts.len(), FACTS as usize);
    assert!(replay::render(&facts).contains("select 400"));
    store.kill();
}
