//! `weir policy learn`: a least-privilege proposal from the record, and how wrong it would have been.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;
use weir_record::query;

use super::super::{ConfigArg, sessions};
use crate::learn::{Learned, Measured};
use crate::output;
use crate::policies::VOCABULARIES;

#[derive(Args)]
#[command(
    after_help = "What is recorded from --from up to (and without) --to is learned from; what is from --to up to \
    --until shows which requests the proposal would have denied although they went through. Read it \
    before you use it: it permits what happened, not what should. A target with mode: observe records \
    what its policies would have denied and lets it through, so that there is something to learn \
    from.\n\nExamples:\n  \
    weir policy learn --from 2026-11-01 --to 2026-11-08 --until 2026-11-15 --out learned.cedar\n  \
    weir policy learn --from 2026-11-01 --to 2026-11-08 --workload analyst --json"
)]
pub(crate) struct LearnArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// First day or moment, in UTC
    #[arg(long, value_name = "DAY", value_parser = moment)]
    from: String,
    /// First day or moment that is not learned from any more
    #[arg(long, value_name = "DAY", value_parser = moment)]
    to: String,
    /// First day or moment that is not measured any more
    #[arg(long, value_name = "DAY", value_parser = moment)]
    until: Option<String>,
    /// Only of this workload
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Only of this target
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
    /// Where the policies go; without, they are printed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    requests: u64,
    /// Effects on objects that are permitted.
    permits: usize,
    measured: Option<Measured>,
    /// Share of the measured requests that would have been denied.
    false_deny_rate: Option<f64>,
    policies: String,
}

/// `2026-11-29`, or `2026-11-29 10:30:00`: as text they sort as they follow each other.
fn moment(text: &str) -> Result<String, String> {
    let fits = |at: usize, byte: u8| match at {
        4 | 7 => byte == b'-',
        10 => byte == b' ',
        13 | 16 => byte == b':',
        _ => byte.is_ascii_digit(),
    };
    let whole = matches!(text.len(), 10 | 19);
    let good = whole && text.bytes().enumerate().all(|(at, byte)| fits(at, byte));
    good.then(|| text.to_owned())
        .ok_or_else(|| "such as 2026-11-29, or 2026-11-29 10:30:00".to_owned())
}

pub(crate) fn run(args: &LearnArgs) -> Result<ExitCode> {
    ensure!(args.from < args.to, "--from is not before --to");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let report = runtime.block_on(learn(args))?;
    if let Some(out) = &args.out {
        std::fs::write(out, &report.policies)
            .with_context(|| format!("writing {}", out.display()))?;
    }
    if args.json {
        output::json(&report)?;
    } else {
        print(args, &report);
    }
    Ok(ExitCode::SUCCESS)
}

async fn learn(args: &LearnArgs) -> Result<Report> {
    let client = sessions::reader(&output::load(&args.config.config)?)?;
    let rows = requests(&client, args, (&args.from, &args.to)).await?;
    ensure!(
        !rows.is_empty(),
        "nothing is recorded from {} to {} that could be learned from",
        args.from,
        args.to
    );
    let learned = Learned::of(&rows, VOCABULARIES);
    let measured = match &args.until {
        None => None,
        Some(until) => {
            ensure!(args.to < *until, "--to is not before --until");
            let later = requests(&client, args, (&args.to, until)).await?;
            Some(learned.measure(&later, VOCABULARIES))
        }
    };
    let heading = format!(
        "Learned from recorded requests of {} up to {}; read before use.",
        args.from, args.to
    );
    Ok(Report {
        requests: rows.iter().map(|row| row.requests).sum(),
        permits: learned.len(),
        false_deny_rate: measured.as_ref().and_then(rate),
        measured,
        policies: learned.policies(&heading),
    })
}

async fn requests(
    client: &clickhouse::Client,
    args: &LearnArgs,
    (from, to): (&str, &str),
) -> Result<Vec<query::RequestsRow>> {
    let mut rows = query::requests(client, from, to)
        .await
        .map_err(anyhow::Error::msg)?;
    rows.retain(|row| {
        args.workload
            .as_ref()
            .is_none_or(|name| row.workload == *name)
            && args.target.as_ref().is_none_or(|name| row.target == *name)
    });
    Ok(rows)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate needs no more than 52 bits"
)]
fn rate(measured: &Measured) -> Option<f64> {
    (measured.requests > 0).then(|| measured.denied as f64 / measured.requests as f64)
}

fn print(args: &LearnArgs, report: &Report) {
    match &args.out {
        Some(out) => output::line(&format!(
            "{} requests; {} effects on objects are permitted by {}",
            report.requests,
            report.permits,
            out.display()
        )),
        None => output::line(report.policies.trim_end()),
    }
    let Some(measured) = &report.measured else {
        return;
    };
    let percent = report.false_deny_rate.unwrap_or_default() * 100.0;
    output::note(&format!(
        "of {} requests on {} later days {} would have been denied ({percent:.2} %)",
        measured.requests, measured.days, measured.denied
    ));
    for (what, requests) in &measured.missing {
        output::note(&format!("  {requests:>8}  {what}"));
    }
}
