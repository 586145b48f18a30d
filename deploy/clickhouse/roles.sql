-- Roles for a real server; grant them to your own users. SREs see the clusters of their row policy and no responses (nor their digests),
-- parameters or argument vectors: columns are withheld by grants on the table, so that row policies hold as well.
-- Views run with the rights of who asks. Add one row policy per cluster and team, as weir_sre_default shows.
CREATE SETTINGS PROFILE IF NOT EXISTS weir_reader/*on*/
SETTINGS readonly = 2, max_execution_time = 60 CONST, max_memory_usage = 8000000000 CONST, max_rows_to_read = 5000000000 CONST;
CREATE ROLE IF NOT EXISTS weir_writer/*on*/;
CREATE ROLE IF NOT EXISTS weir_sre/*on*/ SETTINGS PROFILE 'weir_reader';
CREATE ROLE IF NOT EXISTS weir_auditor/*on*/ SETTINGS PROFILE 'weir_reader';
GRANT/*on*/ INSERT, SHOW COLUMNS ON fact TO weir_writer;
GRANT/*on*/ INSERT, SHOW COLUMNS ON batch TO weir_writer;
GRANT/*on*/ INSERT, SHOW COLUMNS ON node_key TO weir_writer;
GRANT/*on*/ INSERT, SHOW COLUMNS ON anchor TO weir_writer;
GRANT/*on*/ SELECT(/*sre_columns*/) ON fact TO weir_sre;
GRANT/*on*/ SELECT ON fact_5m TO weir_sre;
GRANT/*on*/ SELECT ON touched TO weir_sre;
GRANT/*on*/ SELECT ON seen TO weir_sre;
GRANT/*on*/ SELECT ON held TO weir_sre;
GRANT/*on*/ SELECT ON denied TO weir_sre;
GRANT/*on*/ SELECT ON terminals TO weir_sre;
GRANT/*on*/ SELECT ON large_statement TO weir_sre;
GRANT/*on*/ SELECT ON * TO weir_auditor;
CREATE ROW POLICY IF NOT EXISTS weir_sre_default/*on*/ ON fact FOR SELECT USING cluster IN ('default') TO weir_sre;
CREATE ROW POLICY IF NOT EXISTS weir_auditor_all/*on*/ ON fact FOR SELECT USING 1 TO weir_auditor;
CREATE QUOTA IF NOT EXISTS weir_sre/*on*/ FOR INTERVAL 1 hour MAX queries = 1000, execution_time = 1800 TO weir_sre;
