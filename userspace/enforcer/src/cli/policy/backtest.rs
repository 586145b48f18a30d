//! `weir policy backtest`: what other policies would have said of recorded requests.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use weir_decide::{Engine, PolicySet};
use weir_record::asked::{self, Span};

use super::super::{ConfigArg, sessions};
use crate::backtest::{Backtest, Change, Duties, Extent, Judge, Question, Undecidable};
use crate::config::Config;
use crate::output;
use crate::policies::{self, VOCABULARIES};

#[derive(Args)]
#[command(
    after_help = "Each recorded request is decided again under the candidate's policies, as of the minute when \
    it was made. Shown is every decision that changes, by rule, agent and statement shape, and what stays allowed \
    with other masks or limits than the policies in force. With --check some requests are also decided by Cedar \
    alone, one by one.\n\nExamples:\n  \
    weir policy backtest --since 7d --candidate ./policies\n  \
    weir policy backtest --since 2026-11-01 --until 2026-11-08 --candidate ./policies --json\n  \
    weir policy backtest --since 24h --candidate ./policies --workload analyst --check 1000 --strict"
)]
pub(crate) struct BacktestArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Directory of the policies to be tried
    #[arg(long, value_name = "DIR")]
    candidate: PathBuf,
    /// Since then: 30m, 24h, 7d ago, a day (2026-11-29) or a time ('2026-11-29 08:00'), in UTC
    #[arg(long, value_name = "TIME")]
    since: String,
    /// Without what came from then on, as --since; now without
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only of this workload
    #[arg(long, value_name = "NAME", default_value = "")]
    workload: String,
    /// Only of this target
    #[arg(long, value_name = "NAME", default_value = "")]
    target: String,
    /// Decide so many requests by Cedar alone as well, and compare
    #[arg(long, value_name = "N", default_value_t = 0)]
    check: u64,
    /// Exit 1 when any decision changes
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    requests: u64,
    different: u64,
    unchanged: u64,
    changed: u64,
    /// Requests by why they cannot be decided again.
    undecidable: Vec<(Undecidable, u64)>,
    /// Requests that the policies in force decide otherwise than was recorded.
    drifted: u64,
    changes: Vec<Changed>,
    duties: Vec<ChangedDuties>,
    /// Requests that change in yet other ways, of decisions and of masks and limits.
    unlisted_changes: u64,
    unlisted_duties: u64,
    /// Single requests decided by Cedar alone as well.
    checked: u64,
    /// Those of them on which Cedar and the compiled policies differ.
    mismatched: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct Changed {
    #[serde(flatten)]
    change: Change,
    #[serde(flatten)]
    extent: Extent,
}

#[derive(Serialize)]
struct ChangedDuties {
    #[serde(flatten)]
    duties: Duties,
    #[serde(flatten)]
    extent: Extent,
}

