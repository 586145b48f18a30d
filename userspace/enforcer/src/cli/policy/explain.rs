//! `weir policy explain`: one question, the answer, and every rule that had a say.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{ArgGroup, Args};

use crate::examples::{self, Question, Report, Scene};
use crate::output;

#[derive(Args)]
#[command(
    group(ArgGroup::new("question").required(true).args(["sql", "request", "command"])),
    after_help = "Who asks and which targets there are is taken from a file of examples.\n\n\
    Examples:\n  \
    weir policy explain --examples 10-read.test.yaml --as analyst --sql 'SELECT ssn FROM customers'\n  \
    weir policy explain --examples 80-kubernetes.test.yaml --as operator \\\n    \
      --request 'DELETE /api/v1/namespaces/shop/pods/web-1'\n  \
    weir policy explain --examples 90-ssh.test.yaml --as analyst --command 'rm -rf /srv' --json"
)]
pub(crate) struct ExplainArgs {
    /// File of examples with principals and targets
    #[arg(long, value_name = "FILE")]
    examples: PathBuf,
    /// Directory of the policies; that of the examples without
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// One of the file's principals
    #[arg(long = "as", value_name = "NAME")]
    who: String,
    /// One of the file's targets; not needed where there is one
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// A text of SQL
    #[arg(long)]
    sql: Option<String>,
    /// METHOD /path
    #[arg(long)]
    request: Option<String>,
    /// Body of the request
    #[arg(long, requires = "request", default_value = "")]
    body: String,
    /// A command line for a shell
    #[arg(long)]
    command: Option<String>,
    /// UTC, such as '2026-12-24 18:30'; a working day's noon without
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Exit 0 whatever the answer is: it is the answer that was asked for.
pub(crate) fn run(args: &ExplainArgs) -> Result<ExitCode> {
    let file = examples::read(&args.examples)?;
    let base = args.examples.parent().unwrap_or(Path::new("."));
    let directory = args.policies.as_deref().unwrap_or(base);
    let scene = Scene::of(&file, directory, base)?;
    let target = scene.target(args.target.as_deref())?;
    let who = scene.principal(&args.who)?;
    let asked = question(args).ask(target)?;
    let now = super::moment(args.at.as_deref())?;
    let answer = examples::answer(&scene, (who, target), &asked, now)?;
    let report = Report::of(&scene.set, &answer);
    if args.json {
        output::json(&report)?;
    } else {
        output::line(report.text().trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

fn question(args: &ExplainArgs) -> Question {
    if let Some(sql) = &args.sql {
        Question::Sql(sql.clone())
    } else if let Some(line) = &args.request {
        Question::Request {
            line: line.clone(),
            body: args.body.clone(),
        }
    } else {
        Question::Command(args.command.clone().unwrap_or_default())
    }
}
