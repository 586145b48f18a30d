//! What `verify` says of the kernel's ledger: differences, and times with flows that no row covers.

use std::sync::Arc;
use std::time::Duration;

#[path = "running/store.rs"]
mod running;

use running::{Scratch, Store};
use weir_model::fact::{Fact, FactContext, FactKind};
use weir_record::{
    Durability, Shipper, ShipperConfig, ShipperMetrics, SpoolConfig, SpoolDir, audit, migrate,
};

/// One thing that a node recorded, by seconds before now.
#[derive(Clone, Copy)]
enum Noted {
    Flow(i64),
    /// A row of the ledger that covers from … to; how many connects are not accounted for.
    Row(i64, i64, i64),
}
use Noted::{Flow, Row};

fn node_of(name: &str, workload: &str) -> Arc<FactContext> {
    Arc::new(FactContext {
        node: name.to_owned(),
        workload: workload.to_owned(),
        ..FactContext::default()
    })
}

fn fact(name: &str, noted: Noted, (seq, now_s): (u32, i64)) -> Fact {
    let wall_us = |ago_s: i64| (now_s - ago_s) * 1_000_000;
    match noted {
        Flow(ago_s) => Fact::new(
            node_of(name, "analyst"),
            FactKind::Flow,
            seq,
            wall_us(ago_s),
        ),
        Row(from, to, difference) => {
            let context = node_of(name, "analyst");
            let mut fact = Fact::new(context, FactKind::Ledger, seq, wall_us(to));
            let status = if difference == 0 {
                "even"
            } else {
                "difference"
            };
            status.clone_into(&mut fact.status);
            fact.labels = [
                ("from", now_s - from),
                ("to", now_s - to),
                ("difference", difference),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_string()))
            .to_vec();
            fact
        }
    }
}

struct Scene {
    scratch: Scratch,
    store: Store,
    now_s: i64,
}

impl Scene {
    /// What `verify` finds in the record of a node of that name.
    async fn findings(&self, name: &str, noted: &[Noted], sql: Option<&str>) -> Vec<String> {
        let spool = SpoolDir::open(SpoolConfig {
            directory: self.scratch.0.join(name),
            key_file: self.scratch.0.join(format!("{name}.key")),
            limit_bytes: 1 << 30,
            durability: Durability::Process,
        })
        .unwrap();
        let mut lane = spool.lane(0, weir_clock::now()).unwrap();
        for (seq, one) in (1..).zip(noted) {
            lane.push(&fact(name, *one, (seq, self.now_s))).unwrap();
        }
        lane.close(weir_clock::now()).unwrap();
        let config = ShipperConfig {
            stores: vec![self.store.address("writer")],
            node_name: name.to_owned(),
            rows_max: 100,
            age: Duration::ZERO,
            keep_bytes: 1 << 30,
        };
        let metrics = ShipperMetrics::register(&prometheus::Registry::new()).unwrap();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        stop.send(true).unwrap();
        let shipper = Shipper::new(config, &spool, metrics);
        shipper.run(stopped).await;
        if let Some(sql) = sql {
            let admin = self.store.address("migrator").client();
            let done = admin.with_database("weir").query_raw(sql);
            done.execute().await.unwrap();
        }
        let key = spool.history();
        let scope = audit::Scope {
            node_id: spool.node(),
            node: name,
            keys: &key,
            spool: None,
            now_s: self.now_s,
            on_its_way: Duration::ZERO,
        };
        let reader = self.store.address("reader").client();
        let report = audit::verify_store(&reader, &scope).await.unwrap();
        report.findings
    }

    async fn clean(&self, name: &str, noted: &[Noted]) {
        let findings = self.findings(name, noted, None).await;
        assert_eq!(findings, Vec::<String>::new(), "{name}");
    }

    async fn gap(&self, name: &str, noted: &[Noted], (from, to): (i64, i64)) {
        let findings = self.findings(name, noted, None).await;
        let (from, to) = (self.now_s - from, self.now_s - to);
        let expected = format!("no row covers {from} to {to}");
        assert_eq!(findings.len(), 1, "{name}: {findings:?}");
        assert!(findings[0].contains(&expected), "{name}: {findings:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_that_no_ledger_row_covers_and_connects_that_do_not_add_up_are_findings() {
    let scratch = Scratch::new("ledger");
    let store = Store::start(&scratch, "127.0.0.1:0");
    let admin = store.address("migrator").client();
    migrate::migrate(&admin, "weir", migrate::Layout::Local)
        .await
        .unwrap();
    let scene = Scene {
        scratch,
        store,
        now_s: weir_clock::now().unix_s(),
    };
    let covered = [
        Row(600, 500, 0),
        Flow(550),
        Row(500, 400, 0),
        Flow(450),
        Row(400, 100, 0),
        Flow(200),
    ];
    scene.clean("covered", &covered).await;
    scene.clean("no-rows", &[Flow(550), Flow(1)]).await;

    let torn = [Row(600, 500, 0), Flow(450), Row(400, 100, 0), Flow(300)];
    scene.gap("torn", &torn, (500, 400)).await;
    let idle = [Row(600, 500, 0), Flow(550), Row(400, 100, 0), Flow(300)];
    scene.clean("idle", &idle).await;
    // Rows of several workloads, one of which reaches over what looks like a hole.
    let overlapping = [
        Row(600, 500, 0),
        Row(600, 300, 0),
        Flow(350),
        Row(300, 100, 0),
    ];
    scene.clean("overlapping", &overlapping).await;

    // A node whose ledger fell silent; its last minutes may still be on their way.
    let silent = [Row(900, 800, 0), Flow(700), Flow(60)];
    scene.gap("silent", &silent, (800, 180)).await;
    scene
        .clean("recent", &[Row(900, 200, 0), Flow(500), Flow(60)])
        .await;

    let off = [Row(600, 500, 3), Row(500, 100, 0), Flow(550)];
    let findings = scene.findings("off", &off, None).await;
    assert_eq!(findings.len(), 1, "{findings:?}");
    let says = format!("ledger of analyst at {}: 3 connects", scene.now_s - 500);
    assert!(findings[0].contains(&says), "{findings:?}");

    // Taking rows away is seen twice: in the chain, and in what they covered.
    let delete = "ALTER TABLE fact DELETE WHERE node = 'cut' AND kind = 'ledger' \
                  AND labels['to'] != '0' AND position = 3 SETTINGS mutations_sync = 2";
    let findings = scene.findings("cut", &covered, Some(delete)).await;
    let has = |text: &str| findings.iter().any(|finding| finding.contains(text));
    assert!(has("position 3") && has("missing"), "{findings:?}");
    assert!(has("ledger: no row covers"), "{findings:?}");
    scene.store.kill();
}
