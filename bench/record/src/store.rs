//! `weir-store` as a process of its own, and what is asked of it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weir_record::{Shipper, ShipperConfig, ShipperMetrics, SpoolDir, StoreAddress, query};

use crate::{Parts, now};

/// Nothing arrived for so long: it never will.
const STILL_S: u64 = 300;

pub(crate) struct Store(Child);

impl Drop for Store {
    fn drop(&mut self) {
        // It may have ended by itself; nothing is left behind either way.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Store {
    pub(crate) fn start(parts: &Parts, listen: &str) -> Result<Self> {
        let folder = &parts.folder;
        let mut command = Command::new(&parts.store);
        command
            .arg("--library")
            .arg(&parts.library)
            .args(["--listen", listen, "--data"])
            .arg(folder.join("store"))
            .stdout(Stdio::piped());
        for role in ["writer", "reader", "migrator"] {
            std::fs::write(folder.join(role), format!("{role}-{role}-{role}"))?;
            let secret = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(folder.join(role), secret)?;
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

    /// The most memory that it had, in bytes.
    pub(crate) fn memory_peak(&self) -> Result<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.context("its memory")?.trim().trim_end_matches(" kB");
        Ok(kib.parse::<u64>().context("its memory")? * 1024)
    }

    /// Processor seconds, user and system.
    pub(crate) fn cpu_s(&self) -> Result<f64> {
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

pub(crate) fn address(listen: &str, role: &str) -> StoreAddress {
    StoreAddress {
        url: format!("http://{listen}"),
        database: "weir".to_owned(),
        token: Some(format!("{role}-{role}-{role}").into()),
    }
}

/// On loopback; nobody else takes it before it is used, on a machine that is left alone.
pub(crate) fn free_address() -> Result<String> {
    let nowhere = TcpListener::bind("127.0.0.1:0").context("a free port")?;
    Ok(nowhere.local_addr()?.to_string())
}

pub(crate) fn shipper(spool: &SpoolDir, listen: &str) -> Result<Shipper> {
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

pub(crate) async fn until_stored(reader: &clickhouse::Client, expected: u64) -> Result<()> {
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

pub(crate) async fn counts_only(reader: &clickhouse::Client) -> Result<u64> {
    one(reader, "SELECT count() AS n, 0 AS u FROM fact")
        .await
        .map(|row| row.0)
}

pub(crate) async fn one(reader: &clickhouse::Client, sql: &str) -> Result<(u64, u64)> {
    let rows: Vec<Value> = query::fetch(reader.query_raw(sql))
        .await
        .map_err(anyhow::Error::msg)?;
    let row = rows.first().context("an answer")?;
    let of = |name: &str| row.get(name).and_then(Value::as_u64).context("a count");
    Ok((of("n")?, of("u")?))
}

pub(crate) fn say(text: &str) {
    // Whoever does not read it is told all the same at the end.
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}
