-- Large statements and parameters stand apart, once in a session, in pieces before the request that names them by its beginning,
-- length and SHA-256 (`…(N bytes, sha256 …)`).
ALTER TABLE fact MODIFY COLUMN kind Enum8('flow' = 1, 'identity' = 2, 'request' = 3, 'reply' = 4, 'approval' = 5, 'error' = 6, 'ledger' = 7, 'node' = 8, 'terminal' = 9, 'value' = 10);
CREATE OR REPLACE VIEW fact_sre AS SELECT * EXCEPT (response_masked, reply_digest, parameters, argv) FROM fact;
-- The whole texts. A binary parameter is in hexadecimal behind 0x; the digest is of its bytes.
CREATE VIEW IF NOT EXISTS large_statement AS
SELECT session_id, labels['sha256'] AS sha256, min(event_time) AS recorded, any(workload) AS workload, any(principal) AS principal,
       any(target) AS target, toUInt64OrZero(any(labels['bytes'])) AS bytes,
       arrayStringConcat(arrayMap(piece -> piece.2, arraySort(groupUniqArray((toUInt32OrZero(labels['part']), statement))))) AS text
FROM fact WHERE kind = 'value' AND notEmpty(statement) GROUP BY session_id, sha256;
CREATE VIEW IF NOT EXISTS large_parameter AS
SELECT session_id, labels['sha256'] AS sha256, min(event_time) AS recorded, any(workload) AS workload, any(principal) AS principal,
       any(target) AS target, toUInt64OrZero(any(labels['bytes'])) AS bytes,
       arrayStringConcat(arrayMap(piece -> piece.2, arraySort(groupUniqArray((toUInt32OrZero(labels['part']), parameters))))) AS text
FROM fact WHERE kind = 'value' AND notEmpty(parameters) GROUP BY session_id, sha256;
