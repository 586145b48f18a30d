//! `weir policy`: what policies may say, whether they say it well, and why they answer as they do.

mod backtest;
mod check;
mod explain;
mod learn;
mod test;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use time::{Date, Month, PrimitiveDateTime, Time};
use weir_model::time::Now;

use crate::output;
use crate::policies::VOCABULARIES;

#[derive(Args)]
#[command(after_help = "Examples:\n  weir policy schema > weir.cedarschema\n  \
    weir policy check --config /etc/weir/weir.yaml\n  \
    weir policy test /etc/weir/policies\n  \
    weir policy explain --examples 10-read.test.yaml --as analyst --sql 'SELECT * FROM customers'")]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print the Cedar schema that policies are validated against
    Schema,
    /// Check policies; every problem is shown with its place
    Check(check::CheckArgs),
    /// Run the examples beside policies (*.test.yaml)
    Test(test::TestArgs),
    /// Say what policy answers to one statement, request or command, and why
    Explain(explain::ExplainArgs),
    /// Propose a least-privilege set from recorded traffic
    Learn(learn::LearnArgs),
    /// Say which recorded requests other policies would decide otherwise
    Backtest(backtest::BacktestArgs),
}

/// `2026-12-24 18:30`, in UTC.
fn moment(text: Option<&str>) -> Result<Now> {
    let Some(text) = text else {
        return Ok(test::usual());
    };
    let at = written(text)
        .with_context(|| format!("{text} is not a time such as '2026-12-24 18:30'"))?;
    Ok(Now {
        mono_us: 0,
        wall_us: at.assume_utc().unix_timestamp() * 1_000_000,
    })
}

/// `30m`, `24h`, `7d` before `now_s`; `2026-12-24`, `2026-12-24 18:30`: seconds since 1970.
fn since(text: &str, now_s: i64) -> Result<i64> {
    for (unit, seconds) in [('m', 60), ('h', 3600), ('d', 86_400)] {
        if let Some(number) = text.strip_suffix(unit)
            && let Ok(number) = number.parse::<u32>()
        {
            return Ok(now_s - i64::from(number) * seconds);
        }
    }
    let whole = if text.contains(' ') {
        text.to_owned()
    } else {
        format!("{text} 00:00")
    };
    let at = written(&whole).with_context(|| {
        format!("{text} is not a time such as 30m, 24h, 7d, 2026-12-24 or '2026-12-24 18:30'")
    })?;
    Ok(at.assume_utc().unix_timestamp())
}

fn written(text: &str) -> Option<PrimitiveDateTime> {
    let (date, time) = text.split_once(' ')?;
    let (year, rest) = date.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let (hour, minute) = time.split_once(':')?;
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    let date = Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
    let time = Time::from_hms(hour.parse().ok()?, minute.parse().ok()?, 0).ok()?;
    Some(PrimitiveDateTime::new(date, time))
}

pub(crate) fn run(args: &PolicyArgs) -> Result<ExitCode> {
    match &args.action {
        Action::Schema => {
            output::line(weir_decide::schema(VOCABULARIES).trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Action::Check(args) => check::run(args),
        Action::Test(args) => test::run(args),
        Action::Explain(args) => explain::run(args),
        Action::Learn(args) => learn::run(args),
        Action::Backtest(args) => backtest::run(args),
    }
}
