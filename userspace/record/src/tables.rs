//! Are ClickHouse's tables what the shipper needs? Asked at start and by `weir db check`.

use std::collections::BTreeMap;

use clickhouse::Client;
use serde::Deserialize;
use weir_spool::schema::COLUMNS;

use crate::query::fetch;

/// Blocks that a table must remember the tokens of.
const WINDOW_MIN: u64 = 1000;
/// Seconds that a replicated table must remember them for: a day's outage.
const WINDOW_S_MIN: u64 = 86_400;

/// Columns of `batch` that are inserted and verified.
const BATCH: &[(&str, &str)] = &[
    ("node", "LowCardinality(String)"),
    ("node_id", "String"),
    ("epoch", "UInt32"),
    ("segment", "UInt64"),
    ("batch", "UInt32"),
    ("sealed_at", "DateTime('UTC')"),
    ("first_position", "UInt32"),
    ("last_position", "UInt32"),
    ("facts", "UInt32"),
    ("previous_hash", "String"),
    ("hash", "String"),
    ("blocks", "Array(UInt32)"),
    ("signature", "String"),
];

/// Columns of `node_key` and `anchor`, as well.
const NODE_KEY: &[(&str, &str)] = &[
    ("node", "LowCardinality(String)"),
    ("node_id", "String"),
    ("change", "UInt32"),
    ("at", "DateTime('UTC')"),
    ("key", "String"),
    ("line", "String"),
];
const ANCHOR: &[(&str, &str)] = &[
    ("node", "LowCardinality(String)"),
    ("node_id", "String"),
    ("epoch", "UInt32"),
    ("segment", "UInt64"),
    ("position", "UInt32"),
    ("at", "DateTime64(3, 'UTC')"),
    ("hash", "String"),
    ("signature", "String"),
];

#[derive(Deserialize)]
struct ColumnRow {
    table: String,
    name: String,
    #[serde(rename = "type")]
    ty: String,
    default_kind: String,
}

#[derive(Deserialize)]
struct TableRow {
    name: String,
    engine: String,
    engine_full: String,
}

/// What is wrong with any of these replicas that answers; several have to share the tokens of inserts.
///
/// # Errors
/// ClickHouse's, when none answers.
pub async fn check_all(clients: &[Client]) -> Result<Vec<String>, String> {
    let mut problems = Vec::new();
    let (mut answered, mut last) = (false, "there is no address".to_owned());
    for client in clients {
        let found = match check(client).await {
            Ok(found) if clients.len() > 1 => {
                alone(client).await.map(|more| [found, more].concat())
            }
            found => found,
        };
        match found {
            Ok(found) => {
                answered = true;
                problems.extend(found);
            }
            Err(error) => last = error,
        }
    }
    problems.sort();
    problems.dedup();
    if answered { Ok(problems) } else { Err(last) }
}

/// Tables that no replica shares: what failed on one server would be stored twice on another.
async fn alone(client: &Client) -> Result<Vec<String>, String> {
    let sql = "SELECT name, engine, engine_full FROM system.tables \
        WHERE database = currentDatabase() AND name IN ('fact', 'batch', 'node_key', 'anchor', 'fact_5m') \
        AND NOT startsWith(engine, 'Replicated') ORDER BY name";
    let tables: Vec<TableRow> = fetch(client.query_raw(sql)).await?;
    let say = |table: TableRow| {
        format!(
            "table {} is not replicated, but record.clickhouse.url names several servers: a batch could be \
             stored on two of them; use `weir db migrate --layout cluster`, or one address",
            table.name
        )
    };
    Ok(tables.into_iter().map(say).collect())
}

