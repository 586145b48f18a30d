-- Microseconds of each stage; with held_ms and server_us they are the whole way of a statement. What each is of stands in model::fact.
ALTER TABLE fact ADD COLUMN IF NOT EXISTS identify_us UInt32 AFTER server_us;
ALTER TABLE fact ADD COLUMN IF NOT EXISTS credential_us UInt32 AFTER identify_us;
ALTER TABLE fact ADD COLUMN IF NOT EXISTS decode_us UInt32 AFTER credential_us;
ALTER TABLE fact ADD COLUMN IF NOT EXISTS decide_us UInt32 AFTER decode_us;
ALTER TABLE fact ADD COLUMN IF NOT EXISTS mask_us UInt32 AFTER decide_us;
CREATE OR REPLACE VIEW fact_sre AS SELECT * EXCEPT (response_masked, reply_digest, parameters, argv) FROM fact;
