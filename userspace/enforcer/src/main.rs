//! `weir`: the one binary. Reads configuration, builds the parts, supervises them, and is the
//! command line to a running node.

#![forbid(unsafe_code)]

mod admin;
mod backtest;
mod cli;
mod config;
mod console;
mod daemon;
mod examples;
mod learn;
mod notifiers;
mod output;
mod policies;
mod privileges;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
