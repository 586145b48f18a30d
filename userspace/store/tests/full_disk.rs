//! A disk that is full: nothing is acknowledged that is not there, shipping makes room, and it goes on alone.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

#[path = "running/store.rs"]
mod running;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use running::{Scratch, Store};
use weir_model::fact::{Fact, FactContext, FactKind};
use weir_record::{
    Durability, Shipper, ShipperConfig, ShipperMetrics, SpoolConfig, SpoolDir, audit, migrate,
    query,
};
use weir_spool::SpoolError;

const DISK_BYTES: u64 = 4 * 1024 * 1024;
/// Several times the disk.
const FACTS: u32 = 12_000;

/// A file system of its own, seen by this thread alone; it goes with the thread.
fn small_disk(at: &Path) {
    std::fs::create_dir_all(at).unwrap();
    unshare(CloneFlags::CLONE_NEWNS).expect("this tier runs as root");
    let none: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).unwrap();
    let size = format!("size={DISK_BYTES}");
    let flags = MsFlags::empty();
    mount(Some("none"), at, Some("tmpfs"), flags, Some(size.as_str())).unwrap();
}

struct Counted {
    stored: u64,
    full: u32,
}

/// Everything on one thread, since only it sees the disk.
async fn fill(scratch: &Scratch, store: &Store, limit_bytes: u64) -> Counted {
    migrate::migrate(
        &store.address("migrator").client(),
        "weir",
        migrate::Layout::Local,
    )
    .await
    .unwrap();
    let spool = SpoolDir::open(SpoolConfig {
        directory: scratch.0.join("disk/spool"),
        key_file: scratch.0.join("node.key"),
        limit_bytes,
        durability: Durability::Process,
    })
    .unwrap();
    let config = ShipperConfig {
        stores: vec![store.address("writer")],
        node_name: "n1".to_owned(),
        rows_max: 5000,
        age: Duration::from_millis(20),
        keep_bytes: limit_bytes / 2,
    };
    let metrics = ShipperMetrics::register(&prometheus::Registry::new()).unwrap();
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let shipper = tokio::task::spawn_local(Shipper::new(config, &spool, metrics).run(stopped));
    let mut lane = spool.lane(0, weir_clock::now()).unwrap();
    let context = Arc::new(FactContext {
        session_id: 1,
        node: "n1".to_owned(),
        ..FactContext::default()
    });
    let started_us = weir_clock::now().mono_us;
    let mut full = 0;
    for seq in 1..=FACTS {
        let now = weir_clock::now();
        let mut fact = Fact::new(Arc::clone(&context), FactKind::Request, seq, now.wall_us);
        fact.statement = Arc::from("x".repeat(seq as usize % 700));
        lane.push(&fact).unwrap();
        loop {
            match lane.commit(weir_clock::now()) {
                Ok(receipts) => {
                    assert_eq!(receipts.iter().count(), 1);
                    break;
                }
                Err(SpoolError::Full) => full += 1,
                Err(error) => panic!("after {seq} facts: {error}"),
            }
            let waited_us = weir_clock::now().mono_us - started_us;
            assert!(waited_us < 120_000_000, "it stands still after {seq} facts");
            // The shipper's turn.
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    lane.close(weir_clock::now()).unwrap();
    stop.send(true).unwrap();
    shipper.await.unwrap();
    let reader = store.address("reader").client();
    let sql = "SELECT count() AS n, uniqExact(seq) AS u, max(seq) AS last FROM fact";
    let rows: Vec<serde_json::Value> = query::fetch(reader.query_raw(sql)).await.unwrap();
    assert_eq!(
        (&rows[0]["n"], &rows[0]["n"]),
        (&rows[0]["u"], &rows[0]["last"])
    );
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
    assert_eq!((report.facts, report.unproven), (u64::from(FACTS), 0));
    let files = audit::verify_files(spool.directory(), &key).unwrap();
    assert_eq!(files.findings, Vec::<String>::new());
    Counted {
        stored: rows[0]["n"].as_u64().unwrap(),
        full,
    }
}

fn on_a_small_disk(name: &str, limit_bytes: u64) -> Counted {
    let scratch = Scratch::new(name);
    let store = Store::start(&scratch, "127.0.0.1:0");
    let counted = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            small_disk(&scratch.0.join("disk"));
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, fill(&scratch, &store, limit_bytes))
        });
        thread.join().unwrap()
    });
    store.kill();
    counted
}

#[test]
fn a_full_disk_stops_and_goes_on_once_facts_are_shipped() {
    let counted = on_a_small_disk("enospc", 1 << 30);
    assert_eq!(counted.stored, u64::from(FACTS));
    assert!(counted.full > 0, "the disk was never full");
}

#[test]
fn a_small_limit_does_the_same() {
    let counted = on_a_small_disk("limit", DISK_BYTES / 2);
    assert_eq!(counted.stored, u64::from(FACTS));
    assert!(counted.full > 0, "the limit was never reached");
}
