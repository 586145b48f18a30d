//! `weir grants`: what reviewers allowed for a while.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::ConfigArg;
use crate::admin::api::{Grant, RevokeGrantBody};
use crate::admin::client::AdminClient;
use crate::output;

#[derive(Args)]
#[command(
    after_help = "A grant comes of an approval: weir approvals approve ID --grant shape --for 30m\n\n\
    Examples:\n  weir grants ls\n  weir grants ls --all --json\n  \
    weir grants revoke ID --reason 'not needed any more'"
)]
pub(crate) struct GrantsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Args)]
struct Common {
    #[command(flatten)]
    config: ConfigArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Action {
    /// List grants in force (all with --all)
    Ls {
        #[command(flatten)]
        common: Common,
        /// Also those that expired or were revoked
        #[arg(long)]
        all: bool,
    },
    /// Take a grant back; what runs under it is ended (needs weir login as a reviewer)
    Revoke {
        #[command(flatten)]
        common: Common,
        /// Id of the grant, which is that of its approval
        id: String,
        /// Why; kept with the grant
        #[arg(long)]
        reason: String,
    },
}

pub(crate) fn run(args: &GrantsArgs) -> Result<ExitCode> {
    match &args.action {
        Action::Ls { common, all } => {
            let mut grants: Vec<Grant> = client(common)?.get("/grants")?;
            if !all {
                grants.retain(|grant| grant.state == "in force");
            }
            if common.json {
                output::json(&grants)?;
            } else {
                print(&grants);
            }
        }
        Action::Revoke { common, id, reason } => {
            let body = RevokeGrantBody {
                reason: reason.clone(),
            };
            let grant: Grant = client(common)?.post(&format!("/grants/{id}/revoke"), &body)?;
            if common.json {
                output::json(&grant)?;
            } else {
                output::line(&format!("{} {}", grant.state, grant.id));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn client(common: &Common) -> Result<AdminClient> {
    Ok(AdminClient::of(&output::load(&common.config.config)?))
}

fn print(grants: &[Grant]) {
    if grants.is_empty() {
        output::line("no grant is in force");
        return;
    }
    let now_ms = weir_clock::now().wall_us / 1000;
    let cells: Vec<Vec<String>> = grants
        .iter()
        .map(|grant| {
            let left_s = ((grant.expires_ms - now_ms) / 1000).max(0);
            vec![
                grant.id.clone(),
                grant.state.clone(),
                grant.scope.clone(),
                format!("{}m{:02}s", left_s / 60, left_s % 60),
                grant.uses.to_string(),
                grant.approval.workload.clone(),
                format!("{}/{}", grant.approval.target, grant.approval.database),
                grant.approval.rules.join(","),
                grant.approval.approver.clone(),
            ]
        })
        .collect();
    let heads = [
        "ID",
        "STATE",
        "SCOPE",
        "LEFT",
        "USES",
        "WORKLOAD",
        "TARGET",
        "RULES",
        "APPROVED BY",
    ];
    output::table(&heads, &cells);
}
