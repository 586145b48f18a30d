//! The schema: embedded from `deploy/clickhouse`, applied in order, each file once.
//!
//! Every statement is idempotent, so a run that was cut off is simply repeated. The cluster's
//! variant is made from the local one and kept as files beside it.

use clickhouse::Client;
use serde::Deserialize;

use crate::query::fetch;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../deploy/clickhouse/local/", $name)))),*]
    };
}

/// File name and text of the local variant, in order.
pub const MIGRATIONS: &[(&str, &str)] = files![
    "001_fact.sql",
    "002_batch.sql",
    "003_fact_5m.sql",
    "004_fact_5m_feed.sql",
    "005_fact_sre.sql",
    "006_batch_proof.sql",
    "007_fact_by_segment.sql",
    "008_views.sql",
    "009_terminal.sql",
    "010_lineage_ledger.sql",
    "011_node_key.sql",
    "012_anchor.sql",
    "013_reply_digest.sql",
    "014_value.sql",
    "015_stages.sql",
];

/// Roles, row policies and quotas; servers only, the embedded engine has none.
pub const ROLES: &str = include_str!("../../../deploy/clickhouse/roles.sql");

/// What kind of store the schema is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One server, or the embedded engine.
    Local,
    /// Replicated tables on a cluster whose servers define the macros `cluster`, `shard` and
    /// `replica` and the storage policy `weir_tiers` with a volume `cold`.
    Cluster,
}

impl Layout {
    /// File name and text, in order.
    #[must_use]
    pub fn files(self) -> Vec<(&'static str, String)> {
        let mut files: Vec<_> = MIGRATIONS
            .iter()
            .map(|(name, text)| match self {
                Self::Local => (*name, (*text).to_owned()),
                Self::Cluster => (*name, clustered(text)),
            })
            .collect();
        if self == Self::Cluster {
            // Views read through these, so they come before the views.
            let at = files
                .iter()
                .position(|(name, _)| *name == "005_fact_sre.sql");
            files.insert(
                at.unwrap_or(0),
                ("004_distributed.sql", DISTRIBUTED.to_owned()),
            );
        }
        files
    }
}

const DISTRIBUTED: &str = "-- All shards. Inserts go to the shard's own tables: through these they would not be exactly once.
CREATE TABLE IF NOT EXISTS fact_all ON CLUSTER '{cluster}' AS fact
ENGINE = Distributed('{cluster}', currentDatabase(), 'fact', cityHash64(session_id));
CREATE TABLE IF NOT EXISTS batch_all ON CLUSTER '{cluster}' AS batch
ENGINE = Distributed('{cluster}', currentDatabase(), 'batch', cityHash64(node_id));
CREATE TABLE IF NOT EXISTS fact_5m_all ON CLUSTER '{cluster}' AS fact_5m
ENGINE = Distributed('{cluster}', currentDatabase(), 'fact_5m', rand());
";

const ON: &str = " ON CLUSTER '{cluster}'";

/// The cluster's variant of a local file.
fn clustered(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut name = "";
    let mut is_view = false;
    for line in text.lines() {
        let mut line = line.to_owned();
        for head in [
            "CREATE TABLE IF NOT EXISTS ",
            "CREATE MATERIALIZED VIEW IF NOT EXISTS ",
            "CREATE VIEW IF NOT EXISTS ",
            "CREATE OR REPLACE VIEW ",
            "ALTER TABLE ",
        ] {
            let source = text.lines().find(|other| **other == line).unwrap_or("");
            if let Some(rest) = source.strip_prefix(head) {
                name = rest.split(' ').next().unwrap_or("");
                is_view = head.contains(" VIEW ") && !head.contains("MATERIALIZED");
                let rest = rest.strip_prefix(name).unwrap_or("");
                line = format!("{head}{name}{ON}{rest}");
                if rest.contains(" COLUMN ") {
                    // A distributed table has columns of its own.
                    line = format!("{line}\n{head}{name}_all{ON}{rest}");
                }
            }
        }
        if is_view {
            line = line
                .replace("FROM fact", "FROM fact_all")
                .replace("JOIN fact AS", "JOIN fact_all AS");
        }
        let place = format!("('/clickhouse/tables/{{shard}}/{{database}}/{name}', '{{replica}}')");
        for engine in ["MergeTree", "SummingMergeTree"] {
            let plain = format!(") ENGINE = {engine}");
            if line == plain {
                line = format!(") ENGINE = Replicated{engine}{place}");
            }
        }
        if name == "fact" {
            line = line
                .replace(
                    "TTL toDateTime",
                    "TTL toDateTime(event_time) + INTERVAL 14 DAY TO VOLUME 'cold', toDateTime",
                )
                .replace(
                    "SETTINGS ttl",
                    "SETTINGS storage_policy = 'weir_tiers', ttl",
                );
        }
        out.push_str(&line.replace(
            "non_replicated_deduplication_window = 10000",
            "replicated_deduplication_window = 100000, replicated_deduplication_window_seconds = 604800",
        ));
        out.push('\n');
    }
    out
}

