//! Questions that pages ask of the record: bounded in days and rows; the server bounds the rest.

use clickhouse::Client;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::query::fetch;

/// What sessions are looked for by.
#[derive(Clone, Debug, Default)]
pub struct SessionSearch {
    /// Part of a statement, command line, principal or address, in any case; empty for all.
    pub text: String,
    /// Exactly; empty for all.
    pub workload: String,
    /// Exactly; empty for all.
    pub target: String,
    /// Only sessions in which something was refused or held.
    pub remarkable: bool,
    pub days: u32,
    pub limit: u32,
}

/// One session that was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FoundSession {
    pub session: String,
    pub started: String,
    pub workload: String,
    pub principal: String,
    pub target: String,
    pub protocol: String,
    pub exe: String,
    pub requests: u64,
    pub denied: u64,
    pub held: u64,
    pub rows: u64,
    pub masked: u64,
}

/// Sessions that fit, newest first.
///
/// # Errors
/// ClickHouse's.
pub async fn sessions(
    client: &Client,
    search: &SessionSearch,
) -> Result<Vec<FoundSession>, String> {
    // Aliases of the inner query differ from the columns: an aggregate of the same name would be
    // taken for the column.
    let sql = "SELECT toString(toUUID(UUIDNumToString(toFixedString(reverse(reinterpretAsString(session_id)), 16)))) AS session, \
        formatDateTime(min(t), '%Y-%m-%d %H:%i:%S', 'UTC') AS started, any(w) AS workload, \
        max(p) AS principal, any(tg) AS target, any(pr) AS protocol, max(e) AS exe, \
        countIf(k = 'request') AS requests, countIf(k = 'request' AND d = 'deny') AS denied, \
        countIf(k = 'request' AND d = 'hold') AS held, sum(r) AS rows, sum(m) AS masked \
        FROM (SELECT session_id, event_time AS t, workload AS w, principal AS p, target AS tg, \
            protocol AS pr, exe AS e, kind AS k, decision AS d, rows AS r, masked_values AS m, \
            ({text:String} = '' OR positionCaseInsensitiveUTF8(statement, {text:String}) > 0 \
            OR positionCaseInsensitiveUTF8(argv, {text:String}) > 0 OR principal = {text:String} \
            OR startsWith(client_addr, {text:String}) OR startsWith(server_addr, {text:String})) AS fits \
            FROM fact WHERE session_id != 0 AND event_time > now64() - toIntervalDay({days:UInt32}) \
            AND ({workload:String} = '' OR workload = {workload:String}) \
            AND ({target:String} = '' OR target = {target:String})) \
        GROUP BY session_id HAVING max(fits) > 0 AND ({remarkable:UInt8} = 0 OR denied + held > 0) \
        ORDER BY min(t) DESC LIMIT {limit:UInt32}";
    let query = client
        .query_raw(sql)
        .param("days", search.days)
        .param("workload", &search.workload)
        .param("target", &search.target)
        .param("text", &search.text)
        .param("remarkable", u8::from(search.remarkable))
        .param("limit", search.limit);
    fetch(query).await
}

/// Facts of a session from `from` (a `seq`) on, in order, as JSON objects with the columns' names.
///
/// # Errors
/// ClickHouse's.
pub async fn facts(
    client: &Client,
    session: u128,
    from: u32,
    limit: u32,
) -> Result<Vec<Value>, String> {
    let sql = "SELECT *, toString(event_time) AS at FROM fact \
        WHERE session_id = toUInt128({session:String}) AND seq >= {from:UInt32} \
        ORDER BY seq LIMIT {limit:UInt32}";
    let query = client
        .query_raw(sql)
        .param("session", session.to_string())
        .param("from", from)
        .param("limit", limit);
    fetch(query).await
}

/// The pieces of one recorded terminal, in order.
///
/// # Errors
/// ClickHouse's.
pub async fn terminal(client: &Client, session: u128, seq: u64) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Piece {
        response_masked: String,
    }
    let sql = "SELECT response_masked FROM fact \
        WHERE session_id = toUInt128({session:String}) AND kind = 'terminal' \
        AND reply_to = {seq:UInt64} ORDER BY seq LIMIT 100000";
    let query = client
        .query_raw(sql)
        .param("session", session.to_string())
        .param("seq", seq);
    let pieces: Vec<Piece> = fetch(query).await?;
    Ok(pieces
        .into_iter()
        .map(|piece| piece.response_masked)
        .collect())
}
