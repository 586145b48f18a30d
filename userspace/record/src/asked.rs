//! Recorded requests as policy was asked, so that they can be decided again.

use clickhouse::Client;
use serde::{Deserialize, Serialize};

use crate::query::each;

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

/// Different requests of one span.
const ROWS_MAX: u64 = 5_000_000;

/// A statement that was only prepared is decided again when it is executed; refused, it never is.
const FROM: &str = "FROM fact WHERE kind = 'request' \
    AND (labels['phase'] != 'prepare' OR decision = 'deny') \
    AND event_time >= toDateTime64({from:Int64}, 3, 'UTC') \
    AND event_time < toDateTime64({until:Int64}, 3, 'UTC') \
    AND ({workload:String} = '' OR workload = {workload:String}) \
    AND ({target:String} = '' OR target = {target:String})";

const WHO: &str = "workload, tenant, principal, application, on_behalf_of, groups, roles, evidence, \
    target, protocol, effects, objects, labels['asked'] AS asked, \
    if(decision = 'observe', labels['would'], toString(decision)) AS verdict, rule, shape";

/// Gives each different request of the span once, with how often it came; with `minutes`, those of
/// different minutes apart.
///
/// # Errors
/// ClickHouse's, or more different requests than five million.
pub async fn requests(
    client: &Client,
    span: &Span,
    minutes: bool,
    row: impl FnMut(AskedRow) -> Result<(), String>,
) -> Result<(), String> {
    let (bucket, at) = if minutes {
        ("toUnixTimestamp(toStartOfMinute(event_time))", "bucket")
    } else {
        ("0", "earliest")
    };
    let sql = format!(
        "SELECT toInt64({at}) AS at_s, * EXCEPT (bucket, earliest, verdict), verdict AS decision FROM ( \
         SELECT {bucket} AS bucket, {WHO}, count() AS requests, toString(min(event_time)) AS first, \
         toString(max(event_time)) AS last, any(statement) AS statement, \
         toUnixTimestamp(min(event_time)) AS earliest \
         {FROM} GROUP BY bucket, workload, tenant, principal, application, on_behalf_of, groups, \
         roles, evidence, target, protocol, effects, objects, asked, verdict, rule, shape \
         LIMIT {ROWS_MAX})"
    );
    run(client, &sql, span, row).await
}

/// So many single requests of the span, chosen by a hash of where they stand.
///
/// # Errors
/// ClickHouse's.
pub async fn sample(
    client: &Client,
    span: &Span,
    count: u64,
    row: impl FnMut(AskedRow) -> Result<(), String>,
) -> Result<(), String> {
    let sql = format!(
        "SELECT toInt64(toUnixTimestamp(event_time)) AS at_s, {WHO}, verdict AS decision, \
         toUInt64(1) AS requests, toString(event_time) AS first, toString(event_time) AS last, \
         statement {FROM} ORDER BY cityHash64(session_id, seq) LIMIT {count}"
    );
    run(client, &sql, span, row).await
}

async fn run(
    client: &Client,
    sql: &str,
    span: &Span,
    row: impl FnMut(AskedRow) -> Result<(), String>,
) -> Result<(), String> {
    let query = client
        .query_raw(sql)
        .param("from", span.from_s)
        .param("until", span.until_s)
        .param("workload", &span.workload)
        .param("target", &span.target);
    each(query, row).await
}
