//! `weir revoke`: ends live sessions at once and keeps their owner out.

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use weir_model::ident::SessionId;

use super::ConfigArg;
use crate::admin::api::{Revocation, RevokeBody, Revoked};
use crate::admin::client::AdminClient;
use crate::config::Config;
use crate::output;

/// The node has this long to end sessions in their own words before the kernel resets them.
const NODE_SAYS_GOODBYE: Duration = Duration::from_millis(400);
/// A node that says nothing for this long after that is taken for hung.
const NODE_ANSWERS: Duration = Duration::from_secs(10);

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

fn revoke(kind: &'static str, subject: &Subject) -> Result<ExitCode> {
    let config = output::load(&subject.config.config)?;
    let broker = config.node.run_dir.join("revoke.sock");
    let told = ask_node(&config, kind, subject);
    // A refusal of the node counts; only a node that says nothing is gone without.
    let in_time = told.recv_timeout(NODE_SAYS_GOODBYE);
    if let Ok(Err(refused)) = in_time {
        return Err(refused);
    }
    let reset = match at_broker(kind, &subject.value) {
        Some(whose) => weir_broker::revoke(&broker, &whose)
            .with_context(|| format!("asking the broker at {}", broker.display()))?,
        None => 0,
    };
    let told = match in_time {
        Ok(answer) => answer,
        Err(_late) => told
            .recv_timeout(NODE_ANSWERS)
            .unwrap_or_else(|_hung| Err(anyhow::anyhow!("it does not answer"))),
    };
    let ended = told
        .with_context(|| {
            format!(
                "{reset} ends of live connections were reset by the kernel, but the node keeps \
                 nobody out: restart it, then revoke again"
            )
        })?
        .ended;
    if subject.json {
        output::json(&serde_json::json!({ "ended": ended, "reset": reset }))?;
    } else {
        output::line(&format!(
            "{ended} live sessions were ended, {reset} ends of connections had to be reset"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The node says good-bye in the agent's protocol and keeps the owner out; it may be stopped, so
/// it is not waited for here.
fn ask_node(config: &Config, kind: &str, subject: &Subject) -> Receiver<Result<Revoked>> {
    let client = AdminClient::of(config);
    let body = RevokeBody {
        kind: kind.to_owned(),
        value: subject.value.clone(),
        reason: subject.reason.clone(),
    };
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        // Whoever waited may have given up.
        let _gone = sender.send(client.post("/revocations", &body));
    });
    receiver
}

/// What the broker can find by itself.
fn at_broker(kind: &str, value: &str) -> Option<weir_broker::Revoked> {
    match kind {
        "principal" => Some(weir_broker::Revoked::Principal(value.to_owned())),
        "workload" => Some(weir_broker::Revoked::Workload(value.to_owned())),
        "session" => {
            let session = SessionId::parse(value)?;
            Some(weir_broker::Revoked::Session(format!("{:032x}", session.0)))
        }
        _ => None,
    }
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
