-- All shards. Inserts go to the shard's own tables: through these they would not be exactly once.
CREATE TABLE IF NOT EXISTS fact_all ON CLUSTER '{cluster}' AS fact
ENGINE = Distributed('{cluster}', currentDatabase(), 'fact', cityHash64(session_id));
CREATE TABLE IF NOT EXISTS batch_all ON CLUSTER '{cluster}' AS batch
ENGINE = Distributed('{cluster}', currentDatabase(), 'batch', cityHash64(node_id));
CREATE TABLE IF NOT EXISTS fact_5m_all ON CLUSTER '{cluster}' AS fact_5m
ENGINE = Distributed('{cluster}', currentDatabase(), 'fact_5m', rand());
