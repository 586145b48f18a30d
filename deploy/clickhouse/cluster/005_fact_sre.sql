-- What SREs see without the auditor's role: no responses, parameters or argument vectors.
CREATE VIEW IF NOT EXISTS fact_sre ON CLUSTER '{cluster}' AS SELECT * EXCEPT (response_masked, parameters, argv) FROM fact_all;
