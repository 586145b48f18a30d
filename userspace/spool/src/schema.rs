//! Columns of `weir.fact`, in the order in which rows are encoded.

/// Name and ClickHouse type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub ty: &'static str,
}

const fn column(name: &'static str, ty: &'static str) -> Column {
    Column { name, ty }
}

/// All columns. Those of the session come first: their encoding is the same for all its facts.
pub const COLUMNS: &[Column] = &[
    column("session_id", "UInt128"),
    column("cluster", "LowCardinality(String)"),
    column("node", "LowCardinality(String)"),
    column("workload", "LowCardinality(String)"),
    column("agent", "LowCardinality(String)"),
    column("target", "LowCardinality(String)"),
    column("protocol", "LowCardinality(String)"),
    column("tenant", "LowCardinality(String)"),
    column("principal", "LowCardinality(String)"),
    column("application", "LowCardinality(String)"),
    column("on_behalf_of", "LowCardinality(String)"),
    column("groups", "Array(LowCardinality(String))"),
    column("roles", "Array(LowCardinality(String))"),
    column("token_id", "String"),
    column("evidence", "LowCardinality(String)"),
    column("uid", "UInt32"),
    column("pid", "UInt32"),
    column("ppid", "UInt32"),
    column("comm", "LowCardinality(String)"),
    column("exe", "LowCardinality(String)"),
    column("exe_id", "LowCardinality(String)"),
    column("exe_sha256", "LowCardinality(String)"),
    column("argv", "String"),
    column("parents", "Array(String)"),
    column("cgroup_id", "UInt64"),
    column("cgroup_path", "LowCardinality(String)"),
    column("container", "LowCardinality(String)"),
    column("pod", "LowCardinality(String)"),
    column("lineage", "LowCardinality(String)"),
    column("netns_inode", "UInt64"),
    column("client_addr", "String"),
    column("server_addr", "LowCardinality(String)"),
    column("policy_version", "UInt32"),
    column(
        "kind",
        "Enum8('flow' = 1, 'identity' = 2, 'request' = 3, 'reply' = 4, 'approval' = 5, 'error' = 6, 'ledger' = 7, 'node' = 8, 'terminal' = 9, 'value' = 10)",
    ),
    column("event_time", "DateTime64(3, 'UTC')"),
    column("seq", "UInt32"),
    column("reply_to", "UInt32"),
    column("statement", "String"),
    column("parameters", "String"),
    column("shape", "UInt64"),
    column("effects", "Array(LowCardinality(String))"),
    column("objects", "Array(LowCardinality(String))"),
    column(
        "decision",
        "Enum8('none' = 0, 'allow' = 1, 'deny' = 2, 'hold' = 3, 'approved' = 4, 'rejected' = 5, 'expired' = 6, 'observe' = 7)",
    ),
    column("rule", "LowCardinality(String)"),
    column("reason", "String"),
    column("approval_id", "UInt128"),
    column("approver", "LowCardinality(String)"),
    column("held_ms", "UInt32"),
    column("duration_us", "UInt64"),
    column("server_us", "UInt64"),
    column("identify_us", "UInt32"),
    column("credential_us", "UInt32"),
    column("decode_us", "UInt32"),
    column("decide_us", "UInt32"),
    column("mask_us", "UInt32"),
    column("rows", "UInt64"),
    column("bytes_in", "UInt64"),
    column("bytes_out", "UInt64"),
    column("response_masked", "String"),
    column("truncated", "Bool"),
    column("reply_digest", "UInt128"),
    column("masked_values", "UInt64"),
    column("mask_rules", "Array(LowCardinality(String))"),
    column("status", "LowCardinality(String)"),
    column("labels", "Map(LowCardinality(String), String)"),
    column("epoch", "UInt32"),
    column("segment", "UInt64"),
    column("position", "UInt32"),
    column("row_digest", "UInt64"),
];

/// `name type` lines: what a segment's header says of its rows.
#[must_use]
pub fn text() -> String {
    COLUMNS
        .iter()
        .map(|c| format!("{} {}", c.name, c.ty))
        .collect::<Vec<_>>()
        .join("\n")
}

/// `(a, b, …)` for an INSERT.
#[must_use]
pub fn names() -> String {
    COLUMNS
        .iter()
        .map(|c| c.name)
        .collect::<Vec<_>>()
        .join(", ")
}
