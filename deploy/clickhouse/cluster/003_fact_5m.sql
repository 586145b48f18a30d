-- Rollup for dashboards. Every table that an insert reaches needs a deduplication window of its own.
CREATE TABLE IF NOT EXISTS fact_5m ON CLUSTER '{cluster}' (
    bucket DateTime('UTC') CODEC(Delta(4), ZSTD(1)),
    cluster LowCardinality(String),
    protocol LowCardinality(String),
    principal LowCardinality(String),
    decision LowCardinality(String),
    requests UInt64,
    replies UInt64,
    result_rows UInt64,
    result_bytes UInt64,
    masked UInt64,
    held_ms UInt64
) ENGINE = ReplicatedSummingMergeTree('/clickhouse/tables/{shard}/{database}/fact_5m', '{replica}')
PARTITION BY toYYYYMM(bucket)
ORDER BY (bucket, cluster, protocol, principal, decision)
TTL bucket + INTERVAL 3 YEAR DELETE
SETTINGS ttl_only_drop_parts = 1, replicated_deduplication_window = 100000, replicated_deduplication_window_seconds = 604800, fsync_after_insert = 1;
