CREATE TABLE customers (
    id int PRIMARY KEY, name text NOT NULL, dropped int, email text, ssn text, card text,
    born date, tags text[], extra jsonb
);
ALTER TABLE customers DROP COLUMN dropped;
CREATE TABLE orders (
    id int PRIMARY KEY, customer_id int REFERENCES customers, amount numeric, note text,
    at timestamptz DEFAULT now()
);
CREATE TABLE "Mixed Case" ("Id" int, "select" text);
CREATE TABLE keys (id int, name text);
CREATE TABLE measurements (id int, at date, value int) PARTITION BY RANGE (at);
CREATE TABLE measurements_2024 PARTITION OF measurements
    FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE parent (a int, b text);
CREATE TABLE child (c text) INHERITS (parent);
CREATE VIEW people AS SELECT id, name AS full_name, ssn, upper(email) AS mail FROM customers;
CREATE VIEW people_of_people AS SELECT p.full_name, p.ssn AS number FROM people p WHERE p.id > 3;
CREATE VIEW joined AS
    SELECT c.id, c.name, o.amount FROM customers c JOIN orders o ON o.customer_id = c.id;
CREATE MATERIALIZED VIEW stored AS SELECT id, card FROM customers;
CREATE SCHEMA other;
CREATE TABLE other.customers (id int, secret text);
CREATE TYPE pair AS (a int, b text);
CREATE TABLE typed (id int, p pair);
CREATE FUNCTION total_of(int) RETURNS numeric LANGUAGE sql STABLE
    AS 'SELECT sum(amount) FROM orders WHERE customer_id = $1';
CREATE SEQUENCE counter;
create type measured as (low float8, high float8);
create domain ordered as measured check ((value).low <= (value).high);
create function between_two(float8, float8) returns ordered language plpgsql as 'begin return row($1, $2); end';
create table measured_rows (low float8, last text);
create function lows() returns setof float8 language sql as 'select low from measured_rows';
create view over_function as select lows.lows from lows() lows;
create function two_of(float8, float8) returns ordered language sql as 'select row($1, $2)';
