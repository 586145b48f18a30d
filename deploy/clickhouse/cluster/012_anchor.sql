-- How far a node's open segments had come, signed every few seconds: what a node loses after its anchor has left it can
-- be named, and what lies behind the last one is unproven. Nobody but the node's writer inserts, nobody changes.
CREATE TABLE IF NOT EXISTS anchor ON CLUSTER '{cluster}' (
    node LowCardinality(String),
    node_id String,
    epoch UInt32,
    segment UInt64,
    position UInt32,
    at DateTime64(3, 'UTC'),
    hash String,
    signature String
) ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/anchor', '{replica}')
PARTITION BY toYYYYMM(at)
ORDER BY (node_id, epoch, segment, position)
TTL toDateTime(at) + INTERVAL 400 DAY DELETE
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window = 100000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1;
