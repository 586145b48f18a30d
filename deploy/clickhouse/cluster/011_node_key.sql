-- Every change of a node's signing key: `line` is signed by the key before and by the new one, and says with which segments
-- the new one begins. What is not in the node's own history is forged.
CREATE TABLE IF NOT EXISTS node_key ON CLUSTER '{cluster}' (
    node LowCardinality(String),
    node_id String,
    change UInt32,
    at DateTime('UTC'),
    key String,
    line String
) ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/node_key', '{replica}')
ORDER BY (node_id, change)
SETTINGS replicated_deduplication_window = 100000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1;
