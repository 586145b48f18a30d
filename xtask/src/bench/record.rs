//! `bench record`: what recording costs, and that an outage loses nothing.

use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::binaries::{self, Profile};
use crate::{place, say, setup};

#[derive(Args)]
pub(crate) struct RecordArgs {
    /// Facts that are recorded while no store is there: an hour of 1,000 a second
    #[arg(long, default_value_t = 3_600_000)]
    facts: u64,
    /// Statements of each measurement
    #[arg(long, default_value_t = 50_000)]
    statements: u32,
    /// Alternating rounds; medians are taken over them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Binaries of the dev profile, for a machine without room for others: no figures to compare
    #[arg(long)]
    dev: bool,
}

pub(super) fn run(args: &RecordArgs) -> Result<ExitCode> {
    let profile = if args.dev {
        Profile::Dev
    } else {
        Profile::Release
    };
    let folder = binaries::packages(&["weir-record-bench", "weir-store"], profile)?;
    let scratch = place::target().join(format!("bench-record-{}", std::process::id()));
    let step = say::step(format!("{} facts during an outage", args.facts));
    let output = Command::new(folder.join("weir-record-bench"))
        .arg("record")
        .args([
            &scratch,
            &folder.join("weir-store"),
            &setup::engine_library()?,
        ])
        .args([
            args.facts.to_string(),
            args.statements.to_string(),
            args.rounds.to_string(),
        ])
        .stderr(Stdio::inherit())
        .output()
        .context("starting the measurement")?;
    ensure!(output.status.success(), "the measurement failed");
    step.done("");
    let text = String::from_utf8(output.stdout).context("its output")?;
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).context("its output"))
        .collect::<Result<_>>()?;
    report(args, &rows)
}

fn report(args: &RecordArgs, rows: &[Value]) -> Result<ExitCode> {
    let [statements, outage] = rows else {
        anyhow::bail!("the measurement printed {} rows", rows.len());
    };
    say::result(format!(
        "{:28} {:>9} {:>9} {:>12} {:>12} {:>11}",
        "each statement recorded", "p50 µs", "p99 µs", "facts/s", "CPU µs/fact", "bytes/fact"
    ));
    for (name, key) in [
        ("survives the process", "process"),
        ("  plain write", "plain_write"),
        ("survives loss of power", "power_loss"),
        ("  plain write, synced", "plain_write_synced"),
    ] {
        let of = |field: &str| number(&statements[key], field);
        say::result(format!(
            "{name:28} {:>9.1} {:>9.1} {:>12.0} {:>12.2} {:>11.0}",
            of("p50_us"),
            of("p99_us"),
            of("facts_per_s"),
            of("cpu_us_per_fact"),
            of("bytes_per_fact")
        ));
    }
    say::result(format!(
        "p50 × plain write: {:.2}; with loss of power × plain write, synced: {:.2}",
        number(statements, "process_to_plain"),
        number(statements, "power_loss_to_synced")
    ));
    let of = |field: &str| number(outage, field);
    say::result(format!(
        "\noutage: {:.0} facts expected = {:.0} stored = {:.0} distinct; verify: {:.0} findings\n\
         into the spool {:.0} facts/s, {:.2} µs CPU and {:.0} bytes a fact\n\
         into ClickHouse {:.0} facts/s, {:.2} + {:.2} µs CPU (shipper + store) and {:.1} bytes a fact\n\
         verified {:.0} facts/s",
        of("expected"),
        of("stored"),
        of("distinct"),
        of("findings"),
        of("spool_facts_per_s"),
        of("spool_cpu_us_per_fact"),
        of("spool_bytes_per_fact"),
        of("shipped_facts_per_s"),
        of("shipper_cpu_us_per_fact"),
        of("store_cpu_us_per_fact"),
        of("clickhouse_bytes_per_fact"),
        of("verified_facts_per_s")
    ));
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("a clock")?;
    let file = place::root().join(format!("bench/results/record-{}.json", now.as_secs()));
    let kept = json!({ "dev": args.dev, "statements": statements, "outage": outage });
    let text = serde_json::to_string_pretty(&kept).context("the report as JSON")?;
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    say::note(format!("written to {}", file.display()));
    let same = of("expected") == of("stored") && of("stored") == of("distinct");
    ensure!(
        same && of("findings") == 0.0,
        "facts are missing or doubled"
    );
    Ok(ExitCode::SUCCESS)
}

fn number(row: &Value, name: &str) -> f64 {
    row.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
}
