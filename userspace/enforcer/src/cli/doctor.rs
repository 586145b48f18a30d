//! `weir doctor`: what this host offers and whether the parts answer.

mod identity;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use weir_relay::Protocol;

use super::ConfigArg;
use crate::admin::api::Ready;
use crate::admin::client::AdminClient;
use crate::config::{self, AgentTls, Config};
use crate::{output, policies};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  weir doctor\n  weir doctor --host\n  weir doctor --json | jq '.rows[] | \
                        select(.state != \"ok\")'"
)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Only what this host's kernel offers; needs no configuration
    #[arg(long)]
    host: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How one thing stands.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Works, with something less.
    Degraded,
    Failed,
}

#[derive(Serialize)]
struct Row {
    what: String,
    state: State,
    detail: String,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    rows: Vec<Row>,
}

impl Report {
    fn say(&mut self, what: &str, state: State, detail: impl Into<String>) {
        self.rows.push(Row {
            what: what.to_owned(),
            state,
            detail: detail.into(),
        });
    }
}

/// Exit 0 when nothing failed; degraded is not failed.
pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let mut report = Report {
        ok: false,
        rows: Vec::new(),
    };
    host(&mut report);
    if !args.host {
        with_configuration(args, &mut report);
    }
    print(report, args.json)
}

fn with_configuration(args: &DoctorArgs, report: &mut Report) {
    match config::load(&args.config.config) {
        Ok(config) => {
            report.say(
                "configuration",
                State::Ok,
                args.config.config.display().to_string(),
            );
            configured(&config, report);
        }
        Err(problems) => {
            for problem in problems {
                report.say("configuration", State::Failed, problem.to_string());
            }
        }
    }
}

fn print(mut report: Report, json: bool) -> Result<ExitCode> {
    report.ok = report.rows.iter().all(|row| row.state != State::Failed);
    if json {
        output::json(&report)?;
    } else {
        let rows: Vec<Vec<String>> = report
            .rows
            .iter()
            .map(|row| {
                let state = match row.state {
                    State::Ok => "ok",
                    State::Degraded => "degraded",
                    State::Failed => "FAILED",
                };
                vec![state.to_owned(), row.what.clone(), row.detail.clone()]
            })
            .collect();
        output::table(&["STATE", "WHAT", "DETAIL"], &rows);
    }
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn host(report: &mut Report) {
    match std::fs::read_to_string("/proc/self/mountinfo") {
        Ok(text) if text.contains(" - cgroup2 ") => {
            report.say("cgroup v2", State::Ok, "mounted");
        }
        Ok(_) => report.say("cgroup v2", State::Failed, "not mounted: Weir needs it"),
        Err(error) => report.say("cgroup v2", State::Failed, error.to_string()),
    }
    if Path::new("/sys/kernel/btf/vmlinux").exists() {
        report.say("BTF", State::Ok, "/sys/kernel/btf/vmlinux");
    } else {
        report.say(
            "BTF",
            State::Failed,
            "the kernel has none: build it with DEBUG_INFO_BTF",
        );
    }
    if !nix::unistd::Uid::effective().is_root() {
        report.say("eBPF", State::Degraded, "not looked at: run as root");
        return;
    }
    for probe in weir_kernel::probe() {
        let state = match (probe.works, probe.required) {
            (true, _) => State::Ok,
            (false, false) => State::Degraded,
            (false, true) => State::Failed,
        };
        report.say(&format!("eBPF {}", probe.what), state, probe.detail);
    }
}

/// What becomes of live sessions when a second node takes over. Moving is a matter of the protocol
/// and of encryption, not of the host: there is no hand-over of TLS by the kernel yet.
fn upgrades(config: &Config, report: &mut Report) {
    for target in &config.targets {
        let ours = &*target.protocol == Protocol::Postgres.name();
        let detail = match (ours, &target.upstream, &target.agent_tls) {
            (false, _, _) => "sessions of this protocol end where they began",
            (true, Some(_), _) => "sessions end where they began: TLS towards the server stays",
            (true, None, AgentTls::Required) => {
                "sessions end where they began: TLS towards the agent stays"
            }
            (true, None, _) => "sessions without TLS move to the next node, others end here",
        };
        let drain = format!("{detail} (node.drain_s: {})", config.node.drain_s);
        report.say(&format!("upgrade of {}", target.name), State::Ok, drain);
    }
}

/// Longest wait for the console's socket.
const CONSOLE_ANSWERS: std::time::Duration = std::time::Duration::from_secs(2);

/// Where the web console is, and whether somebody listens there.
fn console(config: &Config, report: &mut Report) {
    let Some(console) = &config.console else {
        return report.say("console", State::Ok, "not configured");
    };
    let url = &console.url;
    match std::net::TcpStream::connect_timeout(&console.listen, CONSOLE_ANSWERS) {
        Ok(_) => report.say("console", State::Ok, url.clone()),
        Err(error) => {
            let text = format!("{url}: {} does not answer: {error}", console.listen);
            report.say("console", State::Failed, text);
        }
    }
}

fn configured(config: &Config, report: &mut Report) {
    match policies::load(config) {
        Ok(set) => {
            report.say(
                "policies",
                State::Ok,
                format!("version {:08x}", set.version()),
            );
        }
        Err(error) => report.say("policies", State::Failed, format!("{error:#}")),
    }
    upgrades(config, report);
    let client = AdminClient::of(config);
    match client.get::<Ready>("/ready") {
        Ok(_) => report.say("node", State::Ok, "ready"),
        Err(error) => report.say("node", State::Failed, format!("{error:#}")),
    }
    console(config, report);
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        report.say("network", State::Failed, "no runtime");
        return;
    };
    runtime.block_on(async {
        match super::sessions::reader(config) {
            Ok(client) => {
                let answer =
                    weir_record::query::fetch::<serde_json::Value>(client.query("SELECT 1 AS one"))
                        .await;
                match answer {
                    Ok(_) => {
                        report.say("ClickHouse", State::Ok, "answers");
                        stored(&client, report).await;
                    }
                    Err(error) => report.say("ClickHouse", State::Degraded, error),
                }
            }
            Err(error) => report.say("ClickHouse", State::Degraded, format!("{error:#}")),
        }
        identity::look(config, report).await;
    });
}

/// Without its tables, or with others, nothing can be shipped exactly once.
async fn stored(client: &clickhouse::Client, report: &mut Report) {
    match weir_record::tables::check(client).await {
        Ok(problems) if problems.is_empty() => {
            report.say(
                "ClickHouse's tables",
                State::Ok,
                "as the shipper needs them",
            );
        }
        Ok(problems) => {
            for problem in problems {
                report.say("ClickHouse's tables", State::Failed, problem);
            }
        }
        Err(error) => report.say("ClickHouse's tables", State::Degraded, error),
    }
}
