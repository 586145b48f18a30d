//! `bench backtest`: what it costs to decide recorded statements again, and that it finds what changes.

use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde_json::{Value, json};

use crate::binaries::{self, Profile};
use crate::{place, say, setup};

#[derive(Args)]
pub(crate) struct BacktestArgs {
    /// Recorded statements
    #[arg(long, default_value_t = 1_000_000)]
    statements: u64,
    /// Different numbers behind LIMIT, which policy sees; as many as statements: few of them are alike
    #[arg(long, default_value_t = 100)]
    limits: u64,
    /// Statements that Cedar alone decides as well, one by one
    #[arg(long, default_value_t = 10_000)]
    check: u64,
    /// Binaries of the dev profile, for a machine without room for others: no figures to compare
    #[arg(long)]
    dev: bool,
}

pub(super) fn run(args: &BacktestArgs) -> Result<ExitCode> {
    let profile = if args.dev {
        Profile::Dev
    } else {
        Profile::Release
    };
    let packages = ["weir-record-bench", "weir-store", "weir-enforcer"];
    let folder = binaries::packages(&packages, profile)?;
    let scratch = place::target().join(format!("bench-backtest-{}", std::process::id()));
    let step = say::step(format!("{} statements", args.statements));
    let output = Command::new(folder.join("weir-record-bench"))
        .arg("backtest")
        .args([
            &scratch,
            &folder.join("weir-store"),
            &setup::engine_library()?,
            &folder.join("weir"),
        ])
        .args([args.statements, args.limits, args.check].map(|number| number.to_string()))
        .stderr(Stdio::inherit())
        .output()
        .context("starting the measurement")?;
    ensure!(output.status.success(), "the measurement failed");
    step.done("");
    let row: Value = serde_json::from_slice(&output.stdout).context("its output")?;
    report(args, &row)
}

fn report(args: &BacktestArgs, row: &Value) -> Result<ExitCode> {
    let of = |name: &str| row.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let mib = |name: &str| of(name) / 1024.0 / 1024.0;
    say::result(format!(
        "{:.0} statements decided again in {:.1} s ({:.0} a second) by {:.0} decisions; peak {:.0} MiB, the store's {:.0} MiB\n\
         {:.0} change in {:.0} ways, {:.0} are masked otherwise: {:.0} of these differ from what is known of each statement\n\
         {:.0} of them decided by Cedar alone as well, one by one (all of it {:.1} s): {:.0} differ",
        of("statements"),
        of("seconds"),
        of("statements") / of("seconds"),
        of("different"),
        mib("peak_bytes"),
        mib("store_peak_bytes"),
        of("changed"),
        of("changes"),
        of("masked"),
        of("wrong"),
        of("checked"),
        of("checked_wall_s"),
        of("mismatched"),
    ));
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("a clock")?;
    let file = place::root().join(format!("bench/results/backtest-{}.json", now.as_secs()));
    let kept = json!({ "dev": args.dev, "limits": args.limits, "backtest": row });
    let text = serde_json::to_string_pretty(&kept).context("the report as JSON")?;
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    say::note(format!("written to {}", file.display()));
    ensure!(
        of("wrong") == 0.0 && of("mismatched") == 0.0,
        "the backtest does not find what changes"
    );
    Ok(ExitCode::SUCCESS)
}
