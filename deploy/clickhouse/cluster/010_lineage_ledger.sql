-- What a process executed, and where: see model::fact. Rows of before have empty texts there.
ALTER TABLE fact ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS exe_sha256 LowCardinality(String) AFTER exe_id;
ALTER TABLE fact_all ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS exe_sha256 LowCardinality(String) AFTER exe_id;
ALTER TABLE fact ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS container LowCardinality(String) AFTER cgroup_path;
ALTER TABLE fact_all ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS container LowCardinality(String) AFTER cgroup_path;
ALTER TABLE fact ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS pod LowCardinality(String) AFTER container;
ALTER TABLE fact_all ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS pod LowCardinality(String) AFTER container;
ALTER TABLE fact ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS lineage LowCardinality(String) AFTER pod;
ALTER TABLE fact_all ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS lineage LowCardinality(String) AFTER pod;
CREATE OR REPLACE VIEW fact_sre ON CLUSTER '{cluster}' AS SELECT * EXCEPT (response_masked, parameters, argv) FROM fact_all;
-- One row per node, workload and minute: connects to protected destinations, as the kernel counted them and as they were served.
CREATE VIEW IF NOT EXISTS ledger ON CLUSTER '{cluster}' AS
SELECT event_time, node, workload, status, toDateTime(toUInt32OrZero(labels['from']), 'UTC') AS since, toDateTime(toUInt32OrZero(labels['to']), 'UTC') AS until,
       toUInt64OrZero(labels['seen']) AS seen_connects, toUInt64OrZero(labels['served']) AS served, toUInt64OrZero(labels['abandoned']) AS abandoned,
       toUInt64OrZero(labels['in_flight']) AS in_flight, toUInt64OrZero(labels['refused']) AS refused, toUInt64OrZero(labels['missed']) AS missed,
       toInt64OrZero(labels['difference']) AS difference, toUInt64OrZero(labels['events_lost']) AS events_lost, labels
FROM fact_all WHERE kind = 'ledger';
-- What was executed, by its digest: one row per binary, workload and target.
CREATE VIEW IF NOT EXISTS executed ON CLUSTER '{cluster}' AS
SELECT exe_sha256, any(exe) AS path, workload, target, min(event_time) AS first_time, max(event_time) AS last_time, uniqExact(session_id) AS sessions
FROM fact_all WHERE kind = 'request' GROUP BY exe_sha256, workload, target;
