-- One row per shipped batch: its place in the spool and the chain value before and after it.
-- A batch that is missing, or whose hashes do not follow each other, is a hole in the record.
CREATE TABLE IF NOT EXISTS batch ON CLUSTER '{cluster}' (
    node LowCardinality(String),
    node_id String,
    epoch UInt32,
    segment UInt64,
    batch UInt32,
    sealed_at DateTime('UTC'),
    first_position UInt32,
    last_position UInt32,
    facts UInt32,
    previous_hash String,
    hash String
) ENGINE = ReplicatedMergeTree('/clickhouse/tables/{shard}/{database}/batch', '{replica}')
PARTITION BY toYYYYMM(sealed_at)
ORDER BY (node_id, epoch, segment, batch)
SETTINGS replicated_deduplication_window = 100000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1;
