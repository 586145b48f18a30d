create table t1 (id int primary key, a text default 'x' not null, b numeric(8,2) check (b > 0), c timestamptz default '2020-01-01 00:00+00', unique (a, b))

insert into t1 (id, b) values (1, 2) returning id, a, b

create table t2 (like t1 including all)

create table t3 (id serial, t1_id int references t1 on delete cascade on update set null deferrable initially deferred)

create unlogged table t4 (a int) with (fillfactor = 70)

create table if not exists t1 (id int)

alter table t1 add column d int

alter table t1 add column if not exists d int

alter table t1 alter column d set default 5, alter column d set not null

alter table t1 alter column a type varchar(20)

alter table t1 rename column d to e

select id, a, b, e from t1

alter table t1 drop column e

alter table t1 add constraint big check (id < 1000)

insert into t1 values (5000, 'x', 1)

alter table t1 drop constraint big

alter table t1 add constraint t1_a unique (a)

alter table t1 disable trigger all, enable trigger all

alter table t1 set (fillfactor = 90)

alter table t1 set schema other

select count(*) from other.t1

select count(*) from t1

alter table other.t1 set schema public

alter table t1 rename to t1r

alter table t1r rename to t1

alter table t1 replica identity full

alter table t1 enable row level security

create policy p on t1 for select using (id > 0) with check (id > 0)

create policy p on t1 for select using (true)

alter policy p on t1 using (id > 1)

drop policy p on t1

alter table t1 disable row level security

create index i1 on t1 (a)

--! differs: unknown-name-inside in limited batched
--! alone:
create unique index concurrently i2 on t1 (lower(a))

create index if not exists i1 on t1 (a)

--! differs: unknown-name-inside in limited batched
create index i3 on t1 using hash (a) where id > 5

create index i4 on t1 (id desc nulls last) include (b)

alter index i1 rename to i1r

drop index i1r, i3

--! alone:
drop index concurrently if exists i2

--! differs: unknown-name-inside in limited batched
--! alone:
create view v1 as select id, a from t1

--! differs: unknown-name-inside in limited batched
create or replace view v1 as select id, a, b from t1

select * from v1

insert into v1 (id, a, b) values (3, 'through view', 4)

update v1 set a = 'changed' where id = 3 returning *

--! differs: unknown-name-inside in limited batched
--! alone:
create view v2 with (security_barrier) as select * from v1 where id > 1 with local check option

insert into v2 values (0, 'low', 1)

alter view v1 rename column a to aa

select aa from v1 order by id

create recursive view v3 (n) as values (1) union all select n + 1 from v3 where n < 3

select * from v3

create temp view v4 as select 1

drop view v2

drop view v1, v3 cascade

create materialized view m1 as select count(*) as n from t1

select * from m1

refresh materialized view m1

create unique index on m1 (n)

refresh materialized view concurrently m1

drop materialized view m1

create function f(a int, b int default 2) returns int language sql as 'select a + b'

select f(1), f(1, 5), f(b => 7, a => 1)

create or replace function f(a int, b int default 2) returns int language sql as 'select a * b'

select f(3)

create function f(t text) returns text language sql strict as 'select upper(t)'

select f('abc'), f(null::text)

create function tab(n int) returns table (a int, b text) language plpgsql as $$ begin return query select i, 'r' || i from generate_series(1, n) i; end $$

select * from tab(3)

select a from tab(2) t

create function vari(variadic xs int[]) returns int language sql as 'select sum(x)::int from unnest(xs) x'

select vari(1, 2, 3), vari(variadic array[4, 5])

create function poly(x anyelement) returns anyarray language sql as 'select array[x, x]'

select poly(1), poly('t'::text)

create function raises() returns void language plpgsql as $$ begin raise exception 'from %', 'function' using errcode = '22012'; end $$

select raises()

create function nested() returns void language plpgsql as $$ begin perform raises(); end $$

select nested()

create function catches() returns text language plpgsql as $$ begin perform raises(); return 'no'; exception when division_by_zero then return 'caught'; end $$

select catches()

create function rec() returns record language sql as 'select 1, 2'

select * from rec() as r(a int, b int)

select rec()

select * from rec()

create function atomic() returns int begin atomic select 5; end

select atomic()

alter function f(int, int) rename to g

select g(2)

alter function g(int, int) immutable security definer set search_path = public

select g(2)

drop function g(int, int), f(text), tab, vari, poly, raises cascade

create aggregate concat_all (text) (sfunc = textcat, stype = text, initcond = '')

select concat_all(name order by id) from person

drop aggregate concat_all (text)

create operator @@@ (leftarg = int, rightarg = int, function = int4mul)

select 3 @@@ 4, 3 operator(public.@@@) 5

drop operator @@@ (int, int)

