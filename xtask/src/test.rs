//! `cargo xtask test`: everything that must pass, by tier, with a summary.
//!
//! A tier that cannot run is named, and fails under `--strict`: skipped must not look like passed.

mod console;
mod deploy;
mod evidence;
mod leak;
mod live;
mod nextest;
mod policy;
mod sets;
mod tiers;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

pub(crate) use self::leak::{Made, made};
pub(crate) use self::nextest::PACKAGES;
use crate::{say, setup};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --tier unit --tier golden\n  \
    cargo xtask test --strict\n\nThe tier kernel on other kernels: cargo xtask vm 6.1 6.12"
)]
pub(crate) struct TestArgs {
    /// Only these tiers: fmt tidy clippy unit golden sim doc kernel identity live policy evidence
    /// deploy kubernetes ssh console e2e sets upgrade brokers leak postgres
    #[arg(long = "tier", value_name = "NAME")]
    tiers: Vec<String>,
    /// A tier that cannot run fails
    #[arg(long)]
    strict: bool,
}

/// What a tier came to.
pub(crate) enum Outcome {
    /// Number of tests, 0 for checks that count none.
    Passed(usize),
    CannotRun(String),
    /// Only on request; neither passed nor failed.
    NotRun(String),
}

struct Line {
    tier: &'static str,
    outcome: Result<Outcome>,
    took: Duration,
}

/// Runs the tiers in order, all of them, whatever fails.
pub(crate) fn run(args: &TestArgs) -> Result<ExitCode> {
    let chosen = choose(&args.tiers)?;
    if chosen.iter().any(|tier| tier.needs_setup) {
        setup::run(setup::Need::everything())?;
    }
    let mut lines = Vec::new();
    for tier in chosen {
        let step = say::step(format!("tier {}", tier.name));
        let started = Instant::now();
        let outcome = (tier.run)(&step);
        let took = started.elapsed();
        match &outcome {
            Ok(Outcome::Passed(count)) if *count > 0 => step.done(format!("{count} tests")),
            Ok(Outcome::Passed(_)) => step.done(""),
            Ok(Outcome::CannotRun(why)) => step.done(format!("CANNOT RUN: {why}")),
            Ok(Outcome::NotRun(why)) => step.done(format!("not run: {why}")),
            Err(error) => {
                drop(step);
                say::note(format!("FAILED {}: {error:#}", tier.name));
            }
        }
        lines.push(Line {
            tier: tier.name,
            outcome,
            took,
        });
    }
    Ok(summarise(&lines, args.strict))
}

fn choose(names: &[String]) -> Result<Vec<&'static tiers::Tier>> {
    for name in names {
        if !tiers::ALL.iter().any(|tier| tier.name == name) {
            let known: Vec<&str> = tiers::ALL.iter().map(|tier| tier.name).collect();
            bail!("no tier '{name}'; there are {}", known.join(" "));
        }
    }
    Ok(tiers::ALL
        .iter()
        .filter(|tier| names.is_empty() || names.iter().any(|name| name == tier.name))
        .collect())
}

fn summarise(lines: &[Line], strict: bool) -> ExitCode {
    say::result("");
    say::result(format!(
        "{:10} {:12} {:>6} {:>9}",
        "tier", "outcome", "tests", "time"
    ));
    let (mut passed, mut failed) = (0, 0);
    for line in lines {
        let (word, count) = match &line.outcome {
            Ok(Outcome::Passed(count)) => {
                passed += (*count).max(1);
                ("passed", *count)
            }
            Ok(Outcome::NotRun(_)) => ("not run", 0),
            Ok(Outcome::CannotRun(_)) if !strict => ("CANNOT RUN", 0),
            Ok(Outcome::CannotRun(_)) => {
                failed += 1;
                ("CANNOT RUN", 0)
            }
            Err(_) => {
                failed += 1;
                ("FAILED", 0)
            }
        };
        let tests = if count == 0 {
            "-".to_owned()
        } else {
            count.to_string()
        };
        let took = say::seconds(line.took);
        say::result(format!("{:10} {word:12} {tests:>6} {took:>9}", line.tier));
    }
    say::result("");
    say::result(format!("{passed} passed, {failed} failed"));
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
