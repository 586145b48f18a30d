//! `weir flows`: what is open now.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::ConfigArg;
use crate::admin::api::Flow;
use crate::admin::client::AdminClient;
use crate::output;

#[derive(Args)]
#[command(after_help = "Examples:\n  weir flows\n  weir flows --json\n  weir flows --kill SESSION")]
pub(crate) struct FlowsArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// End this session with the protocol's own error
    #[arg(long, value_name = "SESSION")]
    kill: Option<String>,
}

pub(crate) fn run(args: &FlowsArgs) -> Result<ExitCode> {
    let client = AdminClient::of(&output::load(&args.config.config)?);
    if let Some(session) = &args.kill {
        let answer: String = client.post(&format!("/flows/{session}/kill"), &())?;
        output::line(&answer);
        return Ok(ExitCode::SUCCESS);
    }
    let flows: Vec<Flow> = client.get("/flows")?;
    if args.json {
        output::json(&flows)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = flows
        .iter()
        .map(|flow| {
            vec![
                flow.session.clone(),
                flow.workload.clone(),
                flow.principal.clone(),
                flow.target.clone(),
                flow.client_addr.clone(),
                flow.server_addr.clone(),
                format!("{} {}", flow.pid, flow.comm),
                format!("{}s", flow.age_s),
            ]
        })
        .collect();
    let header = [
        "SESSION",
        "WORKLOAD",
        "PRINCIPAL",
        "TARGET",
        "CLIENT",
        "SERVER",
        "PROCESS",
        "AGE",
    ];
    output::table(&header, &rows);
    Ok(ExitCode::SUCCESS)
}