create type colour as enum ('red', 'green')

alter type colour add value 'blue' after 'red'

alter type colour rename value 'red' to 'crimson'

--! oids:
select enum_range(null::colour), 'blue'::colour < 'green'::colour

create table painted (c colour, cs colour[])

--! oids:
insert into painted values ('crimson', '{blue,green}') returning *

create type pairt as (a int, b text)

select (1, 'x')::pairt, ((1, 'x')::pairt).b, row(1, 'y')::pairt = (1, 'y')::pairt

create table pairs (p pairt, ps pairt[])

--! oids:
insert into pairs values ((1, 'x'), array[(2, 'y')::pairt]) returning p, ps, (p).a, ps[1].b

alter type pairt add attribute c int cascade

--! oids:
select * from pairs

create domain zip as text check (value ~ '^\d{5}$')

select '12345'::zip, 'abc'::zip

select '12345'::zip

create table zips (z zip)

insert into zips values ('1')

alter domain zip drop constraint zip_check

insert into zips values ('1') returning *

create type frange as range (subtype = float8)

select '[1.5,2.5)'::frange, frange(1, 2) && frange(1.5, 3), '{[1,2),[3,4)}'::fmultirange

drop type frange, pairt cascade

drop domain zip cascade

create schema s1 create table s1t (a int) create view s1v as select a from s1t

select * from s1.s1v

alter schema s1 rename to s1r

drop schema s1r cascade

create schema if not exists other

create trigger tr before insert on t1 for each row execute function note_change()

create or replace trigger tr after update on t1 for each statement execute function note_change()

alter trigger tr on t1 rename to tr2

alter table t1 disable trigger tr2

drop trigger tr2 on t1

create function stmt() returns event_trigger language plpgsql as $$ begin raise notice 'event %', tg_tag; end $$

create event trigger et on ddl_command_start execute function stmt()

create table observed (a int)

drop event trigger et

drop table observed

create rule ins as on insert to t4 do also insert into audit values ('rule')

insert into t4 values (1)

select count(*) from audit where what = 'rule'

drop rule ins on t4

create statistics st on id, a from t1

drop statistics st

create table list_p (k text, v int) partition by list (k)

create table list_a partition of list_p for values in ('a', 'b')

create table list_d partition of list_p default

--! oids:
insert into list_p values ('a', 1), ('z', 2) returning tableoid::regclass

alter table list_p detach partition list_a

select * from list_p

alter table list_p attach partition list_a for values in ('a', 'b')

select * from list_p order by k

create table hash_p (k int) partition by hash (k)

create table hash_0 partition of hash_p for values with (modulus 2, remainder 0)

insert into hash_p select generate_series(1, 4)

truncate list_p

drop table list_p, hash_p

create role corpus_r1 nologin

create role corpus_r2 in role corpus_r1

alter role corpus_r1 connection limit 5

grant select, insert on t1 to corpus_r1 with grant option

grant all on all tables in schema other to corpus_r1

grant execute on function plus_one(int) to corpus_r1

grant corpus_r1 to corpus_r2

revoke all on t1 from corpus_r1

revoke all on all tables in schema other from corpus_r1

revoke execute on function plus_one(int) from corpus_r1

alter default privileges in schema public grant select on tables to corpus_r1

alter default privileges in schema public revoke select on tables from corpus_r1

drop owned by corpus_r1

drop role corpus_r2, corpus_r1

create extension if not exists pgcrypto

select encode(digest('abc', 'sha256'), 'hex')

create extension pgcrypto

drop extension pgcrypto

create collation german (provider = libc, locale = 'C')

select 'a' < 'B' collate "C", 'a' < 'b' collate german

drop collation german

create text search configuration ts (copy = simple)

drop text search configuration ts

create publication pub for table t1

drop publication pub

create server fs foreign data wrapper nosuch

create foreign data wrapper fdw

create server fs foreign data wrapper fdw

create foreign table ft (a int) server fs

select * from ft

drop foreign data wrapper fdw cascade

create cast (mood as int) with inout

select 'x'::mood::int

drop cast (mood as int)

create tablespace nosuch location '/nosuch'

create database nested template template0; select 1

security label on table t1 is 'x'

alter database nosuch rename to other

import foreign schema x from server nosuch into public

create access method am type index handler nosuch

create transform for int language sql (from sql with function nosuch(internal))

create conversion myconv for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8

drop conversion myconv

create operator class oc for type int using btree as operator 1 <

drop operator class oc using btree

create operator family ofam using btree

drop operator family ofam using btree

create or replace procedure pr(a int) language plpgsql as $$ begin raise notice 'pr %', a; end $$

call pr(5)

drop procedure pr

drop table t1, t2, t3, t4 cascade

drop table if exists t1, t2

drop type mood cascade

select * from mixed order by id
