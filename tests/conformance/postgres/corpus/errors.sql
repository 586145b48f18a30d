select 1/0

select 'abc'::int

select '2020-13-01'::date

select nosuch from person

select p.nosuch from person p

select nam from person

select * from nosuch

select * from nosuch.person

select * from persn

select nosuch()

select plus_one('a', 'b')

select upper(1, 2)

select 1 + 'a'

select 'a' + 'b'

select 1 where 'x'

select * from person where

selec 1

select * frm person

select 'unterminated

select "unterminated

select $$unterminated

/* unterminated

select (1

select 1)

select 1 1 1

insert into person values (1, 'dup')

insert into person (id) values (100)

insert into person values (101)

insert into person values ('x', 'y')

insert into person (nosuch) values (1)

insert into nosuch values (1)

insert into person (id, id) values (1, 2)

insert into person (id, name) values (1)

insert into person (id, name) values (1, 'a', 'b')

insert into task (person_id) values (999)

insert into mixed (d) values (-1)

insert into mixed (m) values ('angry')

insert into measure values ('1999-01-01', 1, 1)

update person set nosuch = 1

update nosuch set a = 1

update person set name = null where id = 1

update person set id = 1 where id = 2

update person set id = 'x'

delete from nosuch

delete from person where nosuch = 1

delete from person where id = 1

create table person (id int)

create table x1 (id nosuchtype)

create table x2 (id int, id text)

create table x3 (id int references nosuch)

drop table nosuch

drop table if exists nosuch

drop view person

drop function nosuch()

drop schema nosuch

drop type mood

alter table person drop column nosuch

alter table nosuch add column x int

alter table person add column name text

alter table person alter column name type int using 'x'::int

alter table person rename to task

create index on person (nosuch)

create unique index on task (done)

--! name: unknown-name-inside
create view v1 as select nosuch from person

create or replace view busy as select 1 as x

create function f1() returns int language sql as 'select nosuch'

create function f2() returns int language nosuch as ''

create schema other

create type mood as enum ('x')

create sequence counter

truncate nosuch

truncate person

lock table person

savepoint x

rollback to nosuch

release nosuch

--! name: unknown-object
fetch nosuch

close nosuch

--! name: unknown-object
move nosuch

--! name: unknown-object
execute nosuch

deallocate nosuch

select currval('counter')

select nextval('nosuch')

select setval('counter', -5)

select array[1, 'a']

select array[1, 2] || 'x'

select '{1,2'::int[]

select '[1,'::jsonb

select '{"a":}'::json

select 'zz'::bytea, '\xzz'::bytea

select '256.1.1.1'::inet

select 'not-a-uuid'::uuid

select '25:00'::time

select 99999999999::int

select 1::int / 0, 2 % 0

select 2147483647 + 1

select (-1)::numeric ^ 0.5

select ln(0)

select sqrt(-1)

select substring('abc' from 1 for -1)

select lpad('x', 2000000000)

select chr(0)

select to_date('xx', 'YYYY')

select to_char(1, 'nosuch'), to_number('x', '9')

select '2020-01-01'::timestamp at time zone 'Nowhere/Land'

select (select 1 union select 2)

select (select 1, 2)

select 1 from person group by id having name = 'x'

select name, count(*) from person

select sum(sum(id)) from person

select count(*) from person where count(*) > 1

select rank() from person

select sum(id) over (partition by nosuch) from person

select id from person union select 'x' || name from person

select id, name from person union select id from person

select 1 order by 2

select id from person order by nosuch

select id from person limit -1

select id from person limit 'x'

select * from person p join task t on p.nosuch = t.id

select * from person p join task p on true

select name from person, task where id = 1

select person.id from person p

select * from person natural join nosuch

with a as (select 1) select * from b

with recursive a as (select * from a) select * from a

with a as (insert into nosuch values (1) returning *) select * from a

select * from generate_series(1, 2) g(a, b)

values (1), (2, 3)

select $1

select $0

select 'x' collate "nosuch"

select 1 collate "C"

set nosuch_setting = 1

set work_mem = 'lots'

set timezone = 'Nowhere'

show nosuch_setting

set role nosuch

set session authorization nosuch

reset nosuch_setting

set datestyle = 'nosuch'

set default_transaction_isolation = 'nosuch'

grant select on nosuch to public

grant nosuch on person to public

revoke select on person from nosuch

create role pg_nosuch

drop role nosuch

alter role nosuch login

comment on table nosuch is 'x'

copy nosuch from stdin

--! name: copy-unknown
copy nosuch to stdout

--! name: copy-unknown
copy person (nosuch) to stdout

copy person to '/nosuch/dir/file'

copy person from '/nosuch/file'

copy person to stdout (format nosuch)

copy person to stdout (delimiter 'xx')

--! name: unknown-name-inside
copy (select nosuch) to stdout

copy (insert into person values (50, 'x')) to stdout

--! copy: 1\tx\n
copy person (id, name) from stdin

--! copy: abc\tx\n
copy person (id, name) from stdin

--! copy: 60\n
copy person (id, name) from stdin

--! copy: 60\tx\ty\n
copy person (id, name) from stdin

--! copy: 61,"x\n
copy person (id, name) from stdin (format csv)

do $$ begin raise exception 'own error' using errcode = 'P0042', detail = 'some detail', hint = 'some hint'; end $$

do $$ begin perform 1/0; end $$

do $$ begin perform nosuch(); end $$

do $$ syntax error $$

do language nosuch 'x'

call nosuch()

call rename(1)

select rename(1, 'x')

call plus_one(1)

--! name: unknown-name-inside
prepare p1 as select nosuch

prepare p2 (nosuch) as select 1

prepare p3 as create table x (a int)

explain select nosuch

explain nosuch

explain (nosuch) select 1

vacuum nosuch

analyze nosuch

reindex table nosuch

cluster nosuch

refresh materialized view nosuch

refresh materialized view person

listen

notify

discard nosuch

create extension nosuch

load 'nosuch'

create table partless partition of person for values in (1)

create table overlap partition of measure for values from ('2020-05-01') to ('2020-06-01')

create trigger t1 before insert on person execute function nosuch()

create rule r1 as on select to person do instead select 1

alter table person add constraint c1 check (nosuch > 0)

alter table person add check (id > 3)

alter table person add foreign key (id) references task (nosuch)

merge into person using task on person.id = task.id when matched then nosuch

merge into nosuch using task on true when matched then delete

create table as select 1

select into x from person

create cast (int as mood) with function nosuch(int)

create operator === (leftarg = int, rightarg = int, function = nosuch)

create aggregate a1 (int) (sfunc = nosuch, stype = int)

create domain d1 as nosuch

create collation c2 from "nosuch"

select person.*.x from person

select name.x from person

select (1).x

select current_setting('nosuch')

select set_config('nosuch', 'x', false)

select pg_cancel_backend(-1)

select lo_open(999999, 262144)

select lo_unlink(999999)

select pg_read_file('/nosuch')

--! name: unknown-name-behind
select 1; select nosuch; select 2

select 1; select 1/0; select 2

select 1; selec 2; select 3

insert into audit values ('kept?'); select 1/0

select count(*) from audit where what = 'kept?'

begin; insert into audit values ('inside'); select 1/0; insert into audit values ('never')

select 'still failed'

rollback

select count(*) from audit where what in ('inside', 'never')

begin

select 1/0

select 1

select * from person

select * from nosuch

selec 1

savepoint x

set work_mem = '5MB'

show work_mem

create table never (id int)

commit

begin

savepoint a

select 1/0

rollback to a

select 'alive again'

select nosuch from person

rollback to savepoint a

select 'alive once more'

release a

commit

begin; select 1; commit; select 1/0; select 2

begin isolation level serializable

set transaction isolation level read committed

rollback

start transaction read only

insert into person values (70, 'x')

rollback

begin read only; create table never2 (id int)

rollback

commit

rollback

begin

begin

commit
