//! PostgreSQL: everything is said twice, straight at the server and through Weir, and must be the same.

mod corpus;
mod drivers;
mod own;
mod records;
mod regress;
mod report;
mod server;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use self::report::Report;
use self::server::Server;
use crate::lab::model::Lab;
use crate::lab::{self, up};
use crate::test::Outcome;
use crate::{place, say};

#[derive(Args)]
pub(crate) struct PostgresArgs {
    /// Name of the lab
    #[arg(long, default_value = "conformance-pg")]
    name: String,
    /// Only these suites: corpus drivers records regress own
    #[arg(long, value_delimiter = ',', value_name = "SUITE")]
    suites: Vec<String>,
    /// Only these modes of the corpus
    #[arg(long, value_delimiter = ',', value_name = "MODE")]
    modes: Vec<String>,
    /// Of the suite `own` only the tests of these, as `asyncpg` or `sqlalchemy-psycopg`
    #[arg(long, value_delimiter = ',', value_name = "DRIVER")]
    drivers: Vec<String>,
    /// Two modes, and every 20th of the statements that are made from the server's catalog
    #[arg(long)]
    short: bool,
    /// Leave the lab up
    #[arg(long)]
    keep: bool,
    /// Folder with Weir's binaries: nothing of Weir is built
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
}

/// One suite: its name, and what runs it.
type Suite = (&'static str, fn(&Run<'_>) -> Result<Vec<Report>>);

/// In order; `records` compares what all before it left in the server's log and in the store.
const SUITES: [Suite; 5] = [
    ("corpus", corpus::run),
    ("drivers", drivers::run),
    ("records", records::run),
    ("regress", regress::run),
    ("own", own::run),
];

/// What a suite needs.
pub(super) struct Run<'a> {
    lab: &'a Lab,
    server: Server<'a>,
    short: bool,
    modes: &'a [String],
    drivers: &'a [String],
}

pub(super) fn run(args: &PostgresArgs) -> Result<ExitCode> {
    place::need_root("a lab")?;
    for name in &args.suites {
        if !SUITES.iter().any(|(known, _)| known == name) {
            let known = SUITES.map(|(name, _)| name).join(" ");
            bail!("no suite '{name}'; there are {known}");
        }
    }
    let reports = through(args)?;
    Ok(report::print(&reports))
}

/// The short form, as a tier of `cargo xtask test`.
pub(crate) fn tier(_step: &say::Step) -> Result<Outcome> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Outcome::CannotRun("it needs root".to_owned()));
    }
    let args = PostgresArgs {
        name: format!("postgres-{}", std::process::id()),
        suites: vec!["corpus".to_owned(), "records".to_owned()],
        modes: Vec::new(),
        drivers: Vec::new(),
        short: true,
        keep: false,
        binaries: None,
    };
    let reports = through(&args)?;
    let different: Vec<&str> = reports
        .iter()
        .flat_map(|report| report.different.iter().map(String::as_str))
        .collect();
    if !different.is_empty() {
        bail!("{} differences:\n{}", different.len(), different.join("\n"));
    }
    Ok(Outcome::Passed(
        reports.iter().map(|report| report.run).sum(),
    ))
}

/// Brings a lab up for the suites, and down again.
fn through(args: &PostgresArgs) -> Result<Vec<Report>> {
    let mut up_args = up::default_args(&args.name);
    up_args.policies = Some(folder().join("policies"));
    up_args.binaries.clone_from(&args.binaries);
    let lab = up::up(&up_args)?;
    let reports = reports(&lab, args);
    if args.keep {
        say::note(format!("cargo xtask lab down --name {}", lab.name));
    } else {
        lab::keep_logs(&lab);
        lab::down(&lab)?;
    }
    reports
}

fn reports(lab: &Lab, args: &PostgresArgs) -> Result<Vec<Report>> {
    let server = Server::new(lab)?;
    server.prepare()?;
    let run = Run {
        lab,
        server,
        short: args.short,
        modes: &args.modes,
        drivers: &args.drivers,
    };
    let mut reports = Vec::new();
    for (name, suite) in SUITES {
        if args.suites.is_empty() || args.suites.iter().any(|wanted| wanted == name) {
            reports.extend(suite(&run).with_context(|| format!("suite {name}"))?);
        }
    }
    Ok(reports)
}

/// By which way the server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Direct,
    Weir,
}

impl Way {
    pub(super) const BOTH: [Self; 2] = [Self::Direct, Self::Weir];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Weir => "weir",
        }
    }
}

impl Run<'_> {
    /// A command as an ordinary client of the database: on the host over the server's own socket, or
    /// inside an agent.
    fn client(&self, way: Way, database: &str, command: &[&str]) -> Result<Command> {
        let lab = self.lab;
        let mut client = match way {
            Way::Direct => {
                let mut client = Command::new("env");
                client
                    .arg(format!("PGHOST={}", lab.database.socket_dir.display()))
                    .arg(format!("PGPORT={}", lab.database.port))
                    .arg(format!("PGUSER={}", lab.database.user))
                    .arg(format!("PGDATABASE={database}"));
                client
            }
            Way::Weir => {
                let program = std::env::current_exe().context("finding this program")?;
                let mut client = Command::new(program);
                client
                    .args(["lab", "exec", "--name", &lab.name, "--agent", "operator"])
                    .args(["--env", &format!("PGDATABASE={database}"), "--"]);
                client
            }
        };
        client.args(command);
        Ok(client)
    }
}

/// What the suites are told: statements, scripts, policies, and where a difference is meant.
fn folder() -> PathBuf {
    place::root().join("tests/conformance/postgres")
}

/// Where output of both ways is kept.
fn kept(name: &str) -> PathBuf {
    place::target().join("conformance/postgres").join(name)
}
