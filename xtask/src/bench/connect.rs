//! `bench connect`: what the kernel programs cost a connect, and the calls around it.
//!
//! A governed client and one that no hook sees make the same calls turn by turn, on one bridge.
//! The programs' own time is taken in a run of its own, since measuring costs some 20 ns per run.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use super::ratio::median;
use crate::binaries::{self, Profile};
use crate::{place, say};

#[derive(Args)]
pub(crate) struct ConnectArgs {
    /// Alternating rounds; medians are taken over them
    #[arg(long, default_value_t = 30)]
    rounds: usize,
    /// Calls of each client in one round
    #[arg(long, default_value_t = 300)]
    count: usize,
}

/// Percentiles of one client's rounds, microseconds.
struct Side {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

pub(super) fn run(args: &ConnectArgs) -> Result<ExitCode> {
    place::need_root("bench connect")?;
    let folder = binaries::packages(&["weir-kernel-tests"], Profile::Release)?;
    let step = say::step("connects with and without Weir");
    let mut child = Command::new(folder.join("weir-bypass"))
        .args([
            "connects",
            &args.rounds.to_string(),
            &args.count.to_string(),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the comparison")?;
    let output = child.stdout.take().context("its output")?;
    let mut result = None;
    for line in BufReader::new(output).lines() {
        let line = line.context("its output")?;
        if let Some(name) = line.strip_prefix("AT ") {
            step.at(name);
        }
        if let Some(text) = line.strip_prefix("RESULT ") {
            result = Some(serde_json::from_str::<Value>(text).context("its result")?);
        }
    }
    let status = child.wait().context("waiting for the comparison")?;
    let Some(result) = result.filter(|_| status.success()) else {
        bail!("the comparison ended with {status}");
    };
    step.done("");
    report(args, &result)
}

fn report(args: &ConnectArgs, result: &Value) -> Result<ExitCode> {
    say::result(format!(
        "{:26} {:>11} {:>9} {:>9} {:>11} {:>9}   programs, ns per run × runs per call",
        "call", "p50 without", "with", "p50 ratio", "p99 without", "p99 ratio"
    ));
    let work = result
        .get("work")
        .and_then(Value::as_array)
        .context("work")?;
    for row in work {
        let name = row.get("work").and_then(Value::as_str).context("a name")?;
        let (without, with) = (side(row, "without")?, side(row, "with")?);
        let calls = u32::try_from(args.count).context("calls")?;
        say::result(format!(
            "{name:26} {:>8.2} µs {:>6.2} µs {:>9.3} {:>8.2} µs {:>9.3}   {}",
            median(without.p50.iter().copied()),
            median(with.p50.iter().copied()),
            ratio(&with.p50, &without.p50),
            median(without.p99.iter().copied()),
            ratio(&with.p99, &without.p99),
            programs(row, f64::from(calls)),
        ));
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("a clock")?;
    let file = place::root().join(format!("bench/results/connect-{}.json", now.as_secs()));
    let kept = json!({ "rounds": args.rounds, "count": args.count, "work": summary(work)? });
    let text = serde_json::to_string_pretty(&kept).context("the report as JSON")?;
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    say::note(format!("written to {}", file.display()));
    Ok(ExitCode::SUCCESS)
}

/// Per round, so that drift of the machine falls out.
fn ratio(with: &[f64], without: &[f64]) -> f64 {
    median(super::ratio::quotients(with, without))
}

fn side(row: &Value, name: &str) -> Result<Side> {
    let rounds = row.get(name).and_then(Value::as_array).context("rounds")?;
    let mut side = Side {
        p50: Vec::new(),
        p99: Vec::new(),
    };
    for round in rounds {
        let samples = round.as_array().context("samples")?;
        let mut samples: Vec<f64> = samples.iter().filter_map(Value::as_f64).collect();
        samples.sort_by(f64::total_cmp);
        let Some(last) = samples.len().checked_sub(1) else {
            bail!("a round without samples");
        };
        side.p50.push(samples[last / 2] / 1e3);
        side.p99.push(samples[last * 99 / 100] / 1e3);
    }
    Ok(side)
}

fn programs(row: &Value, calls: f64) -> String {
    let rows = row.get("programs").and_then(Value::as_array);
    let mut words = Vec::new();
    for program in rows.into_iter().flatten() {
        let of = |name: &str| program.get(name).and_then(Value::as_f64).unwrap_or(0.0);
        let name = program.get("program").and_then(Value::as_str).unwrap_or("");
        words.push(format!(
            "{} {:.0}×{:.1}",
            name.trim_start_matches("weir_"),
            of("ns") / of("runs").max(1.0),
            of("runs") / calls
        ));
    }
    words.join(", ")
}

/// What is kept: percentiles per round, not every sample.
fn summary(work: &[Value]) -> Result<Vec<Value>> {
    let mut rows = Vec::new();
    for row in work {
        let (without, with) = (side(row, "without")?, side(row, "with")?);
        rows.push(json!({
            "work": row.get("work"),
            "p50_us": { "without": without.p50, "with": with.p50 },
            "p99_us": { "without": without.p99, "with": with.p99 },
            "p50_ratio": ratio(&with.p50, &without.p50),
            "p99_ratio": ratio(&with.p99, &without.p99),
            "programs": row.get("programs"),
        }));
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_rounds_and_programs_per_run() {
        let row = json!({
            "without": [[3000, 1000, 2000]], "with": [[6000, 2000, 4000]],
            "programs": [{ "program": "weir_connect4", "runs": 10, "ns": 1500 }],
        });
        let (without, with) = (side(&row, "without").unwrap(), side(&row, "with").unwrap());
        assert!((ratio(&with.p50, &without.p50) - 2.0).abs() < 1e-9);
        assert_eq!(programs(&row, 10.0), "connect4 150×1.0");
        assert!(side(&json!({ "with": [[]] }), "with").is_err());
    }
}
