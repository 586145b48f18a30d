//! Recorded requests as policy was asked, so that they can be decided again.

use clickhouse::Client;
use serde::{Deserialize, Serialize};
use weir_model::time::{Cuts, TimesRead};

use crate::query::{self, Fetched};

/// Requests that were the same to policy, and what was decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AskedRow {
    /// When one of them was made, seconds since 1970; the others at times of the same class.
    pub at_s: i64,
    pub workload: String,
    pub tenant: String,
    pub principal: String,
    pub application: String,
    pub on_behalf_of: String,
    pub groups: Vec<String>,
    pub roles: Vec<String>,
    pub evidence: String,
    pub target: String,
    pub protocol: String,
    pub effects: Vec<String>,
    pub objects: Vec<String>,
    /// See `weir_model::asked`; empty where it was not recorded.
    pub asked: String,
    /// `allow`, `deny` or `hold`; of a target that observes what would have been.
    pub decision: String,
    pub rule: String,
    pub shape: u64,
    pub requests: u64,
    pub first: String,
    pub last: String,
    /// One of them, its first 4,096 characters.
    pub statement: String,
}

/// Which requests.
#[derive(Clone, Debug, Default)]
pub struct Span {
    /// Seconds since 1970.
    pub from_s: i64,
    /// Seconds since 1970; requests from here on are left out.
    pub until_s: i64,
    /// Exactly; empty for all.
    pub workload: String,
    /// Exactly; empty for all.
    pub target: String,
}

/// A span is asked for in pieces, so that each answer is soon there and small. The next one is longer when
/// one was.
const PIECE_S: i64 = 3600;
const SOON_US: u64 = 2_000_000;
const PIECE_BYTES_SOON: usize = 8 * 1024 * 1024;
/// One that takes a busy server too long, or whose answer is too large, is cut in two.
const PIECE_BYTES_MAX: usize = 64 * 1024 * 1024;
const PIECE_S_MIN: i64 = 1;
/// ClickHouse's TIMEOUT_EXCEEDED, MEMORY_LIMIT_EXCEEDED and TOO_MANY_ROWS_OR_BYTES.
const TOO_MUCH: [&str; 3] = ["Code: 159", "Code: 241", "Code: 396"];

const FROM: &str = "FROM fact WHERE kind = 'request' \
    AND (labels['phase'] != 'prepare' OR decision = 'deny') \
    AND toStartOfHour(event_time) >= toStartOfHour(toDateTime({from:Int64}, 'UTC')) \
    AND toStartOfHour(event_time) <= toStartOfHour(toDateTime({until:Int64}, 'UTC')) \
    AND event_time >= toDateTime64({from:Int64}, 3, 'UTC') \
    AND event_time < toDateTime64({until:Int64}, 3, 'UTC') \
    AND ({workload:String} = '' OR workload = {workload:String}) \
    AND ({target:String} = '' OR target = {target:String})";

const ASKED: &str = "labels['asked'] AS asked, \
    if(decision = 'observe', labels['would'], toString(decision)) AS verdict";

/// What makes two requests the same to policy, and to whoever reads the outcome.
const KEY: &str = "workload, tenant, principal, application, on_behalf_of, groups, roles, evidence, \
    target, protocol, effects, objects, asked, verdict, rule, shape";

/// One of the same each.
const COLUMNS: &str = "any(f.workload) AS workload, any(f.tenant) AS tenant, any(f.principal) AS principal, \
    any(f.application) AS application, any(f.on_behalf_of) AS on_behalf_of, any(f.groups) AS groups, \
    any(f.roles) AS roles, any(f.evidence) AS evidence, any(f.target) AS target, \
    any(f.protocol) AS protocol, any(f.effects) AS effects, any(f.objects) AS objects, \
    any(f.asked) AS asked, any(f.verdict) AS verdict, any(f.rule) AS rule, \
    any(f.shape) AS shape";

/// What is needed of a row: reading all of it would read replies' and processes' columns, too.
const READ: &str = "workload, tenant, principal, application, on_behalf_of, groups, roles, evidence, target, \
    protocol, effects, objects, rule, shape, event_time, statement, session_id, seq";

