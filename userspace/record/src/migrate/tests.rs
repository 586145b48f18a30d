//! The texts themselves; that the engine takes them is tested with `weir-store`.

use super::*;

#[test]
fn the_table_has_exactly_the_columns_that_rows_are_encoded_in() {
    let sql = MIGRATIONS[0].1;
    let body = sql.split_once("fact (\n").unwrap().1;
    let mut found: Vec<(&str, &str)> = body
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("INDEX"))
        .map(|line| {
            let line = line.trim_end_matches(',');
            let line = line.split(" CODEC(").next().unwrap();
            line.split_once(' ').unwrap()
        })
        .collect();
    for (_, text) in MIGRATIONS {
        for change in text.lines() {
            if let Some(change) = change.strip_prefix("ALTER TABLE fact MODIFY COLUMN ") {
                let (name, ty) = change.trim_end_matches(';').split_once(' ').unwrap();
                found.iter_mut().find(|column| column.0 == name).unwrap().1 = ty;
            }
            let added = "ALTER TABLE fact ADD COLUMN IF NOT EXISTS ";
            if let Some(change) = change.strip_prefix(added) {
                let (column, after) = change.trim_end_matches(';').split_once(" AFTER ").unwrap();
                let at = found.iter().position(|column| column.0 == after).unwrap();
                found.insert(at + 1, column.split_once(' ').unwrap());
            }
        }
    }
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

/// `WEIR_BLESS=1` writes them.
#[test]
fn the_clusters_files_are_those_that_are_made() {
    let directory = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/clickhouse/cluster"
    );
    for (name, text) in Layout::Cluster.files() {
        let path = format!("{directory}/{name}");
        if std::env::var_os("WEIR_BLESS").is_some() {
            std::fs::create_dir_all(directory).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{name}");
        for statement in statements(&text) {
            assert!(
                statement.contains("ON CLUSTER '{cluster}'"),
                "{name}: {statement}"
            );
            assert!(
                !statement.contains("ENGINE = MergeTree"),
                "{name}: {statement}"
            );
            assert!(!statement.contains("non_replicated"), "{name}: {statement}");
        }
    }
}

#[test]
fn sre_roles_get_no_responses_parameters_or_argument_vectors() {
    for layout in [Layout::Local, Layout::Cluster] {
        for statement in role_statements(layout) {
            if statement.contains("TO weir_sre") && statement.contains("SELECT(") {
                for word in ["response_masked", "reply_digest", "parameters", "argv"] {
                    assert!(!statement.contains(word), "{statement}");
                }
            }
        }
    }
}
