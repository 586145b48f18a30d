//! Does the record cover what the kernel counted? Ledger rows follow each other without a gap, and
//! each says what did not add up.

use clickhouse::Client;
use serde::Deserialize;

use super::{Report, Scope};
use crate::query::fetch;

/// The newest row may be this old on a live node: one a minute, and its way into the store.
const ROW_AGE_MAX_S: i64 = 180;

#[derive(Deserialize)]
struct Span {
    since_s: i64,
    until_s: i64,
}

#[derive(Deserialize)]
struct Off {
    workload: String,
    until_s: i64,
    difference: i64,
}

#[derive(Deserialize)]
struct Count {
    n: u64,
}

/// Names differences, and times with flows that no ledger row covers. A record that has no ledger
/// rows at all is of a node that wrote none.
///
/// # Errors
/// ClickHouse's.
pub(super) async fn verify(
    client: &Client,
    scope: &Scope<'_>,
    report: &mut Report,
) -> Result<(), String> {
    let sql = "SELECT workload, toInt64OrZero(labels['to']) AS until_s, \
        toInt64OrZero(labels['difference']) AS difference FROM fact \
        WHERE node = {node:String} AND kind = 'ledger' AND status = 'difference' \
        ORDER BY until_s, workload LIMIT 1000";
    let off: Vec<Off> = fetch(client.query_raw(sql).param("node", scope.node)).await?;
    for row in off {
        report.finding(format!(
            "ledger of {} at {}: {} connects to protected destinations are not accounted for",
            if row.workload.is_empty() {
                "processes that no workload claims"
            } else {
                &row.workload
            },
            row.until_s,
            row.difference
        ));
    }
    let sql = "SELECT DISTINCT toInt64OrZero(labels['from']) AS since_s, \
        toInt64OrZero(labels['to']) AS until_s FROM fact \
        WHERE node = {node:String} AND kind = 'ledger' ORDER BY since_s, until_s LIMIT 1000000";
    let spans: Vec<Span> = fetch(client.query_raw(sql).param("node", scope.node)).await?;
    let mut covered_s: Option<i64> = None;
    for span in spans {
        if let Some(end_s) = covered_s
            && span.since_s > end_s
        {
            gap(client, scope, report, (end_s, span.since_s)).await?;
        }
        covered_s = Some(span.until_s.max(covered_s.unwrap_or(span.until_s)));
    }
    if let Some(end_s) = covered_s {
        let until_s = scope.now_s - ROW_AGE_MAX_S;
        if until_s > end_s {
            gap(client, scope, report, (end_s, until_s)).await?;
        }
    }
    Ok(())
}

/// The second of an end belongs to either side.
async fn gap(
    client: &Client,
    scope: &Scope<'_>,
    report: &mut Report,
    (from_s, to_s): (i64, i64),
) -> Result<(), String> {
    let sql = "SELECT count() AS n FROM fact WHERE node = {node:String} AND kind = 'flow' \
        AND event_time >= toDateTime64({from:Int64}, 3, 'UTC') \
        AND event_time < toDateTime64({to:Int64}, 3, 'UTC')";
    let query = client
        .query_raw(sql)
        .param("node", scope.node)
        .param("from", from_s + 1)
        .param("to", to_s);
    let counts: Vec<Count> = fetch(query).await?;
    let flows: u64 = counts.iter().map(|count| count.n).sum();
    if flows > 0 {
        report.finding(format!(
            "ledger: no row covers {from_s} to {to_s}, in which there are facts of flows"
        ));
    }
    Ok(())
}
