//! The schema: embedded from `deploy/clickhouse/local`, applied in order, idempotent.

use clickhouse::Client;

/// File name and text; each holds one statement.
pub const MIGRATIONS: &[(&str, &str)] = &[
    (
        "001_fact.sql",
        include_str!("../../../deploy/clickhouse/local/001_fact.sql"),
    ),
    (
        "002_batch.sql",
        include_str!("../../../deploy/clickhouse/local/002_batch.sql"),
    ),
    (
        "003_fact_5m.sql",
        include_str!("../../../deploy/clickhouse/local/003_fact_5m.sql"),
    ),
    (
        "004_fact_5m_feed.sql",
        include_str!("../../../deploy/clickhouse/local/004_fact_5m_feed.sql"),
    ),
    (
        "005_fact_sre.sql",
        include_str!("../../../deploy/clickhouse/local/005_fact_sre.sql"),
    ),
    (
        "006_batch_proof.sql",
        include_str!("../../../deploy/clickhouse/local/006_batch_proof.sql"),
    ),
    (
        "007_fact_by_segment.sql",
        include_str!("../../../deploy/clickhouse/local/007_fact_by_segment.sql"),
    ),
];

/// Makes the database and applies every migration.
///
/// # Errors
/// ClickHouse's, with the migration's name in front.
pub async fn migrate(admin: &Client, database: &str) -> Result<(), String> {
    let plain = database
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !plain || database.is_empty() {
        return Err(format!("{database} is not a plain database name"));
    }
    let create = format!("CREATE DATABASE IF NOT EXISTS {database}");
    admin
        .clone()
        .with_database("default")
        .query_raw(&create)
        .execute()
        .await
        .map_err(|error| format!("creating {database}: {error}"))?;
    let client = admin.clone().with_database(database);
    for (name, text) in MIGRATIONS {
        let statement = text.trim().trim_end_matches(';');
        client
            .query_raw(statement)
            .execute()
            .await
            .map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_exactly_the_columns_that_rows_are_encoded_in() {
        let sql = MIGRATIONS[0].1;
        let body = sql.split_once("fact (\n").unwrap().1;
        let found: Vec<(&str, &str)> = body
            .lines()
            .map(str::trim)
            .take_while(|line| !line.starts_with("INDEX"))
            .map(|line| {
                let line = line.trim_end_matches(',');
                let line = line.split(" CODEC(").next().unwrap();
                line.split_once(' ').unwrap()
            })
            .collect();
        let expected: Vec<(&str, &str)> = weir_spool::schema::COLUMNS
            .iter()
            .map(|c| (c.name, c.ty))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_table_that_an_insert_reaches_has_a_deduplication_window() {
        for (name, text) in MIGRATIONS {
            if text.contains("CREATE TABLE") {
                assert!(
                    text.contains("non_replicated_deduplication_window"),
                    "{name}"
                );
            }
        }
    }
}
