//! One shell script over two paths, turn by turn: directly, and through Weir as the operator.
//!
//! Both clients run in namespaces of the same shape on one bridge. A script prints seconds: one
//! number for each unit of work that it did, so that start-up of the client is left out.

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use serde_json::json;

use super::PairArgs;
use super::ratio::{median, quotients};
use crate::lab::{self, Lab, up};
use crate::{place, say};

/// What is measured.
pub(super) struct Workload {
    pub(super) name: &'static str,
    /// Work of one unit, such as 256 for MiB, or 1 for a request.
    pub(super) work: f64,
    /// `MiB` or `requests`.
    pub(super) unit: &'static str,
    pub(super) direct: String,
    pub(super) governed: String,
}

/// Units of work per second, and seconds of each unit, per round.
#[derive(Clone, Debug, Default, Serialize)]
struct Measured {
    rate: Vec<f64>,
    p50_s: Vec<f64>,
    p99_s: Vec<f64>,
}

impl Measured {
    fn add(&mut self, output: &str, work: f64) -> Result<()> {
        let mut seconds = Vec::new();
        for line in output.lines() {
            let number: f64 = line
                .trim()
                .parse()
                .with_context(|| format!("no seconds: {line:?}"))?;
            seconds.push(number);
        }
        seconds.sort_by(f64::total_cmp);
        let total: f64 = seconds.iter().sum();
        let (Some(last), true) = (seconds.len().checked_sub(1), total > 0.0) else {
            bail!("the script printed no seconds");
        };
        let count = f64::from(u32::try_from(seconds.len()).context("too many numbers")?);
        self.rate.push(work * count / total);
        self.p50_s.push(seconds[last / 2]);
        self.p99_s.push(seconds[last * 99 / 100]);
        Ok(())
    }
}

/// Brings a lab up, runs every workload, prints and keeps the figures.
pub(super) fn run(
    name: &str,
    args: &PairArgs,
    workloads: impl FnOnce(&Lab) -> Result<Vec<Workload>>,
) -> Result<ExitCode> {
    place::need_root("a benchmark")?;
    let mut arguments = up::default_args(&format!("bench-{name}"));
    arguments.release = true;
    arguments.binaries.clone_from(&args.binaries);
    let rounds = args.rounds;
    let lab = up::up(&arguments)?;
    let outcome = workloads(&lab).and_then(|workloads| measure(&lab, rounds, &workloads));
    lab::down(&lab)?;
    report(name, rounds, &outcome?)
}

type Results = BTreeMap<&'static str, (&'static str, Measured, Measured)>;

fn measure(lab: &Lab, rounds: usize, workloads: &[Workload]) -> Result<Results> {
    let mut results = Results::new();
    for workload in workloads {
        let step = say::step(workload.name);
        let (mut direct, mut weir) = (Measured::default(), Measured::default());
        for round in 0..=rounds {
            let scripts = [
                (&mut direct, lab::direct(lab, &workload.direct)),
                (&mut weir, lab::governed(lab, &workload.governed)),
            ];
            for (measured, output) in scripts {
                let output = output.with_context(|| workload.name.to_owned())?;
                // The first round fills caches.
                if round > 0 {
                    measured.add(&output, workload.work)?;
                }
            }
        }
        let ratio = median(quotients(&weir.rate, &direct.rate));
        step.done(format!("weir/direct {ratio:.2}"));
        results.insert(workload.name, (workload.unit, direct, weir));
    }
    Ok(results)
}

fn report(name: &str, rounds: usize, results: &Results) -> Result<ExitCode> {
    say::result(format!(
        "{:28} {:>16} {:>12} {:>12} {:>14} {:>14}",
        "workload", "direct", "weir/direct", "p50 added", "p99 direct", "p99 weir"
    ));
    let mut rows = Vec::new();
    for (workload, (unit, direct, weir)) in results {
        let of = |values: &[f64]| median(values.iter().copied());
        let ratio = median(quotients(&weir.rate, &direct.rate));
        let added = weir.p50_s.iter().zip(&direct.p50_s).map(|(a, b)| a - b);
        say::result(format!(
            "{workload:28} {:>10.1} {unit}/s {ratio:>10.2} {:>9.2} ms {:>11.2} ms {:>11.2} ms",
            of(&direct.rate),
            median(added) * 1e3,
            of(&direct.p99_s) * 1e3,
            of(&weir.p99_s) * 1e3,
        ));
        rows.push(json!({
            "workload": workload, "unit": unit, "weir_to_direct": ratio, "direct": direct,
            "weir": weir,
        }));
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .context("a clock")?;
    let file = place::root().join(format!("bench/results/{name}-{}.json", now.as_secs()));
    let report = json!({ "rounds": rounds, "workloads": rows });
    let text = serde_json::to_string_pretty(&report).context("the report as JSON")?;
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    say::note(format!("written to {}", file.display()));
    Ok(ExitCode::SUCCESS)
}

/// Shell functions for scripts: `timed COMMAND…` prints its seconds.
pub(super) const TIMED: &str = "set -euo pipefail
timed() { local s=$EPOCHREALTIME; \"$@\" > /dev/null; local e=$EPOCHREALTIME; \
awk -v s=$s -v e=$e 'BEGIN { printf \"%.6f\\n\", e - s }'; }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_percentiles_come_from_the_seconds_that_were_printed() {
        let mut measured = Measured::default();
        measured.add("0.5\n1.5\n1.0\n", 10.0).unwrap();
        assert!((measured.rate[0] - 10.0).abs() < 1e-9);
        assert!((measured.p50_s[0] - 1.0).abs() < 1e-9);
        assert!(measured.add("", 1.0).is_err());
        assert!(measured.add("fast\n", 1.0).is_err());
    }
}
