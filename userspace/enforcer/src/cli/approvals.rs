//! `weir approvals`: held requests.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use weir_model::effect::Effect;

use super::ConfigArg;
use crate::admin::api::{Approval, DecideBody, GrantBody};
use crate::admin::client::AdminClient;
use crate::output;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  weir approvals ls\n  weir approvals show ID\n  \
                        weir approvals approve ID --justification 'ticket 4711'\n  \
                        weir approvals approve ID -j 'ticket 4711' --grant shape --for 30m\n  \
                        weir approvals deny ID --justification 'wrong table'\n  \
                        weir approvals watch"
)]
pub(crate) struct ApprovalsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Args, Clone)]
struct Common {
    #[command(flatten)]
    config: ConfigArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Action {
    /// List requests that wait (all with --all)
    Ls {
        #[command(flatten)]
        common: Common,
        /// Also those that are decided or expired
        #[arg(long)]
        all: bool,
    },
    /// Show one request in full
    Show {
        #[command(flatten)]
        common: Common,
        /// Approval id
        id: String,
    },
    /// Approve one request, exactly as it was made
    Approve {
        #[command(flatten)]
        common: Common,
        id: String,
        /// Why; recorded
        #[arg(long, short)]
        justification: String,
        /// Allow more of the same: the statement, its shape (other literals), the objects, or
        /// whatever this session asks for under the same rules
        #[arg(long, value_name = "SCOPE", requires = "for_time",
              value_parser = ["statement", "shape", "object", "session"])]
        grant: Option<String>,
        /// How long, such as 30m or 8h; what still runs then is ended
        #[arg(long = "for", value_name = "TIME", requires = "grant", id = "for_time",
              value_parser = super::seconds)]
        for_s: Option<u32>,
    },
    /// Deny one request
    Deny {
        #[command(flatten)]
        common: Common,
        id: String,
        /// Why; the agent is told
        #[arg(long, short)]
        justification: String,
    },
    /// Print requests as they come in, until interrupted
    Watch {
        #[command(flatten)]
        common: Common,
    },
}

pub(crate) fn run(args: &ApprovalsArgs) -> Result<ExitCode> {
    match &args.action {
        Action::Ls { common, all } => {
            let mut rows: Vec<Approval> = client(common)?.get("/approvals")?;
            if !all {
                rows.retain(|row| row.state == "pending");
            }
            if common.json {
                output::json(&rows)?
            } else {
                print_rows(&rows)
            }
        }
        Action::Show { common, id } => {
            let row: Approval = client(common)?.get(&format!("/approvals/{id}"))?;
            if common.json {
                output::json(&row)?
            } else {
                print_row(&row)
            }
        }
        Action::Approve {
            common,
            id,
            justification,
            grant,
            for_s,
        } => {
            let grant = grant.clone().zip(*for_s);
            let grant = grant.map(|(scope, for_s)| GrantBody { scope, for_s });
            decide(common, id, (true, grant), justification)?;
        }
        Action::Deny {
            common,
            id,
            justification,
        } => decide(common, id, (false, None), justification)?,
        Action::Watch { common } => watch(common)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn client(common: &Common) -> Result<AdminClient> {
    Ok(AdminClient::of(&output::load(&common.config.config)?))
}

fn decide(
    common: &Common,
    id: &str,
    (approve, grant): (bool, Option<GrantBody>),
    justification: &str,
) -> Result<()> {
    let body = DecideBody {
        approve,
        justification: justification.to_owned(),
        grant,
    };
    let row: Approval = client(common)?.post(&format!("/approvals/{id}/decision"), &body)?;
    if common.json {
        output::json(&row)?;
    } else {
        output::line(&format!("{} {}", row.state, row.id));
    }
    Ok(())
}

/// Characters of a statement in a list.
const STATEMENT_WIDTH: usize = 80;

fn print_rows(rows: &[Approval]) {
    if rows.is_empty() {
        output::line("no request waits");
        return;
    }
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.id.clone(),
                row.state.clone(),
                row.workload.clone(),
                format!("{}/{}", row.target, row.database),
                row.groups.join(","),
                // `show` has all of it.
                output::flat(&row.statement, STATEMENT_WIDTH),
            ]
        })
        .collect();
    output::table(
        &[
            "ID",
            "STATE",
            "WORKLOAD",
            "TARGET",
            "REVIEWERS",
            "STATEMENT",
        ],
        &cells,
    );
}

fn print_row(row: &Approval) {
    let line = |name: &str, value: &str| output::line(&format!("{name:<14}{value}"));
    line("id", &row.id);
    line("state", &row.state);
    line("workload", &row.workload);
    line("principal", &row.principal);
    line("process", &row.process);
    line("target", &format!("{}/{}", row.target, row.database));
    line("rules", &row.rules.join(", "));
    line("reason", &row.reason);
    line("reviewers", &row.groups.join(", "));
    if row.approvals > 1 {
        let have = format!("{} of {}", row.approved_by.len(), row.approvals);
        line("approvals", &have);
    }
    if row.state == "pending" && !row.approved_by.is_empty() {
        line("approved by", &row.approved_by.join(", "));
    }
    line("session", &row.session);
    if !row.approver.is_empty() {
        line("decided by", &row.approver);
        line("justification", &row.justification);
    }
    output::line("accesses");
    for access in &row.accesses {
        output::line(&format!("  {access}"));
    }
    output::line("statement");
    output::line(&row.statement);
    if !row.parameters.is_empty() {
        output::line("parameters");
        output::line(&row.parameters);
    }
    if let Some(effect) = &row.effect {
        print_effect(effect);
    }
}

/// Rows as JSON, so that one value ends where it does.
fn print_effect(effect: &Effect) {
    output::line(&format!(
        "effect        {}, undone unless approved; values as the agent would see them",
        effect.tag
    ));
    for changed in &effect.changed {
        if changed.withheld {
            output::line(&format!("  {}: rows are not shown", changed.table));
            continue;
        }
        output::line(&format!(
            "  {} ({})",
            changed.table,
            changed.columns.join(", ")
        ));
        for (sign, rows) in [("-", &changed.before), ("+", &changed.after)] {
            for row in rows {
                output::line(&format!("  {sign} {}", serde_json::json!(row)));
            }
        }
        if changed.more {
            output::line("  …");
        }
    }
}

fn watch(common: &Common) -> Result<()> {
    let client = client(common)?;
    let mut seen = std::collections::BTreeSet::new();
    loop {
        let rows: Vec<Approval> = client.get("/approvals")?;
        for row in rows.iter().filter(|row| row.state == "pending") {
            if seen.insert(row.id.clone()) {
                if common.json {
                    output::data(&serde_json::to_string(row)?);
                } else {
                    output::line(&format!(
                        "{}  {}  {}",
                        row.id,
                        row.workload,
                        // `show` has all of it.
                        output::flat(&row.statement, STATEMENT_WIDTH)
                    ));
                }
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
}
