-- Pieces of recorded terminals are facts of their own: `response_masked` holds lines of an asciicast (version 2).
ALTER TABLE fact MODIFY COLUMN kind Enum8('flow' = 1, 'identity' = 2, 'request' = 3, 'reply' = 4, 'approval' = 5, 'error' = 6, 'ledger' = 7, 'node' = 8, 'terminal' = 9);
CREATE OR REPLACE VIEW fact_sre AS SELECT * EXCEPT (response_masked, parameters, argv) FROM fact;
-- One row per terminal: who, when, how long.
CREATE VIEW IF NOT EXISTS terminals AS
SELECT min(event_time) AS started, max(event_time) AS ended, session_id, reply_to AS seq, any(workload) AS workload, any(agent) AS agent,
       any(principal) AS principal, any(target) AS target, any(protocol) AS protocol, count() AS pieces, sum(length(response_masked)) AS bytes
FROM fact WHERE kind = 'terminal' GROUP BY session_id, reply_to;
