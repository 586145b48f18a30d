//! `weir policy check`: problems with their places.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::super::ConfigArg;
use crate::{output, policies};

#[derive(Args)]
#[command(
    after_help = "Refused are: names that the schema does not know, rules that can never apply or \
    that a plain forbid covers wholly, and rules without @id, @reason or (on forbid) @advice.\n\n\
    Examples:\n  weir policy check\n  weir policy check --policies ./policies\n  \
    weir policy check --json | jq -r '.problems[] | \"\\(.file):\\(.line): \\(.message)\"'"
)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Another directory of policies than the configured one
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    policies: usize,
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Problem {
    file: String,
    /// From 1; 0 when it concerns the whole file.
    line: usize,
    column: usize,
    message: String,
    help: Option<String>,
}

/// Exit 0 when nothing is wrong, 1 otherwise.
pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode> {
    let config = output::load(&args.config.config)?;
    let directory = args.policies.as_ref().unwrap_or(&config.policies);
    let sources = policies::read(directory)?;
    let (count, problems) = match policies::checked(&sources, &policies::settings(&config)) {
        Ok(set) => (set.len(), Vec::new()),
        Err(problems) => (0, problems),
    };
    if args.json {
        let problems: Vec<Problem> = problems
            .into_iter()
            .map(|problem| Problem {
                file: problem.file,
                line: problem.line,
                column: problem.column,
                message: problem.message,
                help: problem.help,
            })
            .collect();
        let ok = problems.is_empty();
        output::json(&Report {
            ok,
            policies: count,
            problems,
        })?;
        return Ok(if ok {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    if problems.is_empty() {
        output::line(&format!("ok: {count} policies in {}", directory.display()));
        return Ok(ExitCode::SUCCESS);
    }
    output::line(&policies::told(&problems, &sources));
    Ok(ExitCode::FAILURE)
}
