CREATE MATERIALIZED VIEW IF NOT EXISTS fact_5m_feed ON CLUSTER '{cluster}' TO fact_5m AS
SELECT toStartOfInterval(toDateTime(event_time, 'UTC'), INTERVAL 5 MINUTE) AS bucket, cluster, protocol, principal,
       toString(decision) AS decision, countIf(kind = 'request') AS requests, countIf(kind = 'reply') AS replies,
       sum(rows) AS result_rows, sum(bytes_out) AS result_bytes, sum(masked_values) AS masked, sum(held_ms) AS held_ms
FROM fact GROUP BY bucket, cluster, protocol, principal, decision;