/// Gives the different requests of each piece of the span, with how often each came; those at times that are
/// different to whoever reads so much of the time apart.
///
/// # Errors
/// ClickHouse's, or what `row` says.
pub async fn requests(
    client: &Client,
    span: &Span,
    times: &TimesRead,
    mut row: impl FnMut(AskedRow) -> Result<(), String>,
) -> Result<(), String> {
    let class = class(times);
    // Grouped by a digest: the columns themselves would be compared row by row.
    let sql = format!(
        "SELECT toInt64(toUnixTimestamp(earliest)) AS at_s, * EXCEPT (alike, earliest, verdict), \
         verdict AS decision FROM ( \
         SELECT {COLUMNS}, count() AS requests, min(event_time) AS earliest, \
         toString(min(event_time)) AS first, toString(max(event_time)) AS last, \
         any(leftUTF8(statement, 4096)) AS statement, alike FROM ( \
         SELECT {READ}, {ASKED}, sipHash128({class}, {KEY}) AS alike {FROM}) AS f GROUP BY alike)"
    );
    run(client, &sql, span, &mut row).await
}

/// A number of SQL for each class of times.
fn class(times: &TimesRead) -> String {
    let parts = [
        ("toYYYYMMDD(event_time)", &times.date),
        (
            "toHour(event_time) * 100 + toMinute(event_time)",
            &times.time,
        ),
        ("toDayOfWeek(event_time)", &times.weekday),
    ];
    let mut classes = Vec::new();
    for (value, cuts) in parts {
        match cuts {
            Cuts::Each => classes.push(format!("toInt64({value})")),
            Cuts::At(cuts) => classes
                .extend(cuts.iter().map(|cut| {
                    format!("(toInt64({value}) > {cut}) + (toInt64({value}) >= {cut})")
                })),
        }
    }
    if classes.is_empty() {
        return "0".to_owned();
    }
    classes.join(", ")
}

/// About `count` single requests of the span, which has `of`, chosen by a hash of where they stand.
///
/// # Errors
/// ClickHouse's.
pub async fn sample(
    client: &Client,
    span: &Span,
    (count, of): (u64, u64),
    mut row: impl FnMut(AskedRow) -> Result<(), String>,
) -> Result<(), String> {
    let every = of.checked_div(count).unwrap_or(1).max(1);
    let sql = format!(
        "SELECT toInt64(toUnixTimestamp(event_time)) AS at_s, {KEY}, verdict AS decision, \
         toUInt64(1) AS requests, toString(event_time) AS first, toString(event_time) AS last, \
         leftUTF8(statement, 4096) AS statement FROM (SELECT {READ}, {ASKED} {FROM} \
         AND cityHash64(session_id, seq) % {every} = 0)"
    );
    run(client, &sql, span, &mut row).await
}

/// Piece by piece. An answer is whole before its first row is taken, so that none is taken twice.
async fn run(
    client: &Client,
    sql: &str,
    span: &Span,
    row: &mut impl FnMut(AskedRow) -> Result<(), String>,
) -> Result<(), String> {
    let mut piece_s = PIECE_S;
    let mut from_s = span.from_s;
    while from_s < span.until_s {
        let until_s = from_s.saturating_add(piece_s).min(span.until_s);
        let query = client
            .query_raw(sql)
            .param("from", from_s)
            .param("until", until_s)
            .param("workload", &span.workload)
            .param("target", &span.target);
        let started_us = weir_clock::now().mono_us;
        match query::bytes(query, PIECE_BYTES_MAX).await {
            Ok(Fetched::Whole(text)) => {
                let soon = weir_clock::now().mono_us - started_us < SOON_US;
                if soon && text.len() < PIECE_BYTES_SOON {
                    piece_s = piece_s.saturating_mul(2);
                }
                query::each(&text, &mut *row)?;
                from_s = until_s;
            }
            Ok(Fetched::TooLarge) if piece_s > PIECE_S_MIN => piece_s /= 2,
            Ok(Fetched::TooLarge) => {
                return Err("the different requests of one second are more than 64 MiB".to_owned());
            }
            Err(error)
                if TOO_MUCH.iter().any(|code| error.contains(code)) && piece_s > PIECE_S_MIN =>
            {
                piece_s /= 2;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_are_read_are_told_apart_and_no_others() {
        let mut times = TimesRead::default();
        assert_eq!(class(&times), "0");
        times.time.add(1800);
        times.weekday = Cuts::Each;
        assert_eq!(
            class(&times),
            "(toInt64(toHour(event_time) * 100 + toMinute(event_time)) > 1800) + \
             (toInt64(toHour(event_time) * 100 + toMinute(event_time)) >= 1800), \
             toInt64(toDayOfWeek(event_time))"
        );
    }
}
