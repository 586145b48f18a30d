//! Recorded requests as policy was asked, so that they can be decided again.

use clickhouse::Client;
use serde::{Deserialize, Serialize};

use crate::query::fetch;

/// Requests that were the same to policy, and what was decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AskedRow {
    /// When, seconds since 1970: to the minute where that matters, otherwise some time of the span.
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
    /// One of them.
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

/// A span is asked for in pieces, so that each answer is soon there: an hour, or more of a long span.
const PIECE_S: i64 = 3600;
const PIECES_MAX: i64 = 240;
/// Whole minutes are not told apart by smaller ones.
const PIECE_S_MIN: i64 = 120;
/// ClickHouse's TIMEOUT_EXCEEDED.
const TOO_LONG: &str = "Code: 159";

const FROM: &str = "FROM fact WHERE kind = 'request' \
    AND (labels['phase'] != 'prepare' OR decision = 'deny') \
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

/// Gives the different requests of each piece of the span, with how often each came; with `minutes`, those of
/// different minutes apart.
///
/// # Errors
/// ClickHouse's, or what `row` says.
pub async fn requests(
    client: &Client,
    span: &Span,
    minutes: bool,
    mut row: impl FnMut(AskedRow) -> Result<(), String>,
) -> Result<(), String> {
    let (bucket, at) = if minutes {
        ("toUnixTimestamp(toStartOfMinute(event_time))", "bucket")
    } else {
        ("0", "earliest")
    };
    // Grouped by a digest: the columns themselves would be compared row by row.
    let sql = format!(
        "SELECT toInt64({at}) AS at_s, * EXCEPT (bucket, alike, earliest, verdict), verdict AS decision FROM ( \
         SELECT any({bucket}) AS bucket, {COLUMNS}, count() AS requests, \
         toString(min(event_time)) AS first, toString(max(event_time)) AS last, \
         any(statement) AS statement, toUnixTimestamp(min(event_time)) AS earliest, alike FROM ( \
         SELECT *, {ASKED}, sipHash128({bucket}, {KEY}) AS alike {FROM}) AS f GROUP BY alike)"
    );
    run(client, &sql, span, &mut row).await
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
         statement FROM (SELECT *, {ASKED} {FROM} AND cityHash64(session_id, seq) % {every} = 0)"
    );
    run(client, &sql, span, &mut row).await
}

/// Piece by piece; one that takes a busy server too long is cut in two.
async fn run(
    client: &Client,
    sql: &str,
    span: &Span,
    row: &mut impl FnMut(AskedRow) -> Result<(), String>,
) -> Result<(), String> {
    let mut piece_s = PIECE_S.max((span.until_s - span.from_s) / PIECES_MAX);
    let mut from_s = span.from_s;
    while from_s < span.until_s {
        let until_s = (from_s + piece_s).min(span.until_s);
        let query = client
            .query_raw(sql)
            .param("from", from_s)
            .param("until", until_s)
            .param("workload", &span.workload)
            .param("target", &span.target);
        match fetch::<AskedRow>(query).await {
            Ok(rows) => {
                for one in rows {
                    row(one)?;
                }
                from_s = until_s;
            }
            Err(error) if error.contains(TOO_LONG) && piece_s > PIECE_S_MIN => piece_s /= 2,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
