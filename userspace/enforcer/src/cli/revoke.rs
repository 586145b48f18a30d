//! `weir revoke`: ends live sessions at once and keeps their owner out.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::ConfigArg;
use crate::admin::api::{Revocation, RevokeBody, Revoked};
use crate::admin::client::AdminClient;
use crate::output;

#[derive(Args)]
#[command(
    after_help = "Needs weir login as a member of admin.groups.\n\nExamples:\n  \
    weir revoke principal 0b000000-… --reason 'ticket 4711'\n  \
    weir revoke workload analyst --reason 'runs wild'\n  \
    weir revoke session 0190f0c2-… --reason 'wrong database'\n  \
    weir revoke ls\n  \
    weir revoke lift principal 0b000000-…"
)]
pub(crate) struct RevokeArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Args)]
struct Subject {
    #[command(flatten)]
    config: ConfigArg,
    /// Object id, client id, tenant, workload name, cgroup number or session
    value: String,
    /// Why; kept with the entry
    #[arg(long)]
    reason: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Action {
    /// A service principal or person, by object id
    Principal(Subject),
    /// An application, by client id
    Application(Subject),
    /// Every principal of a tenant
    Tenant(Subject),
    /// A workload, by its configured name
    Workload(Subject),
    /// A cgroup, by its number
    Cgroup(Subject),
    /// One live session; it may connect again
    Session(Subject),
    /// What is revoked
    Ls {
        #[command(flatten)]
        config: ConfigArg,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take an entry back
    Lift {
        #[command(flatten)]
        config: ConfigArg,
        /// principal, application, tenant, workload or cgroup
        kind: String,
        value: String,
    },
}

pub(crate) fn run(args: &RevokeArgs) -> Result<ExitCode> {
    match &args.action {
        Action::Principal(subject) => revoke("principal", subject),
        Action::Application(subject) => revoke("application", subject),
        Action::Tenant(subject) => revoke("tenant", subject),
        Action::Workload(subject) => revoke("workload", subject),
        Action::Cgroup(subject) => revoke("cgroup", subject),
        Action::Session(subject) => revoke("session", subject),
        Action::Ls { config, json } => list(config, *json),
        Action::Lift {
            config,
            kind,
            value,
        } => lift(config, kind, value),
    }
}

fn revoke(kind: &str, subject: &Subject) -> Result<ExitCode> {
    let client = AdminClient::of(&output::load(&subject.config.config)?);
    let body = RevokeBody {
        kind: kind.to_owned(),
        value: subject.value.clone(),
        reason: subject.reason.clone(),
    };
    let revoked: Revoked = client.post("/revocations", &body)?;
    if subject.json {
        output::json(&revoked)?;
    } else {
        output::line(&format!("{} live sessions were ended", revoked.ended));
    }
    Ok(ExitCode::SUCCESS)
}

fn list(config: &ConfigArg, json: bool) -> Result<ExitCode> {
    let client = AdminClient::of(&output::load(&config.config)?);
    let entries: Vec<Revocation> = client.get("/revocations")?;
    if json {
        output::json(&entries)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = entries
        .into_iter()
        .map(|entry| vec![entry.kind, entry.value, entry.by, entry.reason])
        .collect();
    output::table(&["KIND", "VALUE", "BY", "REASON"], &rows);
    Ok(ExitCode::SUCCESS)
}

fn lift(config: &ConfigArg, kind: &str, value: &str) -> Result<ExitCode> {
    let client = AdminClient::of(&output::load(&config.config)?);
    let body = RevokeBody {
        kind: kind.to_owned(),
        value: value.to_owned(),
        reason: String::new(),
    };
    client.post::<_, Option<()>>("/revocations/lift", &body)?;
    output::line("lifted");
    Ok(ExitCode::SUCCESS)
}
