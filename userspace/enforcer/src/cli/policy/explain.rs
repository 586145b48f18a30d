//! `weir policy explain`: one question, the answer, and every rule that had a say.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{ArgGroup, Args};
use serde::Serialize;
use weir_decide::{Explained, PolicySet};

use crate::examples::{self, Answer, Question, Scene, Verdict};
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

#[derive(Serialize)]
struct Report {
    outcome: &'static str,
    words: String,
    rules: Vec<Rule>,
    advice: Option<String>,
    requests: Vec<Line>,
    /// Object → kind.
    masks: Vec<MaskLine>,
    rows_max: Option<u64>,
    bytes_max: Option<u64>,
}

#[derive(Serialize)]
struct Rule {
    id: String,
    place: Option<String>,
    reason: Option<String>,
}

#[derive(Serialize)]
struct MaskLine {
    object: String,
    kind: String,
    rule: String,
}

#[derive(Serialize)]
struct Line {
    action: &'static str,
    object: String,
    permits: Vec<String>,
    forbids: Vec<String>,
    holds: Vec<String>,
    masks: Vec<String>,
    limits: Vec<String>,
    detects: Vec<String>,
    refused: Option<String>,
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
    let report = report(&scene.set, &answer);
    if args.json {
        output::json(&report)?;
    } else {
        print(&report);
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

fn report(set: &PolicySet, answer: &Answer) -> Report {
    let (masks, rows_max, bytes_max) = match &answer.verdict {
        Verdict::Allow { obligations, .. } => (
            obligations
                .masks
                .iter()
                .map(|(object, mask)| MaskLine {
                    object: format!("{}:{}", object.kind, object.id()),
                    kind: examples::mask_label(mask.kind),
                    rule: mask.rule.to_string(),
                })
                .collect(),
            obligations.rows_max,
            obligations.bytes_max,
        ),
        Verdict::Deny { .. } | Verdict::Hold { .. } | Verdict::Refuse { .. } => {
            (Vec::new(), None, None)
        }
    };
    let advice = match &answer.verdict {
        Verdict::Deny { advice, .. } => advice.clone(),
        Verdict::Allow { .. } | Verdict::Hold { .. } | Verdict::Refuse { .. } => None,
    };
    Report {
        outcome: answer.verdict.expected().label(),
        words: examples::words(&answer.verdict),
        rules: answer
            .verdict
            .rules()
            .into_iter()
            .map(|id| rule(set, id))
            .collect(),
        advice,
        requests: answer.accesses.iter().map(line).collect(),
        masks,
        rows_max,
        bytes_max,
    }
}

fn rule(set: &PolicySet, id: String) -> Rule {
    let about = set.about(&id);
    Rule {
        place: about.map(|about| format!("{}:{}", about.file, about.line)),
        reason: about.map(|about| about.reason.to_owned()),
        id,
    }
}

fn line(explained: &Explained) -> Line {
    let ids = |rules: &[std::sync::Arc<str>]| rules.iter().map(ToString::to_string).collect();
    let object = &explained.access.object;
    Line {
        action: explained.access.action,
        object: format!("{}:{}", object.kind, object.id()),
        permits: ids(&explained.permits),
        forbids: ids(&explained.forbids),
        holds: ids(&explained.holds),
        masks: explained
            .masks
            .iter()
            .map(|mask| format!("{} ({})", mask.rule, examples::mask_label(mask.kind)))
            .collect(),
        limits: ids(&explained.limits),
        detects: ids(&explained.detects),
        refused: explained
            .refused
            .as_ref()
            .map(|denial| format!("{}: {}", denial.rule, denial.reason)),
    }
}

fn print(report: &Report) {
    output::line(&format!("{}: {}", report.outcome, report.words));
    if let Some(advice) = &report.advice {
        output::line(&format!("  what to do: {advice}"));
    }
    for rule in &report.rules {
        if let (Some(place), Some(reason)) = (&rule.place, &rule.reason) {
            output::line(&format!("  {} ({place}): {reason}", rule.id));
        }
    }
    for mask in &report.masks {
        let (object, kind, rule) = (&mask.object, &mask.kind, &mask.rule);
        output::line(&format!("  masked: {object} as {kind} by {rule}"));
    }
    if let Some(rows) = report.rows_max {
        output::line(&format!("  at most {rows} rows"));
    }
    if let Some(bytes) = report.bytes_max {
        output::line(&format!("  at most {bytes} bytes"));
    }
    output::line("requests");
    for line in &report.requests {
        output::line(&format!("  {} {}", line.action, line.object));
        for (what, rules) in [
            ("permitted by", &line.permits),
            ("forbidden by", &line.forbids),
            ("held by", &line.holds),
            ("masked by", &line.masks),
            ("limited by", &line.limits),
            ("looked through by", &line.detects),
        ] {
            if !rules.is_empty() {
                output::line(&format!("    {what} {}", rules.join(", ")));
            }
        }
        if let Some(refused) = &line.refused {
            output::line(&format!("    refused by {refused}"));
        }
    }
}
