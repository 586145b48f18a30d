//! `weir check`: configuration and policies, every problem at once.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::ConfigArg;
use crate::output;
use crate::{config, policies};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  weir check --config /etc/weir/weir.yaml\n  \
                        weir check --json | jq '.problems[]'"
)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    problems: Vec<String>,
    warnings: Vec<String>,
    workloads: usize,
    targets: usize,
    policy_version: Option<u32>,
}

/// Exit 0 when nothing is wrong, 1 otherwise.
pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode> {
    let mut report = Report {
        ok: false,
        problems: Vec::new(),
        warnings: Vec::new(),
        workloads: 0,
        targets: 0,
        policy_version: None,
    };
    match config::load(&args.config.config) {
        Err(problems) => report.problems = problems.iter().map(ToString::to_string).collect(),
        Ok(config) => {
            report.workloads = config.workloads.len();
            report.targets = config.targets.len();
            report.warnings = config::warnings(&config);
            match policies::load(&config) {
                Ok(set) => report.policy_version = Some(set.version()),
                Err(error) => report.problems.push(format!("policies: {error:#}")),
            }
        }
    }
    report.ok = report.problems.is_empty();
    if args.json {
        output::json(&report)?;
    } else if report.ok {
        let version = report.policy_version.unwrap_or_default();
        output::line(&format!(
            "ok: {} workloads, {} targets, policy version {version:08x}",
            report.workloads, report.targets
        ));
        for warning in &report.warnings {
            output::line(&format!("  warning: {warning}"));
        }
    } else {
        output::line(&format!("{}: not usable", args.config.config.display()));
        for problem in &report.problems {
            output::line(&format!("  {problem}"));
        }
    }
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