pub(crate) fn run(args: &BacktestArgs) -> Result<ExitCode> {
    let config = output::load(&args.config.config)?;
    let now_s = weir_clock::now().unix_s();
    let span = Span {
        from_s: super::since(&args.since, now_s)?,
        until_s: match &args.until {
            Some(until) => super::since(until, now_s)?,
            None => now_s + 1,
        },
        workload: args.workload.clone(),
        target: args.target.clone(),
    };
    ensure!(span.from_s < span.until_s, "--since is not before --until");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(backtest(args, &config, &span))?;
    if args.json {
        output::json(&report)?;
    } else {
        print(&report);
    }
    ensure!(
        report.mismatched == 0,
        "Cedar decides {} of {} requests otherwise: please report this",
        report.mismatched,
        report.checked
    );
    Ok(if args.strict && report.changed > 0 {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

async fn backtest(args: &BacktestArgs, config: &Config, span: &Span) -> Result<Report> {
    let client = sessions::reader(config)?;
    let settings = policies::settings(config);
    let sources = policies::read(&args.candidate)?;
    let candidate = Arc::new(policies::compile(&sources, &settings)?);
    let current = Arc::new(policies::load(config).context("the policies in force")?);
    let started_us = weir_clock::now().mono_us;
    let mut found = Backtest::default();
    let judge = |set: &Arc<PolicySet>, engine| Judge::new(Arc::clone(set), engine);
    let mut judges = (
        judge(&candidate, Engine::Compiled),
        judge(&current, Engine::Compiled),
    );
    let times = candidate.times().clone().joined(current.times());
    asked::requests(&client, span, &times, |row| {
        let question = Question::of(&row, VOCABULARIES);
        let question = question.as_ref().map_err(|why| *why);
        found.take(&row, question, (&mut judges.0, &mut judges.1));
        Ok(())
    })
    .await
    .map_err(anyhow::Error::msg)?;
    let seconds = seconds(weir_clock::now().mono_us - started_us);
    ensure!(found.requests > 0, "nothing is recorded in this time");
    let (mut checked, mut mismatched) = (0, 0);
    if args.check > 0 {
        let oracle = judge(&candidate, Engine::Cedar);
        let of = found.requests;
        asked::sample(&client, span, (args.check, of), |row| {
            if let Ok(question) = Question::of(&row, VOCABULARIES) {
                let ours = judges.0.say(&row, &question);
                checked += 1;
                mismatched += u64::from(ours != oracle.say_alone(&row, &question));
            }
            Ok(())
        })
        .await
        .map_err(anyhow::Error::msg)?;
    }
    Ok(report(found, (checked, mismatched), seconds))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds need no more than 52 bits"
)]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn report(found: Backtest, (checked, mismatched): (u64, u64), seconds: f64) -> Report {
    let mut changes: Vec<Changed> = Vec::new();
    let changed = found.changed();
    for (change, extent) in found.changes {
        changes.push(Changed { change, extent });
    }
    changes.sort_by_key(|changed| std::cmp::Reverse(changed.extent.requests));
    let mut duties: Vec<ChangedDuties> = Vec::new();
    for (duty, extent) in found.duties {
        duties.push(ChangedDuties {
            duties: duty,
            extent,
        });
    }
    duties.sort_by_key(|changed| std::cmp::Reverse(changed.extent.requests));
    Report {
        requests: found.requests,
        different: found.different,
        unchanged: found.unchanged,
        changed,
        undecidable: found.undecidable.into_iter().collect(),
        drifted: found.drifted,
        changes,
        duties,
        unlisted_changes: found.unlisted.0,
        unlisted_duties: found.unlisted.1,
        checked,
        mismatched,
        seconds,
    }
}

/// Characters of a statement.
const WIDTH: usize = 160;

fn print(report: &Report) {
    output::line(&format!(
        "{} requests (by {} decisions): {} decided as before, {} otherwise; {:.1} s",
        report.requests, report.different, report.unchanged, report.changed, report.seconds
    ));
    for changed in &report.changes {
        let (change, extent) = (&changed.change, &changed.extent);
        let what = if change.shape == 0 {
            change.what.clone()
        } else {
            format!("shape {:016x}", change.shape)
        };
        output::line(&format!(
            "\n{} → {}  {} requests  {} on {}  {what}\n  by {} (was {})\n  {} … {}\n  {}",
            change.from,
            change.to,
            extent.requests,
            change.workload,
            change.target,
            change.to_rule,
            change.from_rule,
            extent.first,
            extent.last,
            output::flat(&extent.statement, WIDTH)
        ));
    }
    for changed in &report.duties {
        let (duties, extent) = (&changed.duties, &changed.extent);
        output::line(&format!(
            "\nstill allowed  {} requests  {} on {}  shape {:016x}",
            extent.requests, duties.workload, duties.target, duties.shape
        ));
        for (sign, all) in [("+", &duties.new), ("-", &duties.gone)] {
            for one in all {
                output::line(&format!("  {sign} {}", output::flat(one, WIDTH)));
            }
        }
        output::line(&format!("  {}", output::flat(&extent.statement, WIDTH)));
    }
    let unlisted = report.unlisted_changes + report.unlisted_duties;
    if unlisted > 0 {
        output::note(&format!(
            "{unlisted} requests change in other ways than the 20,000 above: ask about one --workload or --target"
        ));
    }
    for (why, requests) in &report.undecidable {
        let why = match why {
            Undecidable::NotPolicys => "Weir itself refused them, whatever policy says",
            Undecidable::NotRecorded => {
                "recorded by a version that did not keep what policy was asked"
            }
            Undecidable::Withheld => "command lines are not recorded as policy saw them",
            Undecidable::Presented => "a token was presented, and only its subject is recorded",
        };
        output::note(&format!(
            "{requests} requests were not decided again: {why}"
        ));
    }
    if report.drifted > 0 {
        output::note(&format!(
            "the policies in force decide {} of these requests otherwise than was recorded",
            report.drifted
        ));
    }
    if report.checked > 0 {
        output::note(&format!(
            "{} requests were decided by Cedar alone as well: {} differ",
            report.checked, report.mismatched
        ));
    }
}
