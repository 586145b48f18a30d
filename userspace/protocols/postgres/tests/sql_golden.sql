-- reads
SELECT 1
SELECT * FROM customers
SELECT id, name AS n, ssn s FROM customers c
SELECT c.ssn FROM public.customers AS c WHERE c.id = 7
SELECT customers.ssn FROM other.customers
SELECT secret FROM other.customers
SELECT U&"cust\006Fmers".ssn FROM U&"cust\006Fmers"
SELECT SSN FROM CUSTOMERS
SELECT "SSN" FROM customers
SELECT * FROM nosuch
SELECT nosuch FROM customers
SELECT * FROM otherdb.public.customers
SELECT * FROM db.public.customers
SELECT reverse(ssn), encode(ssn::bytea, 'base64'), left(ssn, 3) FROM customers
SELECT ssn || '' AS x FROM customers
SELECT count(*) FROM customers
SELECT count(ssn), max(ssn) FROM customers
SELECT c FROM customers c
SELECT row_to_json(c) FROM customers c
SELECT json_build_object('a', ssn, 'b', name) FROM customers
SELECT array_agg(ssn ORDER BY card) FROM customers
SELECT string_agg(name, ',') FILTER (WHERE ssn LIKE '1%') FROM customers
SELECT lag(name) OVER (PARTITION BY card ORDER BY ssn) FROM customers
SELECT name FROM customers ORDER BY ssn
SELECT name FROM customers ORDER BY 1
SELECT ssn AS k FROM customers ORDER BY k
SELECT name, count(*) FROM customers GROUP BY name, ssn HAVING max(card) > '1'
SELECT DISTINCT ssn FROM customers
SELECT DISTINCT ON (card) name FROM customers
SELECT name FROM customers WHERE ssn = '123-45-6789'
SELECT name FROM customers WHERE ssn = $1 AND name = $2
SELECT name FROM customers WHERE ssn LIKE '1%' OR card IN ('a', 'b') AND id = 5
SELECT name FROM customers WHERE id = 1 AND name = 'x'
SELECT ssn = '1' FROM customers
SELECT CASE WHEN ssn = '1' THEN 'y' END FROM customers
SELECT x.s FROM (SELECT ssn AS s, card FROM customers) x
SELECT id FROM (SELECT * FROM customers) x
SELECT s FROM (SELECT upper(ssn) AS s FROM customers) x
WITH w AS (SELECT ssn AS a FROM customers) SELECT a FROM w
WITH w(q) AS (SELECT ssn FROM customers) SELECT q FROM w ORDER BY q
WITH customers AS (SELECT 1 AS ssn) SELECT ssn FROM customers
WITH RECURSIVE r AS (SELECT ssn FROM customers UNION ALL SELECT ssn || 'x' FROM r) SELECT ssn FROM r
WITH RECURSIVE r(a, b) AS (SELECT ssn, name FROM customers UNION SELECT b, a FROM r) SELECT a FROM r
SELECT ssn FROM customers UNION ALL SELECT note FROM orders
SELECT ssn FROM customers UNION ALL SELECT upper(card) FROM customers
SELECT ssn FROM customers UNION SELECT ssn FROM customers
SELECT id FROM customers EXCEPT SELECT customer_id FROM orders
SELECT c.name, o.amount FROM customers c JOIN orders o ON o.customer_id = c.id
SELECT id FROM customers JOIN orders USING (id)
SELECT * FROM customers NATURAL JOIN orders
SELECT * FROM people
SELECT full_name FROM people WHERE number = '1'
SELECT mail FROM people
SELECT * FROM logs_1
SELECT * FROM logs
SELECT a FROM parent
SELECT a FROM child
SELECT (SELECT ssn FROM customers LIMIT 1)
SELECT name FROM customers WHERE id IN (SELECT customer_id FROM orders WHERE note = 'z')
SELECT name FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.note = c.ssn)
SELECT c.name, l.note FROM customers c, LATERAL (SELECT note FROM orders o WHERE o.customer_id = c.id) l
SELECT n FROM generate_series(1, 3) n
SELECT u FROM customers c, unnest(ARRAY[c.ssn]) u
VALUES (1, 'a'), (2, 'b')
SELECT * FROM (VALUES (1, 'x')) v(a, b)
TABLE customers
SELECT ssn FROM customers FOR UPDATE
SELECT ctid FROM customers
SELECT * FROM scratch
SELECT * FROM pg_temp.scratch
SELECT name FROM customers LIMIT 10
SELECT most_common_vals FROM pg_stats
SELECT relname FROM pg_class WHERE oid = 'customers'::pg_catalog.regclass
SELECT ssn INTO copy FROM customers
SELECT 1; SELECT ssn FROM customers; DROP TABLE orders
-- functions
SELECT pg_read_file('/etc/passwd')
SELECT * FROM pg_ls_dir('/')
SELECT lo_export(1, '/tmp/x'), lo_import('/etc/passwd')
SELECT query_to_xml('select * from customers', true, true, '')
SELECT table_to_xml('customers', true, true, '')
SELECT * FROM ts_stat('select ssn from customers')
SELECT pg_terminate_backend(1)
SELECT pg_reload_conf()
SELECT pg_sleep(1), random(), now()
SELECT pg_notify('c', ssn) FROM customers
SELECT * FROM dblink('x', 'y') AS t(a int)
SELECT risky(1)
SELECT lower(name) FROM customers
SELECT pg_catalog.lower(name) FROM customers
SELECT other.upper(ssn) FROM customers
SELECT nosuchfunction(ssn) FROM customers
SELECT nosuch.f(1)
SELECT c.touch FROM customers c
SELECT ssn @@@ 'x' FROM customers
SELECT nextval('counter')
SELECT set_config('search_path', 'other', false)
SELECT set_config('standard_conforming_strings', 'off', false)
SELECT set_config(name, 'x', false) FROM customers
SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'
SELECT set_config(s.name, 'x', false) FROM pg_catalog.pg_settings s WHERE setting <> '' AND 'work_mem' = s.name
SELECT set_config(name, 'x', false) FROM pg_settings WHERE name = 'client_encoding'
SELECT set_config(name, 'x', false) FROM pg_settings WHERE name = 'work_mem' OR name = 'geqo'
SELECT set_config(pg_settings.name, 'x', false) FROM pg_settings, customers WHERE pg_settings.name = 'work_mem'
SELECT set_config(name, 'x', false) FROM (SELECT 'client_encoding' AS name) pg_settings WHERE name = 'work_mem'
SELECT (SELECT set_config(name, 'x', false) FROM customers LIMIT 1) FROM pg_settings WHERE name = 'work_mem'
BEGIN READ WRITE
START TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE
SET TRANSACTION READ WRITE
SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY
SET default_transaction_read_only = off
SET default_transaction_read_only = on
RESET transaction_read_only
SELECT current_setting('work_mem')
CALL touch()
DO $$ BEGIN DELETE FROM customers; END $$
-- writes
INSERT INTO customers (id, ssn) VALUES (1, '123-45-6789')
INSERT INTO customers VALUES (1, 'n', 'e', $1, 'c') RETURNING *
INSERT INTO orders (note) SELECT ssn FROM customers
INSERT INTO customers (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET ssn = excluded.ssn WHERE customers.card = 'x'
INSERT INTO customers (id) VALUES (1) ON CONFLICT DO NOTHING
INSERT INTO customers DEFAULT VALUES
INSERT INTO audited VALUES (1, 2)
INSERT INTO people (id) VALUES (1)
UPDATE people SET full_name = 'x' WHERE number = '1' RETURNING number, mail
DELETE FROM people WHERE mail = 'x'
INSERT INTO customers (nosuch) VALUES (1)
UPDATE customers SET name = 'x' WHERE id = 1
UPDATE customers SET name = 'x'
UPDATE customers SET name = ssn WHERE id = 1
UPDATE customers SET ssn = upper(ssn) WHERE id = 1 RETURNING ssn
UPDATE customers SET name = 'x' WHERE true
UPDATE customers SET name = 'x' WHERE 1 = 1
UPDATE customers c SET name = o.note FROM orders o WHERE o.id = 3
UPDATE customers SET (name, email) = (SELECT note, note FROM orders LIMIT 1) WHERE id = 1
UPDATE customers SET name = 'x' WHERE CURRENT OF k
DELETE FROM customers
DELETE FROM customers WHERE id = 3
DELETE FROM customers WHERE (SELECT true)
DELETE FROM customers WHERE ctid = '(0,1)'
DELETE FROM customers c USING orders o WHERE c.id = o.customer_id RETURNING c.ssn
WITH d AS (DELETE FROM customers RETURNING ssn) SELECT ssn FROM d
WITH u AS (UPDATE orders SET note = 'x' RETURNING id) SELECT count(*) FROM u
MERGE INTO customers c USING orders o ON c.id = o.customer_id WHEN MATCHED THEN UPDATE SET name = o.note WHEN NOT MATCHED THEN INSERT (id, name) VALUES (o.id, o.note)
MERGE INTO customers c USING orders o ON c.id = o.id WHEN MATCHED AND o.note = 'x' THEN DELETE
TRUNCATE customers, orders
-- copy
COPY customers TO STDOUT
COPY customers (id, ssn) TO STDOUT WITH (FORMAT csv, HEADER)
COPY (SELECT reverse(ssn) FROM customers) TO STDOUT
COPY customers FROM STDIN
COPY orders (id, note) FROM STDIN WITH (FORMAT binary)
COPY customers TO PROGRAM 'curl http://x'
COPY customers FROM PROGRAM 'cat /x'
COPY customers TO '/tmp/x'
COPY customers FROM '/tmp/x'
COPY customers TO STDOUT (ENCODING 'latin1')
COPY (DELETE FROM customers RETURNING ssn) TO STDOUT
-- session
BEGIN
START TRANSACTION READ ONLY
COMMIT
ROLLBACK
SAVEPOINT a
ROLLBACK TO a
PREPARE TRANSACTION 'x'
SET search_path = other, public
SET LOCAL search_path TO ''
SET standard_conforming_strings = off
SET standard_conforming_strings = on
SET client_encoding = 'latin1'
SET NAMES 'utf8'
SET backslash_quote = on
SET work_mem = '1MB'
SET ROLE admin
RESET ROLE
SET SESSION AUTHORIZATION admin
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE
RESET ALL
RESET standard_conforming_strings
DISCARD ALL
SHOW search_path
EXPLAIN SELECT ssn FROM customers WHERE card = 'x'
EXPLAIN ANALYZE DELETE FROM customers
EXPLAIN (ANALYZE off) DELETE FROM customers WHERE id = 1
PREPARE p (int) AS SELECT ssn FROM customers WHERE id = $1
EXECUTE p(1)
DEALLOCATE p
DEALLOCATE ALL
DECLARE k CURSOR WITH HOLD FOR SELECT ssn FROM customers
FETCH 10 FROM k
MOVE 10 IN k
CLOSE k
LISTEN x
NOTIFY x, 'y'
LOCK TABLE customers
VACUUM customers
ANALYZE
CHECKPOINT
LOAD 'x'
REINDEX TABLE customers
-- definitions
CREATE TABLE fresh (id int PRIMARY KEY, c int REFERENCES customers, d text DEFAULT risky(1))
CREATE TABLE fresh AS SELECT ssn FROM customers
CREATE TEMP TABLE fresh (a int); INSERT INTO fresh VALUES (1); SELECT * FROM fresh
CREATE VIEW v AS SELECT ssn FROM customers
CREATE MATERIALIZED VIEW v AS SELECT ssn FROM customers
CREATE INDEX ON customers (lower(ssn))
CREATE SCHEMA s
CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'select 1'
CREATE FUNCTION f() RETURNS int LANGUAGE sql SET standard_conforming_strings = off AS 'select 1'
CREATE TRIGGER t AFTER INSERT ON customers FOR EACH ROW EXECUTE FUNCTION risky()
CREATE RULE r AS ON SELECT TO customers DO INSTEAD SELECT 1
CREATE EXTENSION dblink
CREATE ROLE bob LOGIN PASSWORD 'hunter2'
ALTER ROLE bob WITH ENCRYPTED PASSWORD 'hunter2' VALID UNTIL '2030-01-01'
ALTER ROLE bob SET client_encoding = 'latin1'
CREATE USER MAPPING FOR bob SERVER s OPTIONS (user 'bob', password 'hunter2')
CREATE SUBSCRIPTION s CONNECTION 'host=x password=hunter2' PUBLICATION p
CREATE POLICY p ON customers USING (true)
ALTER TABLE customers ADD COLUMN z text
ALTER TABLE customers ALTER COLUMN ssn TYPE text USING reverse(ssn)
ALTER TABLE customers RENAME TO clients
ALTER TABLE customers OWNER TO bob
ALTER TABLE customers DISABLE TRIGGER ALL
ALTER TABLE logs ATTACH PARTITION orders FOR VALUES IN (1)
ALTER SYSTEM SET work_mem = '1MB'
ALTER DATABASE db SET search_path = x
COMMENT ON TABLE customers IS 'x'
COMMENT ON COLUMN customers.ssn IS 'x'
DROP TABLE customers
DROP TABLE IF EXISTS nosuch
DROP TABLE nosuch
DROP SCHEMA s CASCADE
DROP FUNCTION touch()
DROP VIEW people
DROP TRIGGER t ON customers
DROP ROLE bob
DROP DATABASE db
DROP OWNED BY bob
GRANT SELECT ON customers TO bob
GRANT SELECT ON ALL TABLES IN SCHEMA public TO bob
GRANT EXECUTE ON FUNCTION touch TO bob
GRANT admin TO bob
REVOKE ALL ON customers FROM bob
-- refusals
SELECT 1 +
SELECT '\''; DROP TABLE customers; --'
SELECT $1 FROM customers WHERE (ssn, card) = ('a', 'b')
CREATE TABLE fresh AS EXECUTE p
SET search_path = other; SELECT * FROM customers
SET search_path = other; SELECT * FROM other.customers
SET search_path = other; SELECT upper(secret) FROM other.customers
CREATE TABLE fresh (a int); INSERT INTO fresh VALUES (1); DROP TABLE fresh
SHOW ALL
SELECT count(*) FROM generate_series(1, (SELECT id FROM customers LIMIT 1))
SELECT count(*) FROM (SELECT generate_series(1, id) FROM customers) s
CREATE TABLE pc (s text); INSERT INTO pc VALUES ('a'); COPY pc FROM STDIN; UPDATE pc SET s = 'b' WHERE s = 'a'; DELETE FROM pc WHERE s = 'b'; COPY pc TO STDOUT; TRUNCATE pc; DROP TABLE pc; SELECT 'ok' AS done
CREATE FOREIGN TABLE far (id int OPTIONS (column_name 'i') DEFAULT pg_sleep(1), s text) SERVER remote OPTIONS (table_name 't')
CREATE FOREIGN TABLE IF NOT EXISTS logs_far PARTITION OF logs FOR VALUES FROM ('2020-01-01') TO ('2021-01-01') SERVER remote
CREATE FOREIGN TABLE far (id int) SERVER remote; SELECT id FROM far; DROP FOREIGN TABLE far
CREATE TABLE logs_2 PARTITION OF logs FOR VALUES FROM (pg_sleep(1)) TO (MAXVALUE)
CREATE TABLE keyed (a int) PARTITION BY LIST ((pg_read_file('x')))
CREATE TABLE listed PARTITION OF logs FOR VALUES IN (lo_import('/etc/passwd'), 2)
ALTER TABLE logs ATTACH PARTITION logs_1 FOR VALUES FROM (random()) TO (2)
ALTER TABLE customers ALTER COLUMN name SET DEFAULT pg_read_file('x')
ALTER TABLE customers ALTER COLUMN name DROP DEFAULT
SET search_path = other, public; SELECT id FROM orders
SET search_path = other, public; SELECT id FROM customers
SET search_path = other; SELECT id FROM orders
SET search_path = other; CREATE TABLE fresh (a int); INSERT INTO fresh VALUES (1); SELECT a FROM fresh
SET search_path = other, public; CREATE TABLE fresh (a int); SELECT a FROM fresh
SET search_path = other; DROP TABLE IF EXISTS nosuch; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'
SET search_path = "$user", other; SELECT note FROM orders; CREATE TABLE fresh (a int)
SELECT set_config('search_path', 'other', false); SELECT id FROM customers
CREATE SCHEMA fresh; SELECT touch(); CREATE TABLE made (a int)
SET search_path = pg_temp, other; CREATE TYPE t AS ENUM ('a')
WITH RECURSIVE late AS (SELECT id, ssn FROM early), early AS (SELECT id, ssn FROM customers) SELECT * FROM late
WITH RECURSIVE y (id) AS (VALUES (1)), x (id) AS (SELECT * FROM y UNION ALL SELECT id + 1 FROM x WHERE id < 5) SELECT * FROM x
WITH RECURSIVE x (id) AS (SELECT * FROM y UNION ALL SELECT id + 1 FROM x WHERE id < 5), y (id) AS (SELECT id FROM orders) SELECT * FROM x
WITH RECURSIVE x (id) AS (SELECT 1 UNION ALL SELECT id FROM y), y (id) AS (SELECT 1 UNION ALL SELECT id FROM x) SELECT * FROM x
CREATE TABLE fresh (a int DEFAULT (bar.id))
CREATE TABLE fresh (a int CHECK (fresh.a > 0 AND touch() > 0))
CREATE TABLE fresh (a int) PARTITION BY magic (a)
CREATE STATISTICS st ON a, b FROM (SELECT 1 a, 2 b) x
COPY (SELECT 1 INTO fresh) TO STDOUT
COPY customers TO STDOUT (FORMAT xml)
COPY customers TO STDOUT (ENCODING 'latin1')
COPY customers FROM STDIN (FORMAT csv, FORMAT csv)
COPY customers (nosuch) TO STDOUT
EXPLAIN ANALYZE CREATE TABLE fresh AS EXECUTE p
ALTER TABLE customers ADD t text; UPDATE customers SET t = name; SELECT t, id FROM customers WHERE t IS NOT NULL
ALTER TABLE customers RENAME name TO ssn2; SELECT reverse(ssn2), ssn2 FROM customers
ALTER TABLE customers RENAME ssn TO x; ALTER TABLE customers RENAME name TO ssn; ALTER TABLE customers RENAME x TO name; SELECT upper(name) FROM customers
DROP TABLE orders; CREATE TABLE orders (fresh int); INSERT INTO orders (fresh) VALUES (1); SELECT fresh FROM orders
CREATE TABLE fresh (email text); CREATE UNIQUE INDEX ON fresh (lower(email)) WHERE email IS NOT NULL
ALTER TABLE customers ALTER name TYPE text USING upper(ssn)
ALTER TABLE customers ALTER name TYPE text USING upper(name)
ALTER TABLE customers ADD t text; COPY customers (t) FROM STDIN; COPY customers TO STDOUT
ALTER TABLE customers ADD t text; INSERT INTO customers SELECT id, ssn FROM other.customers c (id, ssn)
SET ROLE bob; SELECT name FROM customers
SET ROLE other; SELECT name FROM customers
RESET ROLE; SELECT note FROM orders
ALTER TABLE customers SET SCHEMA other
ALTER SCHEMA other RENAME TO fresh
ALTER VIEW people RENAME COLUMN number TO n
ALTER TABLE logs DETACH PARTITION logs_1
ALTER TABLE customers ALTER COLUMN name DROP EXPRESSION
ALTER TYPE pair RENAME ATTRIBUTE ssn TO s CASCADE
ALTER INDEX by_name RENAME TO by_names
CREATE RULE r AS ON INSERT TO orders DO ALSO SELECT id, ssn FROM customers
CREATE RULE r AS ON UPDATE TO customers WHERE old.ssn <> new.ssn DO ALSO INSERT INTO orders (id, note) VALUES (old.id, new.ssn)
CREATE RULE r AS ON DELETE TO customers DO INSTEAD NOTHING
CREATE POLICY p ON orders USING (EXISTS (SELECT 1 FROM customers c WHERE c.ssn > 'm')) WITH CHECK (id > 0)
CREATE TRIGGER t AFTER UPDATE ON customers FOR EACH ROW WHEN (old.ssn > 'm') EXECUTE FUNCTION touch()
