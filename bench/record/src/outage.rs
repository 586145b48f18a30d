//! ClickHouse is away while facts are recorded at full speed; then it comes back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_record::{Durability, SpoolConfig, SpoolDir, audit, migrate};

use crate::made::Made;
use crate::store::{Store, address, free_address, one, say, shipper, until_stored};
use crate::{Arguments, cpu_s, now};

const LANES: u32 = 2;
/// Facts of one commit: a loop turn of many sessions.
const TURN: u64 = 16;

pub(crate) fn measure(arguments: &Arguments) -> Result<Value> {
    crate::runtime()?.block_on(whole(arguments))
}

async fn whole(arguments: &Arguments) -> Result<Value> {
    let listen = free_address()?;
    let spool = SpoolDir::open(SpoolConfig {
        directory: arguments.parts.folder.join("spool"),
        key_file: arguments.parts.folder.join("node.key"),
        limit_bytes: 64 << 30,
        durability: Durability::Process,
    })?;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let shipper = tokio::spawn(shipper(&spool, &listen)?.run(stopped));

    let (started, cpu) = (now(), cpu_s()?);
    let each = arguments.facts / u64::from(LANES);
    let expected = each * u64::from(LANES);
    record(&spool, each)?;
    let recorded_s = started.elapsed().as_secs_f64();
    let recorded_cpu_s = cpu_s()? - cpu;
    let spool_bytes = bytes_of(&spool)?;
    say(&format!(
        "{expected} facts in {recorded_s:.0} s without a store"
    ));

    let store = Store::start(&arguments.parts, &listen)?;
    let admin = address(&listen, "migrator").client();
    let migrated = migrate::migrate(&admin, "weir", migrate::Layout::Local).await;
    migrated.map_err(anyhow::Error::msg)?;
    let (started, cpu, store_cpu) = (now(), cpu_s()?, store.cpu_s()?);
    let reader = address(&listen, "reader").client();
    until_stored(&reader, expected).await?;
    let shipped_s = started.elapsed().as_secs_f64();
    let (shipper_cpu_s, store_cpu_s) = (cpu_s()? - cpu, store.cpu_s()? - store_cpu);
    stop.send(true)?;
    shipper.await.context("the shipper")?;
    say(&format!("shipped in {shipped_s:.0} s"));

    let started = now();
    let key = spool.history();
    let scope = audit::Scope {
        node_id: spool.node(),
        node: "n1",
        keys: &key,
        spool: Some(spool.directory()),
        now_s: weir_clock::now().unix_s(),
        on_its_way: Duration::ZERO,
    };
    let report = audit::verify_store(&reader, &scope).await;
    let report = report.map_err(anyhow::Error::msg)?;
    let verified_s = started.elapsed().as_secs_f64();
    ensure!(
        report.findings.is_empty() && report.unproven == 0,
        "verify says {report:?}"
    );
    ensure!(report.facts == expected, "{} facts verified", report.facts);
    let facts = expected as f64;
    let (stored, distinct) = counts(&reader).await?;
    Ok(json!({
        "phase": "outage", "expected": expected, "stored": stored, "distinct": distinct,
        "verified": report.facts, "findings": report.findings.len(), "segments": report.segments,
        "spool_facts_per_s": facts / recorded_s, "spool_cpu_us_per_fact": recorded_cpu_s * 1e6 / facts,
        "spool_bytes_per_fact": spool_bytes / facts,
        "shipped_facts_per_s": facts / shipped_s,
        "shipper_cpu_us_per_fact": shipper_cpu_s * 1e6 / facts,
        "store_cpu_us_per_fact": store_cpu_s * 1e6 / facts,
        "clickhouse_bytes_per_fact": stored_bytes(&reader).await? / facts,
        "verified_facts_per_s": facts / verified_s,
        "recorded_s": recorded_s, "shipped_s": shipped_s, "verified_s": verified_s,
    }))
}

/// Both lanes at once, as fast as they go.
fn record(spool: &SpoolDir, each: u64) -> Result<()> {
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for index in 0..LANES {
            let mut lane = spool.lane(index, weir_clock::now())?;
            threads.push(scope.spawn(move || -> Result<()> {
                let mut made = Made::new(index);
                let mut left = each;
                while left > 0 {
                    let clock = weir_clock::now();
                    for _fact in 0..left.min(TURN) {
                        lane.push(&made.next(clock.wall_us))?;
                    }
                    lane.commit(clock)?;
                    left -= left.min(TURN);
                }
                lane.close(weir_clock::now())?;
                Ok(())
            }));
        }
        for thread in threads {
            thread
                .join()
                .map_err(|_panic| anyhow::anyhow!("a lane panicked"))??;
        }
        Ok(())
    })
}

fn bytes_of(spool: &SpoolDir) -> Result<f64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(spool.directory())? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|kind| kind == "seg") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes as f64)
}

/// Stored and distinct. Distinct are counted session by session, since a set of all would not fit.
async fn counts(reader: &clickhouse::Client) -> Result<(u64, u64)> {
    let sql = "SELECT sum(n) AS n, sum(d) AS u FROM (SELECT count() AS n, uniqExact(seq) AS d \
               FROM fact GROUP BY session_id)";
    one(reader, sql).await
}

async fn stored_bytes(reader: &clickhouse::Client) -> Result<f64> {
    let sql = "SELECT sum(bytes_on_disk) AS n, 0 AS u FROM system.parts \
               WHERE database = 'weir' AND table = 'fact' AND active";
    Ok(one(reader, sql).await?.0 as f64)
}
