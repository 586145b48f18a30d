begin

insert into audit values ('t1')

select what from audit order by 1

rollback

select what from audit where what = 't1'

begin work; insert into audit values ('t2'); commit work

select what from audit where what = 't2'

start transaction isolation level repeatable read, read write

show transaction_isolation

select count(*) from person

commit and chain

show transaction_isolation

rollback and no chain

begin isolation level serializable read only deferrable

show transaction_read_only

end

begin

set transaction isolation level repeatable read

select current_setting('transaction_isolation')

commit

begin; set transaction read only; select 1; commit

set session characteristics as transaction isolation level read committed

begin

savepoint a

insert into audit values ('sa')

savepoint b

insert into audit values ('sb')

rollback to b

release savepoint b

select what from audit where what in ('sa', 'sb')

rollback to savepoint a

release a

insert into audit values ('after')

commit

select what from audit order by what

abort

commit

begin; select 1; rollback; begin; select 2; commit

select 1; begin; select 2

select 3

commit

insert into audit values ('m1'); insert into audit values ('m2'); select what from audit where what like 'm%' order by 1

insert into audit values ('x1'); commit; insert into audit values ('x2'); rollback

select what from audit where what like 'x%' order by 1

begin

create table in_tx (id int, v text)

insert into in_tx values (1, 'one'), (2, 'two')

select * from in_tx order by id

select i.v, p.name from in_tx i join person p using (id) order by id

alter table in_tx add column more int default 5

select more from in_tx

--! alone:
select * from in_tx order by id

create view in_tx_view as select id, more from in_tx

select * from in_tx_view order by id

create index on in_tx (id)

drop view in_tx_view

update in_tx set v = upper(v) where id = 1 returning *

commit

select * from in_tx order by id

begin

drop table in_tx

select * from in_tx

rollback

select count(*) from in_tx

begin

alter table in_tx rename to renamed

select count(*) from renamed

alter table renamed rename column v to w

select w from renamed order by id

--! alone:
rollback

select v from in_tx order by id

begin; create table twice (a int); insert into twice values (1), (2); select * from twice order by a; commit

select sum(a) from twice

begin

create schema fresh

create table fresh.t (a int)

insert into fresh.t values (1) returning a

set local search_path = fresh

select * from t

create function f() returns int language sql as 'select 42'

select f()

rollback

select * from t

create temp table tmp (id int, v text)

insert into tmp values (1, 'x'), (2, 'y')

select * from tmp order by id

select t.v, p.name from tmp t join person p using (id) order by id

update tmp set v = 'z' where id = 1 returning *

create index on tmp (id)

select * from pg_temp.tmp order by id

--! differs: unknown-name-inside in batched
--! alone:
create temporary view tmp_view as select v from tmp

select * from tmp_view order by 1

create temp table person (id int, only_here text)

insert into person values (7, 'hidden')

select * from person

select * from public.person order by id limit 1

drop table pg_temp.person

select name from person where id = 2

create temp sequence tmp_seq

select nextval('tmp_seq')

begin

create temp table gone (a int) on commit drop

insert into gone values (1)

select * from gone

commit

select * from gone

create temp table emptied (a int) on commit delete rows

begin; insert into emptied values (1); select * from emptied; commit

select * from emptied

create temp table ctas as select id, name from person where id < 3

select * from ctas order by id

select id into temp into_tmp from person where id < 3

select * from into_tmp order by id

drop table tmp cascade

select * from tmp

discard temp

select * from ctas

create local temp table once (a int); insert into once values (1); select * from once

create temp table dup (a int)

create temp table if not exists dup (a int)

select count(*) from dup

discard all

select * from dup

begin

declare c cursor for select id, name from person order by id

fetch c

fetch 2 from c

--! differs: unknown-object in batched
fetch all in c

fetch backward 1 from c

move absolute 1 in c

--! differs: unknown-object in batched
fetch next from c

fetch prior from c

fetch first from c

--! differs: unknown-object in batched
fetch last from c

fetch relative -2 from c

move forward all in c

close c

declare s scroll cursor with hold for select name from person order by id

fetch 2 s

commit

--! differs: unknown-object in named batched
fetch 1 from s

--! differs: unknown-object in named
fetch backward 2 from s

close s

declare nohold cursor for select 1

begin; declare b binary cursor for select id, name from person order by id; fetch 2 from b; close b; commit

begin

declare u cursor for select * from person where id = 2 for update

--! alone:
fetch u

update person set pay = 77 where current of u returning pay

close all

rollback

declare h1 cursor with hold for values (1), (2), (3)

fetch all from h1

close all

prepare q as select id, name from person where id = $1

execute q(1)

execute q(2)

prepare q2 (int, text) as select $1 + 1, $2 || '!'

execute q2(1, 'x')

execute q2('abc', 'x')

execute q2(1)

prepare ins as insert into audit values ($1) returning what

--! differs: unknown-object in batched
--! alone:
execute ins('prepared')

explain (costs off) execute q(1)

create table from_q as execute q(3)

select * from from_q

deallocate q

--! name: unknown-object
execute q(1)

deallocate prepare q2

deallocate all

prepare q as select 1

prepare q as select 2

execute q

discard plans

execute q

deallocate q

prepare transaction 'two'

listen chan

notify chan, 'payload'

notify chan

select pg_notify('chan', 'from function')

begin; notify chan, 'a'; notify chan, 'a'; notify chan, 'b'; commit

select pg_listening_channels()

unlisten chan

notify chan, 'unheard'

listen "Odd Chan"; unlisten *

set constraints all deferred

begin; set constraints all immediate; commit

select pg_advisory_lock(1), pg_try_advisory_lock(2), pg_advisory_unlock(1), pg_advisory_unlock_all()

select pg_advisory_unlock(77)

begin; select pg_advisory_xact_lock(3); commit

select txid_current() > 0, pg_current_xact_id_if_assigned() is null