/// What is wrong, each with its remedy; empty when facts can be shipped exactly once. Needs a
/// reader's rights.
///
/// # Errors
/// ClickHouse's.
pub async fn check(client: &Client) -> Result<Vec<String>, String> {
    let sql = "SELECT table, name, type, default_kind FROM system.columns \
        WHERE database = currentDatabase() AND table IN ('fact', 'batch', 'node_key', 'anchor') ORDER BY table, position";
    let rows: Vec<ColumnRow> = fetch(client.query_raw(sql)).await?;
    let mut problems = Vec::new();
    let fact: Vec<_> = COLUMNS.iter().map(|c| (c.name, c.ty)).collect();
    for (table, expected) in [
        ("fact", fact.as_slice()),
        ("batch", BATCH),
        ("node_key", NODE_KEY),
        ("anchor", ANCHOR),
    ] {
        columns(&mut problems, table, expected, &rows);
    }
    let sql = "SELECT name, engine, engine_full FROM system.tables \
        WHERE database = currentDatabase() \
        AND name IN ('fact', 'batch', 'node_key', 'anchor', 'fact_5m', 'fact_5m_feed')";
    let tables: Vec<TableRow> = fetch(client.query_raw(sql)).await?;
    for name in ["fact", "batch", "node_key", "anchor", "fact_5m"] {
        match tables.iter().find(|table| table.name == name) {
            Some(table) => engine(&mut problems, table),
            None => problems.push(format!("table {name} is missing: run `weir db migrate`")),
        }
    }
    if !tables.iter().any(|table| table.name == "fact_5m_feed") {
        problems.push("view fact_5m_feed is missing: run `weir db migrate`".to_owned());
    }
    Ok(problems)
}

fn columns(problems: &mut Vec<String>, table: &str, expected: &[(&str, &str)], rows: &[ColumnRow]) {
    let found: BTreeMap<&str, &ColumnRow> = rows
        .iter()
        .filter(|row| row.table == table)
        .map(|row| (row.name.as_str(), row))
        .collect();
    if found.is_empty() {
        return;
    }
    for (name, ty) in expected {
        match found.get(name) {
            None => problems.push(format!(
                "column {table}.{name} is missing: run `weir db migrate`"
            )),
            Some(row) if row.ty != *ty => problems.push(format!(
                "column {table}.{name} is {}, it must be {ty}: restore its type, or record into \
                 another database",
                row.ty
            )),
            Some(row) if !row.default_kind.is_empty() => problems.push(format!(
                "column {table}.{name} has a {}: remove it, values are made by the node alone",
                row.default_kind
            )),
            Some(_) => {}
        }
    }
}

fn engine(problems: &mut Vec<String>, table: &TableRow) {
    let name = &table.name;
    let replicated = table.engine.starts_with("Replicated");
    let wanted = if name == "fact_5m" {
        "SummingMergeTree"
    } else {
        "MergeTree"
    };
    if table.engine.trim_start_matches("Replicated") != wanted {
        problems.push(format!(
            "table {name} has the engine {}, it must be {wanted} or Replicated{wanted}: name the \
             table that holds the rows, not a Distributed one",
            table.engine
        ));
        return;
    }
    let setting = if replicated {
        "replicated_deduplication_window"
    } else {
        "non_replicated_deduplication_window"
    };
    // Not set on a replicated table: the server's default, which is large enough.
    let least = setting_of(&table.engine_full, setting).or(replicated.then_some(WINDOW_MIN));
    if least.is_none_or(|blocks| blocks < WINDOW_MIN) {
        problems.push(format!(
            "table {name} remembers too few insert tokens, a retry could be stored twice: ALTER \
             TABLE {name} MODIFY SETTING {setting} = 10000"
        ));
    }
    let seconds = "replicated_deduplication_window_seconds";
    if replicated && setting_of(&table.engine_full, seconds).is_none_or(|s| s < WINDOW_S_MIN) {
        problems.push(format!(
            "table {name} forgets insert tokens too soon: ALTER TABLE {name} MODIFY SETTING \
             {seconds} = 604800"
        ));
    }
    if setting_of(&table.engine_full, "fsync_after_insert") != Some(1) {
        problems.push(format!(
            "table {name} may lose acknowledged rows when power fails: ALTER TABLE {name} MODIFY \
             SETTING fsync_after_insert = 1"
        ));
    }
}

/// Value of `name = number` in the text of an engine.
fn setting_of(engine: &str, name: &str) -> Option<u64> {
    let settings = engine.split_once("SETTINGS ")?.1;
    settings.split(", ").find_map(|setting| {
        let (key, value) = setting.split_once(" = ")?;
        (key == name).then(|| value.parse().ok())?
    })
}
