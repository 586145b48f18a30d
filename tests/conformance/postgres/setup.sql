-- The tables of the corpus; every run starts on a fresh copy of this database.
create table person (id int primary key, name text not null, born date, pay numeric(10,2), tags text[], extra jsonb);
insert into person values
  (1, 'Ada', '1815-12-10', 1000.50, '{math,poetry}', '{"a": 1, "b": [1, 2]}'),
  (2, 'Grace', '1906-12-09', 2000.00, '{navy}', '{"a": 2}'),
  (3, 'Linus', '1969-12-28', null, '{}', null),
  (4, 'Margaret', '1936-08-17', 1500.25, null, '{"b": {"c": "deep"}}'),
  (5, 'Ken', '1943-02-04', 1500.25, '{unix,go}', '[]');
create table task (id serial primary key, person_id int references person, title text, done bool default false, at timestamp default '2020-01-01 00:00:00');
insert into task (person_id, title, done) values (1, 'write notes', true), (1, 'engine', false), (2, 'compiler', true), (4, 'landing', true), (5, 'grep', true);
create view busy as select p.id, p.name, count(t.id) as tasks from person p left join task t on t.person_id = p.id group by p.id, p.name;
create materialized view pay_total as select sum(pay) as total from person;
create table measure (day date not null, place int, value float8) partition by range (day);
create table measure_2020 partition of measure for values from ('2020-01-01') to ('2021-01-01');
create table measure_2021 partition of measure for values from ('2021-01-01') to ('2022-01-01');
insert into measure select date '2020-06-01' + n * 30, n % 3, n * 1.5 from generate_series(0, 12) n;
create table animal (name text, legs int);
create table dog (breed text) inherits (animal);
insert into animal values ('ant', 6);
insert into dog values ('rex', 4, 'collie');
create type mood as enum ('sad', 'ok', 'happy');
create type point3 as (x int, y int, z int);
create domain positive as int check (value > 0);
create table mixed (id int, m mood, p point3, d positive, r int4range, arr int[], j json, b bytea, u uuid);
insert into mixed values (1, 'ok', '(1,2,3)', 5, '[1,10)', '{1,2,3}', '{"x":1}', '\xdeadbeef', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'),
  (2, null, null, null, null, null, null, null, null);
create function plus_one(i int) returns int language sql immutable as 'select i + 1';
create function shout(t text) returns text language plpgsql as $$ begin raise notice 'shouting %', t; return upper(t); end $$;
create function people() returns setof person language sql stable as 'select * from person order by id';
create function pair(out a int, out b text) language sql as $$ select 1, 'two' $$;
create procedure rename(i int, n text) language sql as 'update person set name = n where id = i';
create sequence counter;
create table "Odd Name" ("select" int, "Mixed Case" text, "ümlaut" text);
insert into "Odd Name" values (1, 'x', 'ü');
create table wide (id int, t text);
insert into wide select n, repeat(chr(97 + n % 26), n * 10) from generate_series(1, 60) n;
create schema other;
create table other.person (id int, note text);
insert into other.person values (9, 'elsewhere');
create table audit (what text);
create function note_change() returns trigger language plpgsql as $$ begin insert into audit values (tg_op || ' ' || tg_table_name); return coalesce(new, old); end $$;
create trigger watch after insert or update or delete on task for each row execute function note_change();
create rule hide as on delete to "Odd Name" do instead nothing;
analyze;
