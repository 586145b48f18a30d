//! `weir token verify`: the verdict on one token, with the step that failed.

use std::io::Read;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use super::ConfigArg;
use crate::daemon::identities::identify;
use crate::output;

/// More than the validator takes, so that its own limit answers.
const INPUT_BYTES_MAX: u64 = 64 * 1024;

#[derive(Args)]
#[command(after_help = "Examples:\n  weir token verify < token.jwt\n  \
                        az account get-access-token --query accessToken -o tsv | weir token verify")]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Read a token from standard input and print the verdict as JSON; exit 0 when it is good
    Verify(ConfigArg),
}

pub(crate) fn run(args: &TokenArgs) -> Result<ExitCode> {
    let Action::Verify(arg) = &args.action;
    let config = output::load(&arg.config)?;
    let mut token = String::new();
    std::io::stdin()
        .take(INPUT_BYTES_MAX)
        .read_to_string(&mut token)
        .context("reading the token from standard input")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let verdict = runtime.block_on(async {
        let identify = identify(&config)?;
        anyhow::Ok(identify.verify(token.trim_end(), weir_clock::now()).await)
    })?;
    output::json(&verdict)?;
    Ok(if verdict.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
