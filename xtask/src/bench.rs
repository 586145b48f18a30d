//! `cargo xtask bench`: measurements, always as a ratio against a direct run in the same command.

mod backtest;
mod connect;
mod kubernetes;
mod pair;
mod path;
mod policy;
mod ratio;
mod record;
mod ssh;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

#[derive(Subcommand)]
#[command(after_help = "Examples:\n  cargo xtask bench path\n  \
    cargo xtask bench path --rounds 7 --seconds 4\n  \
    cargo xtask bench connect\n  cargo xtask bench policy\n  cargo xtask bench record --facts 10000000\n  cargo xtask bench backtest\n  cargo xtask bench ssh\n  cargo xtask bench kubernetes --rounds 3")]
pub(crate) enum BenchCommand {
    /// pgbench through Weir, directly, and through a byte-copying proxy
    Path(PathArgs),
    /// ssh and sftp through Weir and directly
    Ssh(PairArgs),
    /// What the kernel programs cost a connect, and how long each of them runs
    Connect(connect::ConnectArgs),
    /// Decisions under 10 to 10,000 policies
    Policy(policy::PolicyArgs),
    /// Recorded statements decided again under other policies
    Backtest(backtest::BacktestArgs),
    /// Facts into the spool and into ClickHouse, an outage, and verification
    Record(record::RecordArgs),
    /// Requests and streams of Kubernetes through Weir and directly
    Kubernetes(PairArgs),
}

#[derive(Args)]
pub(crate) struct PairArgs {
    /// Alternating rounds; medians are taken over them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Folder with release binaries: nothing of Weir is built
    #[arg(long, value_name = "DIR")]
    binaries: Option<std::path::PathBuf>,
}

#[derive(Args)]
pub(crate) struct PathArgs {
    /// Alternating rounds; medians are taken over them
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// Numbers of clients
    #[arg(long, value_delimiter = ',', default_value = "1,16")]
    clients: Vec<u32>,
}

pub(crate) fn run(command: &BenchCommand) -> Result<ExitCode> {
    match command {
        BenchCommand::Connect(args) => connect::run(args),
        BenchCommand::Policy(args) => policy::run(args),
        BenchCommand::Backtest(args) => backtest::run(args),
        BenchCommand::Record(args) => record::run(args),
        BenchCommand::Path(args) => path::run(args),
        BenchCommand::Ssh(args) => ssh::run(args),
        BenchCommand::Kubernetes(args) => kubernetes::run(args),
    }
}
