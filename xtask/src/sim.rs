//! `cargo xtask sim`: sessions with chance in everything, replayed by their seeds.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::test::PACKAGES;
use crate::{place, run, say};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  cargo xtask sim --seeds 10000\n  cargo xtask sim --seed 17   # one case, as a failure names it"
)]
pub(crate) struct SimArgs {
    /// How many cases, with seeds from 1
    #[arg(long, default_value_t = 10_000, conflicts_with = "seed")]
    seeds: u64,
    /// Only the case of this seed
    #[arg(long)]
    seed: Option<u64>,
}

/// Cuts of bytes, delays, failing records, reviewers and upgrades, by seed.
pub(crate) fn run(args: &SimArgs) -> Result<ExitCode> {
    if args.seeds == 0 {
        bail!("--seeds 0 runs nothing");
    }
    let (name, number, what) = match args.seed {
        Some(seed) => ("WEIR_SIM_SEED", seed, format!("case {seed}")),
        None => (
            "WEIR_SIM_SEEDS",
            args.seeds,
            format!("{} cases", args.seeds),
        ),
    };
    let step = say::step(format!("build and run {what}"));
    let started = Instant::now();
    let mut command = run::cargo();
    command
        .args(["nextest", "run", "--color", "never", "--no-tests", "fail"])
        .args(PACKAGES)
        .args(["-E", "package(weir-postgres) & binary(/^sim/)"])
        .env(name, number.to_string());
    run::logged(
        &step,
        &place::target().join("xtask-logs/sim.log"),
        &mut command,
    )?;
    step.done("");
    say::result(format!(
        "{what}: clean, {}",
        say::seconds(started.elapsed())
    ));
    Ok(ExitCode::SUCCESS)
}
