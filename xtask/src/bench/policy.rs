//! `bench policy`: how decisions and loading depend on the number of policies.

use std::fs;
use std::process::{Command, ExitCode};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::binaries::{self, Profile};
use crate::{place, say};

#[derive(Args)]
pub(crate) struct PolicyArgs {
    /// Rounds; sizes are measured turn by turn and medians are taken
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Numbers of policies; ratios are to the first
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000,10000")]
    sizes: Vec<usize>,
}

pub(super) fn run(args: &PolicyArgs) -> Result<ExitCode> {
    let folder = binaries::packages(&["weir-policy-bench"], Profile::Release)?;
    let step = say::step("decisions under policies");
    let output = Command::new(folder.join("weir-policy-bench"))
        .arg(args.rounds.to_string())
        .args(args.sizes.iter().map(ToString::to_string))
        .output()
        .context("starting the measurement")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the measurement failed: {error}");
    step.done("");
    let text = String::from_utf8(output.stdout).context("its output")?;
    let rows: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).context("its output"))
        .collect::<Result<_>>()?;
    report(args, &rows)
}

fn report(args: &PolicyArgs, rows: &[Value]) -> Result<ExitCode> {
    say::result(format!(
        "{:>9} {:>10} {:>9} {:>11} {:>8} {:>11} {:>8} {:>12}",
        "policies", "load", "bind", "first seen", "×", "cached", "×", "Cedar alone"
    ));
    let first = rows.first().context("a size")?;
    for row in rows {
        let of = |name: &str| row.get(name).and_then(Value::as_f64).unwrap_or(0.0);
        let times = |name: &str| of(name) / first.get(name).and_then(Value::as_f64).unwrap_or(1.0);
        say::result(format!(
            "{:>9} {:>7.1} ms {:>6.1} µs {:>8.2} µs {:>8.3} {:>8.0} ns {:>8.3} {:>9.0} µs",
            of("policies"),
            of("load_ms"),
            of("bind_us"),
            of("cold_us"),
            times("cold_us"),
            of("cached_ns"),
            times("cached_ns"),
            of("cedar_us"),
        ));
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("a clock")?;
    let file = place::root().join(format!("bench/results/policy-{}.json", now.as_secs()));
    let kept = json!({ "rounds": args.rounds, "sizes": rows });
    let text = serde_json::to_string_pretty(&kept).context("the report as JSON")?;
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    say::note(format!("written to {}", file.display()));
    Ok(ExitCode::SUCCESS)
}
