-- Every change of a node's signing key: `line` is signed by the key before and by the new one, and says with which segments
-- the new one begins. What is not in the node's own history is forged.
CREATE TABLE IF NOT EXISTS node_key (
    node LowCardinality(String),
    node_id String,
    change UInt32,
    at DateTime('UTC'),
    key String,
    line String
) ENGINE = MergeTree
ORDER BY (node_id, change)
SETTINGS non_replicated_deduplication_window = 10000, fsync_after_insert = 1;
