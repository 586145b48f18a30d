-- Rollup for dashboards. Every table that an insert reaches needs a deduplication window of its own.
CREATE TABLE IF NOT EXISTS fact_5m (
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
) ENGINE = SummingMergeTree
PARTITION BY toYYYYMM(bucket)
ORDER BY (bucket, cluster, protocol, principal, decision)
TTL bucket + INTERVAL 3 YEAR DELETE
SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 10000, fsync_after_insert = 1;
