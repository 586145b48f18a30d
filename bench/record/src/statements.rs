//! One statement after the other, each recorded before it would be forwarded.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use weir_record::{Durability, SpoolConfig, SpoolDir};

use crate::made::Made;
use crate::{Arguments, cpu_s, now};

/// One way of recording.
#[derive(Default)]
struct Way {
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    per_s: Vec<f64>,
    cpu_us: Vec<f64>,
    bytes: f64,
}

impl Way {
    fn add(&mut self, mut times: Vec<Duration>, cpu: f64) {
        times.sort_unstable();
        let at = |part: usize| {
            let at = (times.len() * part / 100).min(times.len().saturating_sub(1));
            times.get(at).copied().unwrap_or_default().as_secs_f64() * 1e6
        };
        let total: f64 = times.iter().map(Duration::as_secs_f64).sum();
        let count = times.len() as f64;
        self.p50_us.push(at(50));
        self.p99_us.push(at(99));
        self.per_s.push(count / total);
        self.cpu_us.push(cpu * 1e6 / count);
    }

    fn row(&self) -> Value {
        json!({
            "p50_us": median(&self.p50_us), "p99_us": median(&self.p99_us),
            "statements_per_s": median(&self.per_s), "facts_per_s": median(&self.per_s) * 2.0,
            "cpu_us_per_statement": median(&self.cpu_us),
            "cpu_us_per_fact": median(&self.cpu_us) / 2.0,
            "bytes_per_fact": self.bytes / 2.0,
        })
    }
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn ratio(above: &[f64], below: &[f64]) -> f64 {
    let each: Vec<f64> = above.iter().zip(below).map(|(a, b)| a / b).collect();
    median(&each)
}

/// Process death, loss of power, and plain writes with and without `fdatasync`, turn by turn.
pub(crate) fn measure(arguments: &Arguments) -> Result<Value> {
    let (mut process, mut power) = (Way::default(), Way::default());
    let (mut plain, mut synced) = (Way::default(), Way::default());
    // A synchronisation takes milliseconds on many disks.
    let few = (arguments.statements / 50).max(50);
    for round in 0..arguments.rounds {
        let folder = arguments.parts.folder.join(format!("statements-{round}"));
        let bytes = spooled(
            &folder.join("process"),
            (Durability::Process, arguments.statements),
            &mut process,
        )?;
        written(
            &folder.join("plain"),
            (false, arguments.statements),
            bytes,
            &mut plain,
        )?;
        spooled(
            &folder.join("power"),
            (Durability::PowerLoss, few),
            &mut power,
        )?;
        written(&folder.join("synced"), (true, few), bytes, &mut synced)?;
        std::fs::remove_dir_all(&folder).context("removing a round")?;
    }
    Ok(json!({
        "phase": "statements", "statements": arguments.statements, "rounds": arguments.rounds,
        "process": process.row(), "plain_write": plain.row(),
        "power_loss": power.row(), "plain_write_synced": synced.row(),
        "process_to_plain": ratio(&process.p50_us, &plain.p50_us),
        "power_loss_to_synced": ratio(&power.p50_us, &synced.p50_us),
        "power_loss_to_process": ratio(&power.p50_us, &process.p50_us),
    }))
}

/// Gives the bytes of one statement.
fn spooled(
    folder: &Path,
    (durability, statements): (Durability, u32),
    way: &mut Way,
) -> Result<usize> {
    let spool = SpoolDir::open(SpoolConfig {
        directory: folder.join("spool"),
        key_file: folder.join("node.key"),
        limit_bytes: 64 << 30,
        durability,
    })?;
    let mut lane = spool.lane(0, weir_clock::now())?;
    let mut made = Made::new(0);
    // Made beforehand: what is measured is recording them.
    let facts: Vec<_> = (0..statements)
        .map(|_| [made.next(0), made.next(0)])
        .collect();
    let mut times = Vec::with_capacity(facts.len());
    let cpu = cpu_s()?;
    for [mut request, mut reply] in facts {
        let started = now();
        let clock = weir_clock::now();
        (request.event_time_us, reply.event_time_us) = (clock.wall_us, clock.wall_us);
        lane.push(&request)?;
        lane.commit(clock)?;
        // The reply waits for the next commit.
        lane.push(&reply)?;
        times.push(started.elapsed());
    }
    way.add(times, cpu_s()? - cpu);
    lane.close(weir_clock::now())?;
    let mut bytes = 0;
    for entry in std::fs::read_dir(spool.directory())? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|kind| kind == "seg") {
            bytes += entry.metadata()?.len();
        }
    }
    let each = bytes / u64::from(statements.max(1));
    way.bytes = f64::from(u32::try_from(each)?);
    Ok(usize::try_from(each)?)
}

/// As many bytes, without encoding, hashing and numbering them.
fn written(
    path: &Path,
    (sync, statements): (bool, u32),
    bytes: usize,
    way: &mut Way,
) -> Result<()> {
    let mut file: File = OpenOptions::new()
        .append(true)
        .create_new(true)
        .open(path)
        .context("a file")?;
    let block = vec![b'x'; bytes];
    let mut times = Vec::with_capacity(statements as usize);
    let cpu = cpu_s()?;
    for _statement in 0..statements {
        let started = now();
        file.write_all(&block)?;
        if sync {
            file.sync_data()?;
        }
        times.push(started.elapsed());
    }
    way.add(times, cpu_s()? - cpu);
    way.bytes = f64::from(u32::try_from(bytes)?);
    Ok(())
}
