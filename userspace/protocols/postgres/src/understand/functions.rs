//! Which built-in functions are harmless, and what the others do.

/// Built-in volatile functions that change nothing and reveal nothing of tables.
const VOLATILE_HARMLESS: &[&str] = &[
    "clock_timestamp",
    "gen_random_uuid",
    "pg_collation_actual_version",
    "pg_column_is_updatable",
    "pg_current_wal_insert_lsn",
    "pg_current_wal_lsn",
    "pg_database_size",
    "pg_indexes_size",
    "pg_is_in_recovery",
    "pg_last_wal_receive_lsn",
    "pg_partition_ancestors",
    "pg_partition_root",
    "pg_partition_tree",
    "pg_last_wal_replay_lsn",
    "pg_relation_size",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pg_stat_clear_snapshot",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_total_relation_size",
    "random",
    "random_normal",
    "setseed",
    "timeofday",
    "txid_current",
    "pg_current_xact_id",
    "uuidv4",
    "uuidv7",
];

/// Built-in functions that are not volatile and still run queries, or show what other sessions do
/// or what tables hold.
const QUIET_DANGEROUS: &[&str] = &[
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "database_to_xml",
    "database_to_xml_and_xmlschema",
    "database_to_xmlschema",
    "pg_get_multixact_members",
    "pg_ls_dir",
    "pg_read_binary_file",
    "pg_read_file",
    "pg_stat_file",
    "pg_stat_get_activity",
    "pg_stat_get_backend_activity",
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "query_to_xmlschema",
    "schema_to_xml",
    "schema_to_xml_and_xmlschema",
    "schema_to_xmlschema",
    "table_to_xml",
    "table_to_xml_and_xmlschema",
    "table_to_xmlschema",
    "ts_rewrite",
    "ts_stat",
];

/// What a built-in function does beside returning a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Special {
    None,
    ReadsFile,
    WritesFile,
    LargeObject,
    SetsConfig,
    ShowsConfig,
    Notifies,
}

/// Whether a function of `pg_catalog` needs no access of its own.
pub(super) fn is_harmless(name: &str, volatile: bool) -> bool {
    if special(name) != Special::None || QUIET_DANGEROUS.contains(&name) {
        return false;
    }
    !volatile || VOLATILE_HARMLESS.contains(&name)
}

/// The effects of a function of `pg_catalog` that have actions of their own.
pub(super) fn special(name: &str) -> Special {
    match name {
        "set_config" => Special::SetsConfig,
        "current_setting" => Special::ShowsConfig,
        "pg_notify" => Special::Notifies,
        "lo_import" => Special::ReadsFile,
        "lo_export" => Special::WritesFile,
        "loread" | "lowrite" => Special::LargeObject,
        _ if name.starts_with("lo_") => Special::LargeObject,
        "pg_read_file" | "pg_read_binary_file" | "pg_stat_file" => Special::ReadsFile,
        "pg_read_file_old" | "pg_read_file_all" | "pg_current_logfile" => Special::ReadsFile,
        _ if name.starts_with("pg_ls_") => Special::ReadsFile,
        _ if name.starts_with("pg_file_") => Special::WritesFile,
        _ => Special::None,
    }
}

/// Settings that change how the server reads SQL: Weir pins them.
pub(crate) fn is_pinned(setting: &str) -> bool {
    matches!(
        setting,
        "standard_conforming_strings"
            | "client_encoding"
            | "transform_null_equals"
            | "session_preload_libraries"
            | "local_preload_libraries"
    )
}
