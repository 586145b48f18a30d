//! ClickHouse is away while facts are recorded at full speed; then it comes back.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weir_record::{
    Durability, Shipper, ShipperConfig, ShipperMetrics, SpoolConfig, SpoolDir, StoreAddress, audit,
    migrate, query,
};

use crate::made::Made;
use crate::{Arguments, cpu_s, now};

const LANES: u32 = 2;
/// Facts of one commit: a loop turn of many sessions.
const TURN: u64 = 16;
/// Nothing arrived for so long: it never will.
const STILL_S: u64 = 300;

struct Store(Child);

impl Drop for Store {
    fn drop(&mut self) {
        // It may have ended by itself; nothing is left behind either way.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Store {
    fn start(arguments: &Arguments, listen: &str) -> Result<Self> {
        let folder = &arguments.folder;
        let mut command = Command::new(&arguments.store);
        command
            .arg("--library")
            .arg(&arguments.library)
            .args(["--listen", listen, "--data"])
            .arg(folder.join("store"))
            .stdout(Stdio::piped());
        for role in ["writer", "reader", "migrator"] {
            std::fs::write(folder.join(role), format!("{role}-{role}-{role}"))?;
            command
                .arg(format!("--{role}-token"))
                .arg(folder.join(role));
        }
        let mut child = command.spawn().context("starting weir-store")?;
        let out = child.stdout.take().context("its output")?;
        let store = Self(child);
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        ensure!(
            line.starts_with("READY"),
            "weir-store does not start: {line}"
        );
        Ok(store)
    }

    /// Processor seconds, user and system.
    fn cpu_s(&self) -> Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id()))?;
        let rest = text.rsplit_once(") ").context("its times")?.1;
        let ticks = |at: usize| -> Result<f64> {
            let field = rest.split(' ').nth(at).context("a time")?;
            Ok(field.parse::<u32>()?.into())
        };
        // utime and stime, in hundredths.
        Ok((ticks(11)? + ticks(12)?) / 100.0)
    }
}

fn address(listen: &str, role: &str) -> StoreAddress {
    StoreAddress {
        url: format!("http://{listen}"),
        database: "weir".to_owned(),
        token: Some(format!("{role}-{role}-{role}").into()),
    }
}

pub(crate) fn measure(arguments: &Arguments) -> Result<Value> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(whole(arguments))
}

fn shipper(spool: &SpoolDir, listen: &str) -> Result<Shipper> {
    let config = ShipperConfig {
        stores: vec![address(listen, "writer")],
        node_name: "n1".to_owned(),
        rows_max: 50_000,
        age: Duration::from_secs(1),
        keep_bytes: 1 << 30,
    };
    let metrics = ShipperMetrics::register(&prometheus::Registry::new())?;
    Ok(Shipper::new(config, spool, metrics))
}

async fn whole(arguments: &Arguments) -> Result<Value> {
    let nowhere = TcpListener::bind("127.0.0.1:0").context("a free port")?;
    let listen = nowhere.local_addr()?.to_string();
    drop(nowhere);
    let spool = SpoolDir::open(SpoolConfig {
        directory: arguments.folder.join("spool"),
        key_file: arguments.folder.join("node.key"),
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

    let store = Store::start(arguments, &listen)?;
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

async fn until_stored(reader: &clickhouse::Client, expected: u64) -> Result<()> {
    let (mut last, mut still) = (0, now());
    loop {
        let stored = counts_only(reader).await.unwrap_or(0);
        if stored >= expected {
            return Ok(());
        }
        if stored != last {
            (last, still) = (stored, now());
        }
        ensure!(
            still.elapsed().as_secs() < STILL_S,
            "it stands still at {stored} of {expected}"
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn counts_only(reader: &clickhouse::Client) -> Result<u64> {
    one(reader, "SELECT count() AS n, 0 AS u FROM fact")
        .await
        .map(|row| row.0)
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

async fn one(reader: &clickhouse::Client, sql: &str) -> Result<(u64, u64)> {
    let rows: Vec<Value> = query::fetch(reader.query_raw(sql))
        .await
        .map_err(anyhow::Error::msg)?;
    let row = rows.first().context("an answer")?;
    let of = |name: &str| row.get(name).and_then(Value::as_u64).context("a count");
    Ok((of("n")?, of("u")?))
}

fn say(text: &str) {
    // Whoever does not read it is told all the same at the end.
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}
