//! `cargo xtask`: sets up the machine, builds Weir, runs it on real parts and checks the repository.
#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "a developer's tool: the shell of everything else, with the environment and a clock"
)]

mod bench;
mod binaries;
mod conformance;
mod fuzz;
mod http;
mod lab;
mod leak;
mod place;
mod quickstart;
mod run;
mod say;
mod setup;
mod sim;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Sets up the machine, builds Weir, runs it on real parts and checks the repository",
    after_help = "Examples:\n  \
        cargo xtask quickstart\n  \
        cargo xtask test --strict\n  \
        cargo xtask lab up && cargo xtask lab exec --agent analyst -- psql -c 'select 1'\n  \
        cargo xtask bench path\n  \
        cargo xtask vm 6.1 6.12"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what is missing, build, start a whole node and show what it does
    Quickstart(quickstart::QuickstartArgs),
    /// Run everything that must pass, by tier, with a summary
    Test(test::TestArgs),
    /// A node on real parts for experiments and tests
    #[command(subcommand)]
    Lab(lab::LabCommand),
    /// Measure, always as a ratio against a direct run in the same command
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Foreign test suites through Weir (builds what they need; opt-in)
    #[command(subcommand)]
    Conformance(conformance::ConformanceCommand),
    /// Feed what reads foreign bytes with bytes that were found to matter (libFuzzer)
    Fuzz(fuzz::FuzzArgs),
    /// Simulated PostgreSQL sessions, each replayed by its seed
    Sim(sim::SimArgs),
    /// Statements made by chance, which must not show masked values; each is made again by its seed
    Leak(leak::LeakArgs),
    /// The kernel tier on other kernels, under qemu
    Vm(vm::VmArgs),
    /// Check the repository's own rules
    Tidy,
    /// Install what builds and tests need; quick when nothing is missing
    Setup,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Quickstart(args) => quickstart::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Lab(command) => lab::run(command),
        Command::Bench(command) => bench::run(&command),
        Command::Conformance(command) => conformance::run(&command),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Sim(args) => sim::run(&args),
        Command::Leak(args) => leak::run(&args),
        Command::Vm(args) => vm::run(&args),
        Command::Tidy => tidy::run(),
        Command::Setup => setup::run(setup::Need::everything()).map(|()| ExitCode::SUCCESS),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            say::error(&error);
            ExitCode::FAILURE
        }
    }
}
