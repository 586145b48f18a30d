//! What recording costs, and that an outage loses nothing (`cargo xtask bench record`); what a backtest of
//! what was recorded costs (`cargo xtask bench backtest`).
//!
//! Statements are recorded as a node does it: a request and its reply, one commit for each statement, in
//! both durabilities and turn by turn with a plain write of as many bytes. Then an outage: facts go into
//! the spool at full speed while no store is there; it is started, everything is shipped, counted and
//! verified.

#![forbid(unsafe_code)]

mod asked;
mod backtest;
mod made;
mod outage;
mod statements;
mod store;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

/// What every measurement is made with.
pub(crate) struct Parts {
    /// A folder that does not exist yet; everything is made in it.
    pub(crate) folder: PathBuf,
    /// `weir-store` and its library.
    pub(crate) store: PathBuf,
    pub(crate) library: PathBuf,
}

/// What is measured with what.
pub(crate) struct Arguments {
    pub(crate) parts: Parts,
    /// Of the outage.
    pub(crate) facts: u64,
    /// Of each measurement of statements.
    pub(crate) statements: u32,
    pub(crate) rounds: usize,
}

/// A thread for each of two processors.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("a runtime")
}

const USAGE: &str = "record FOLDER STORE LIBRARY FACTS STATEMENTS ROUNDS, or \
    backtest FOLDER STORE LIBRARY WEIR STATEMENTS LIMITS CHECKED";

fn main() -> Result<()> {
    let all: Vec<String> = std::env::args().skip(1).collect();
    let [what, folder, store, library, rest @ ..] = all.as_slice() else {
        anyhow::bail!("{USAGE}");
    };
    let parts = Parts {
        folder: folder.into(),
        store: store.into(),
        library: library.into(),
    };
    let folder = parts.folder.clone();
    ensure!(!folder.exists(), "{} exists already", folder.display());
    std::fs::create_dir_all(&folder).context("making the folder")?;
    let measured = match (what.as_str(), rest) {
        ("record", [facts, statements, rounds]) => record(&Arguments {
            parts,
            facts: facts.parse().context("facts")?,
            statements: statements.parse().context("statements")?,
            rounds: rounds.parse().context("rounds")?,
        }),
        ("backtest", [weir, statements, limits, checked]) => {
            backtest::measure(&backtest::Arguments {
                parts,
                weir: weir.into(),
                statements: statements.parse().context("statements")?,
                limits: limits.parse().context("limits")?,
                checked: checked.parse().context("checked")?,
            })
            .map(|row| print(&row))
        }
        _ => Err(anyhow::anyhow!("{USAGE}")),
    };
    std::fs::remove_dir_all(&folder).context("removing the folder")?;
    measured
}

fn record(arguments: &Arguments) -> Result<()> {
    print(&statements::measure(arguments)?);
    print(&outage::measure(arguments)?);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "what is measured is time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::print_stdout, reason = "the result goes to whoever started it")]
fn print(value: &serde_json::Value) {
    println!("{value}");
}

/// Processor seconds of this process, user and system.
pub(crate) fn cpu_s() -> Result<f64> {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF)?;
    let seconds = |time: nix::sys::time::TimeVal| {
        let micros = i32::try_from(time.tv_usec()).unwrap_or(0);
        let whole = i32::try_from(time.tv_sec()).unwrap_or(i32::MAX);
        f64::from(whole) + f64::from(micros) / 1e6
    };
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}
