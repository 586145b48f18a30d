//! `weir`: the one binary. Reads configuration, builds the parts, supervises them, and is the
//! command line to a running node.

#![forbid(unsafe_code)]

mod admin;
mod cli;
mod config;
mod daemon;
mod examples;
mod learn;
mod output;
mod policies;
mod privileges;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
