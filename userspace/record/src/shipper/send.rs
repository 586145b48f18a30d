//! One batch to ClickHouse, and what its answer means.

use std::time::Duration;

use bytes::Bytes;
use weir_spool::schema;

use super::tail::Content;
use crate::StoreAddress;
use crate::anchor::Anchor;
use crate::journal::Batch;
use crate::keys::Change;

const SEND_TIME_MAX: Duration = Duration::from_secs(60);
const END_TIME_MAX: Duration = Duration::from_secs(180);

/// Why a batch is not acknowledged.
#[derive(Debug)]
pub(super) enum Refused {
    /// The batch itself cannot be taken.
    Batch(u32),
    /// Nothing can be taken as things are.
    Configuration(u32),
    /// Anything else: it may be stored or not.
    Unknown(String),
}

/// Inserts the rows, then the batch's own row; both are deduplicated by token. `from` is the node's
/// name and its spool's number.
pub(super) async fn send(
    store: &StoreAddress,
    (node_name, node): (&str, u128),
    batch: &Batch,
    content: Content,
) -> Result<(), Refused> {
    let id = batch.segment;
    let token = format!("{node:032x}:{}:{}:{}", id.epoch, id.packed(), batch.number);
    let sql = format!("INSERT INTO fact ({}) FORMAT RowBinary", schema::names());
    if !content.rows.is_empty() {
        insert(store, &sql, &token, content.rows).await?;
    }
    let row = serde_json::json!({
        "node": node_name,
        "node_id": format!("{node:032x}"),
        "epoch": id.epoch,
        "segment": id.packed(),
        "batch": batch.number,
        "sealed_at": weir_clock::now().unix_s(),
        "first_position": batch.first,
        "last_position": batch.last,
        "facts": batch.last + 1 - batch.first,
        "previous_hash": batch.previous,
        "hash": batch.hash,
        "blocks": content.blocks,
        "signature": content.signature,
    });
    let sql = "INSERT INTO batch FORMAT JSONEachRow";
    insert(
        store,
        sql,
        &format!("{token}:batch"),
        Bytes::from(row.to_string()),
    )
    .await
}

/// Inserts one change of the node's key.
pub(super) async fn send_change(
    store: &StoreAddress,
    (node_name, node): (&str, u128),
    change: &Change,
) -> Result<(), Refused> {
    let row = serde_json::json!({
        "node": node_name,
        "node_id": format!("{node:032x}"),
        "change": change.number,
        "at": change.at_s,
        "key": change.key,
        "line": change.line(),
    });
    let token = format!("{node:032x}:key:{}", change.number);
    let sql = "INSERT INTO node_key FORMAT JSONEachRow";
    insert(store, sql, &token, Bytes::from(row.to_string())).await
}

/// Inserts anchors; the same ones are stored once.
///
/// # Errors
/// Why they are not acknowledged.
pub(crate) async fn send_anchors(store: &StoreAddress, anchors: &[Anchor]) -> Result<(), String> {
    let mut rows = String::new();
    for anchor in anchors {
        let row = serde_json::json!({
            "node": anchor.node,
            "node_id": anchor.node_id,
            "epoch": anchor.epoch,
            "segment": anchor.segment,
            "position": anchor.position,
            "at": format!("{}.{:03}", anchor.at_ms.div_euclid(1000), anchor.at_ms.rem_euclid(1000)),
            "hash": anchor.hash,
            "signature": anchor.signature,
        });
        rows.push_str(&format!("{row}\n"));
    }
    let token = format!("anchor:{}", blake3::hash(rows.as_bytes()).to_hex());
    let sql = "INSERT INTO anchor FORMAT JSONEachRow";
    let sent = insert(store, sql, &token, Bytes::from(rows)).await;
    sent.map_err(|refused| match refused {
        Refused::Batch(code) | Refused::Configuration(code) => format!("ClickHouse error {code}"),
        Refused::Unknown(why) => why,
    })
}

async fn insert(store: &StoreAddress, sql: &str, token: &str, body: Bytes) -> Result<(), Refused> {
    let client = store.client();
    let mut insert = client
        .insert_formatted_with(sql)
        .with_timeouts(Some(SEND_TIME_MAX), Some(END_TIME_MAX))
        .with_setting("insert_deduplication_token", token)
        .with_setting("async_insert", "0")
        // A clock that was set may put one batch into many days.
        .with_setting("max_partitions_per_insert_block", "0")
        .with_setting("wait_end_of_query", "1");
    insert.send(body).await.map_err(judge)?;
    insert.end().await.map_err(judge)
}

/// ClickHouse's error code decides; its text quotes input and is never logged.
fn judge(error: clickhouse::error::Error) -> Refused {
    let text = error.to_string();
    match code(&text) {
        Some(code @ (6 | 27 | 33 | 53 | 117)) => Refused::Batch(code),
        Some(code @ (16 | 60 | 81 | 115 | 164 | 192 | 193 | 194 | 497 | 516)) => {
            Refused::Configuration(code)
        }
        Some(code) => Refused::Unknown(format!("ClickHouse error {code}")),
        None => Refused::Unknown(kind(&error).to_owned()),
    }
}

fn code(text: &str) -> Option<u32> {
    let at = text.find("Code: ")? + "Code: ".len();
    let digits: String = text
        .get(at..)?
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok()
}

fn kind(error: &clickhouse::error::Error) -> &'static str {
    if matches!(error, clickhouse::error::Error::TimedOut) {
        "no answer in time"
    } else if matches!(error, clickhouse::error::Error::Network(_)) {
        "no connection"
    } else {
        "an answer that cannot be understood"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_from_exception_texts() {
        assert_eq!(code("Code: 60. DB::Exception: …"), Some(60));
        assert_eq!(code("bad response: Code: 252. DB::Exception"), Some(252));
        assert_eq!(code("connection refused"), None);
    }
}
