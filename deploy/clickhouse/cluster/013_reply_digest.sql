-- The first 16 bytes of the SHA-256 of what an agent was sent: lower(leftPad(hex(reply_digest), 32, '0')) is how `sha256sum`
-- begins. It is withheld with the reply: what has few values can be guessed by it.
ALTER TABLE fact ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS reply_digest UInt128 AFTER truncated;
ALTER TABLE fact_all ON CLUSTER '{cluster}' ADD COLUMN IF NOT EXISTS reply_digest UInt128 AFTER truncated;
CREATE OR REPLACE VIEW fact_sre ON CLUSTER '{cluster}' AS SELECT * EXCEPT (response_masked, reply_digest, parameters, argv) FROM fact_all;
