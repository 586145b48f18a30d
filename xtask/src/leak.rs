//! `cargo xtask leak`: statements that a seed makes, by the thousand, in two worlds that differ in masked
//! values only.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

use crate::test::{Made, Outcome, made};
use crate::{say, setup};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  cargo xtask leak --statements 5000 --seed 7\n  \
    cargo xtask leak --seed 7 --from 4711 --statements 1   # one statement, as a failure names it"
)]
pub(crate) struct LeakArgs {
    /// How many statements
    #[arg(long, default_value_t = 5000)]
    statements: u64,
    /// What they are made from, with the rules of tests/leak/grammar.txt
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of the first one
    #[arg(long, default_value_t = 0)]
    from: u64,
}

/// Through Weir no byte of an answer may tell the worlds apart.
pub(crate) fn run(args: &LeakArgs) -> Result<ExitCode> {
    if args.statements == 0 {
        bail!("--statements 0 runs nothing");
    }
    setup::run(setup::Need::everything())?;
    let step = say::step(format!(
        "{} statements of seed {}",
        args.statements, args.seed
    ));
    let outcome = made(
        &step,
        Made {
            seed: args.seed,
            from: args.from,
            count: args.statements,
        },
    );
    if let Outcome::CannotRun(why) = outcome? {
        bail!("{why}");
    }
    step.done("");
    Ok(ExitCode::SUCCESS)
}