/// Statements of a file: each ends with a semicolon at the end of a line.
fn statements(text: &str) -> impl Iterator<Item = &str> {
    text.split(";\n").map(str::trim).filter(|part| {
        part.lines()
            .any(|line| !line.trim().is_empty() && !line.starts_with("--"))
    })
}

#[derive(Deserialize)]
struct Applied {
    name: String,
    digest: String,
}

fn digest(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// Makes the database and applies what is not applied yet; gives the names of those files.
///
/// # Errors
/// ClickHouse's, with the file's name in front; a file that was applied with another text.
pub async fn migrate(
    admin: &Client,
    database: &str,
    layout: Layout,
) -> Result<Vec<&'static str>, String> {
    let on = if layout == Layout::Cluster { ON } else { "" };
    let open = pending(admin, database, layout).await?;
    let server = admin.clone().with_database("default");
    run(
        &server,
        &format!("CREATE DATABASE IF NOT EXISTS {database}{on}"),
    )
    .await
    .map_err(|error| format!("creating {database}: {error}"))?;
    let client = admin.clone().with_database(database);
    let engine = if layout == Layout::Cluster {
        "ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/migration', '{replica}')"
    } else {
        "MergeTree"
    };
    let table = format!(
        "CREATE TABLE IF NOT EXISTS migration{on} (name String, digest String, \
         applied_at DateTime('UTC')) ENGINE = {engine} ORDER BY name"
    );
    run(&client, &table).await?;
    let mut names = Vec::new();
    for (name, text) in open {
        for statement in statements(&text) {
            run(&client, statement)
                .await
                .map_err(|error| format!("{name}: {error}"))?;
        }
        let digest = digest(&text);
        let note = format!("INSERT INTO migration SELECT '{name}', '{digest}', now()");
        run(&client, &note)
            .await
            .map_err(|error| format!("{name}: {error}"))?;
        names.push(name);
    }
    Ok(names)
}

/// Files that are not applied yet, with their texts; changes nothing.
///
/// # Errors
/// See [`migrate`].
pub async fn pending(
    admin: &Client,
    database: &str,
    layout: Layout,
) -> Result<Vec<(&'static str, String)>, String> {
    let plain = database
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !plain || database.is_empty() {
        return Err(format!("{database} is not a plain database name"));
    }
    let server = admin.clone().with_database("default");
    let known = "SELECT name, '' AS digest FROM system.tables WHERE name = 'migration' \
                 AND database = {database:String}";
    let known: Vec<Applied> = fetch(server.query_raw(known).param("database", database)).await?;
    let applied: Vec<Applied> = if known.is_empty() {
        Vec::new()
    } else {
        let client = admin.clone().with_database(database);
        fetch(client.query_raw("SELECT name, digest FROM migration ORDER BY applied_at")).await?
    };
    let mut open = Vec::new();
    for (name, text) in layout.files() {
        match applied.iter().rfind(|applied| applied.name == name) {
            None => open.push((name, text)),
            Some(applied) if applied.digest == digest(&text) => {}
            Some(_) => {
                return Err(format!(
                    "{name} was applied with another text: this database belongs to another \
                     version or layout of Weir"
                ));
            }
        }
    }
    Ok(open)
}

/// Applies roles, row policies and quotas.
///
/// # Errors
/// ClickHouse's; the embedded engine knows no roles (code 497 or 36).
pub async fn roles(admin: &Client, database: &str, layout: Layout) -> Result<(), String> {
    let client = admin.clone().with_database(database);
    for statement in role_statements(layout) {
        run(&client, &statement).await?;
    }
    Ok(())
}

/// The statements of [`roles`].
#[must_use]
pub fn role_statements(layout: Layout) -> Vec<String> {
    let on = if layout == Layout::Cluster { ON } else { "" };
    let withheld = ["response_masked", "reply_digest", "parameters", "argv"];
    let columns: Vec<_> = weir_spool::schema::COLUMNS
        .iter()
        .map(|column| column.name)
        .filter(|name| !withheld.contains(name))
        .collect();
    let text = ROLES
        .replace("/*on*/", on)
        .replace("/*sre_columns*/", &columns.join(", "));
    let mut all = Vec::new();
    for statement in statements(&text) {
        all.push(statement.to_owned());
        if layout == Layout::Cluster && statement.contains(" ON fact ") {
            all.push(statement.replace(" ON fact ", " ON fact_all "));
        }
    }
    all
}

async fn run(client: &Client, sql: &str) -> Result<(), String> {
    client
        .query_raw(sql)
        .execute()
        .await
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
