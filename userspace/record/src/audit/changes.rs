//! Changes of the node's key in ClickHouse, against the node's own history.

use std::collections::BTreeSet;

use clickhouse::Client;
use serde::Deserialize;

use super::{Report, Scope};
use crate::journal;
use crate::query::fetch;

#[derive(Deserialize)]
struct ChangeRow {
    number: u32,
    at_s: i64,
    key: String,
    line: String,
}

/// Every stored change has to be one of the node's own, every acknowledged one has to be stored.
///
/// # Errors
/// ClickHouse's, or the spool's journal cannot be read.
pub(super) async fn verify(
    client: &Client,
    scope: &Scope<'_>,
    report: &mut Report,
) -> Result<(), String> {
    let sql = "SELECT change AS number, toInt64(toUnixTimestamp(at)) AS at_s, key, line FROM node_key \
        WHERE node_id = {id:String} ORDER BY change LIMIT 10000";
    let id = format!("{:032x}", scope.node_id);
    let rows: Vec<ChangeRow> = fetch(client.query_raw(sql).param("id", id)).await?;
    let mut stored = BTreeSet::new();
    for row in &rows {
        let own = scope
            .keys
            .changes()
            .iter()
            .find(|own| own.number == row.number);
        match own {
            Some(own) if own.line() != row.line => report.finding(format!(
                "key change {}: ClickHouse has another one than this node, one of them is forged",
                row.number
            )),
            Some(own) if (own.at_s, &own.key) != (row.at_s, &row.key) => report.finding(format!(
                "key change {}: its columns were changed",
                row.number
            )),
            Some(_) if !stored.insert(row.number) => {
                report.finding(format!("key change {}: doubled", row.number));
            }
            Some(_) => {}
            None => report.finding(format!(
                "key change {}: it is in ClickHouse and not in this node's history: forged, or the \
                 history was cut",
                row.number
            )),
        }
    }
    let Some(spool) = scope.spool else {
        return Ok(());
    };
    let told = journal::look(&spool.join("batches")).map_err(|error| error.to_string())?;
    for own in scope.keys.changes() {
        if own.number <= told.keys && !stored.contains(&own.number) {
            report.finding(format!(
                "key change {}: deleted, it was acknowledged and is not in ClickHouse",
                own.number
            ));
        }
    }
    Ok(())
}
