//! Questions that the command line asks of the record.

use clickhouse::Client;
use serde::{Deserialize, Serialize};

/// Bytes of one answer.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// One session in a listing.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionRow {
    pub session: String,
    pub started: String,
    pub workload: String,
    pub principal: String,
    pub target: String,
    pub exe: String,
    pub requests: u64,
    pub denied: u64,
    pub held: u64,
    pub rows: u64,
    pub masked: u64,
}

/// Sessions, newest first.
///
/// # Errors
/// ClickHouse's.
pub async fn sessions(client: &Client, limit: u32) -> Result<Vec<SessionRow>, String> {
    let sql = "SELECT toString(toUUID(UUIDNumToString(toFixedString(reverse(reinterpretAsString(session_id)), 16)))) AS session, \
        toString(min(event_time)) AS started, any(workload) AS workload, max(principal) AS principal, \
        any(target) AS target, max(exe) AS exe, countIf(kind = 'request') AS requests, \
        countIf(kind = 'request' AND decision = 'deny') AS denied, \
        countIf(kind = 'request' AND decision = 'hold') AS held, sum(rows) AS rows, \
        sum(masked_values) AS masked FROM fact WHERE session_id != 0 GROUP BY session_id \
        ORDER BY min(event_time) DESC LIMIT {limit:UInt32}";
    fetch(client.query_raw(sql).param("limit", limit)).await
}

/// Requests of one day that did the same to the same.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct RequestsRow {
    /// `2026-11-29`, in UTC.
    pub day: String,
    pub workload: String,
    pub target: String,
    pub protocol: String,
    /// Names of actions, sorted.
    pub effects: Vec<String>,
    /// `Kind:id`, sorted.
    pub objects: Vec<String>,
    pub requests: u64,
}

/// What went through, or would not have but for a target that observes, from `from` up to and
/// without `to`: a day (`2026-11-29`), or a moment (`2026-11-29 10:30:00`), in UTC.
///
/// # Errors
/// ClickHouse's.
pub async fn requests(client: &Client, from: &str, to: &str) -> Result<Vec<RequestsRow>, String> {
    let sql = "SELECT toString(toDate(event_time, 'UTC')) AS day, workload, target, protocol, effects, \
        objects, count() AS requests FROM fact WHERE kind = 'request' \
        AND decision IN ('allow', 'hold', 'observe') AND notEmpty(objects) \
        AND event_time >= toDateTime64({from:String}, 3, 'UTC') \
        AND event_time < toDateTime64({to:String}, 3, 'UTC') \
        GROUP BY day, workload, target, protocol, effects, objects ORDER BY day LIMIT 1000000";
    let at = |text: &str| {
        if text.contains(' ') {
            text.to_owned()
        } else {
            format!("{text} 00:00:00")
        }
    };
    fetch(
        client
            .query_raw(sql)
            .param("from", at(from))
            .param("to", at(to)),
    )
    .await
}

/// Every fact of a session, in order, as JSON objects with the columns' names.
///
/// # Errors
/// ClickHouse's.
pub async fn session_facts(
    client: &Client,
    session: u128,
) -> Result<Vec<serde_json::Value>, String> {
    let sql = "SELECT *, toString(event_time) AS at, \
        if(reply_digest = 0, '', lower(leftPad(hex(reply_digest), 32, '0'))) AS reply_sha256 FROM fact \
        WHERE session_id = toUInt128({session:String}) ORDER BY seq LIMIT 1000000";
    fetch(client.query_raw(sql).param("session", session.to_string())).await
}

/// Runs a query and reads its rows.
///
/// # Errors
/// ClickHouse's, or an answer that is too large or not what was expected.
pub async fn fetch<T: for<'de> Deserialize<'de>>(
    query: clickhouse::query::Query,
) -> Result<Vec<T>, String> {
    let Fetched::Whole(text) = bytes(query, ANSWER_BYTES_MAX).await? else {
        return Err("the answer is larger than 256 MiB".to_owned());
    };
    let mut rows = Vec::new();
    each(&text, |row| {
        rows.push(row);
        Ok(())
    })?;
    Ok(rows)
}

/// An answer, if it is within its limit.
pub(crate) enum Fetched {
    Whole(Vec<u8>),
    TooLarge,
}

/// Runs a query and gives its rows as lines of JSON.
///
/// # Errors
/// ClickHouse's.
pub(crate) async fn bytes(query: clickhouse::query::Query, max: usize) -> Result<Fetched, String> {
    let query = query
        .with_setting("output_format_json_quote_64bit_integers", "0")
        .with_setting("output_format_json_named_tuples_as_objects", "1");
    let mut cursor = query
        .fetch_bytes("JSONEachRow")
        .map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    while let Some(chunk) = cursor.next().await.map_err(|error| error.to_string())? {
        if text.len() + chunk.len() > max {
            return Ok(Fetched::TooLarge);
        }
        text.extend_from_slice(&chunk);
    }
    Ok(Fetched::Whole(text))
}

/// Reads one row after the other.
///
/// # Errors
/// What `row` says, or a line that is not what was expected.
pub(crate) fn each<T: for<'de> Deserialize<'de>>(
    text: &[u8],
    mut row: impl FnMut(T) -> Result<(), String>,
) -> Result<(), String> {
    for line in text.split(|byte| *byte == b'\n') {
        if !line.is_empty() {
            row(serde_json::from_slice(line).map_err(|error| error.to_string())?)?;
        }
    }
    Ok(())
}
