insert into person values (10, 'New', '2000-01-01', 1, '{x}', '{}')

insert into person (id, name) values (11, 'A'), (12, 'B')

insert into person (id, name) values (13, 'C') returning *

insert into person (id, name) values (14, 'D') returning id, upper(name) as up, id + 1

insert into person (id, name) select id + 100, name from person where id < 3 returning id

insert into person (id, name) values (10, 'clash') on conflict do nothing

insert into person (id, name) values (10, 'clash') on conflict (id) do update set name = excluded.name || '!' returning name

insert into person as p (id, name) values (10, 'again') on conflict (id) do update set name = excluded.name where p.id > 100

insert into task (title) values ('t1') returning id, title, done, at

insert into task default values returning *

insert into task (id, title) overriding system value values (500, 'x') returning id

--! oids:
insert into measure values ('2021-05-05', 1, 2.5) returning tableoid::regclass, *

insert into mixed values (3, 'happy', row(4, 5, 6), 7, '(1,5]', array[9], '[]', 'abc', null) returning *

insert into "Odd Name" values (2, 'y', 'z') returning "select", "Mixed Case"

update person set pay = pay * 2 where id = 1

update person set pay = coalesce(pay, 0) + 1, name = name || '.' where id in (2, 3) returning id, name, pay

update person p set name = t.title from task t where t.person_id = p.id and p.id = 5 returning p.id, p.name, t.id

update person set (name, pay) = ('Both', 5) where id = 11 returning name, pay

update person set (name, pay) = (select 'Sub', 6) where id = 11 returning name, pay

update person set tags[1] = 'first', extra = jsonb_set(coalesce(extra, '{}'), '{k}', '1') where id = 12 returning tags, extra

update person set extra['z'] = '5' where id = 12 returning extra

update mixed set p.x = 99 where id = 1 returning p

--! oids:
update measure set day = '2021-12-31' where day = '2020-06-01' returning tableoid::regclass, day

update only animal set legs = 8 where name = 'ant' returning *

update person set name = default where id = 999

update task set done = not done returning id, done

delete from task where id = 1 returning *

delete from task using person where person.id = task.person_id and person.name = 'Grace' returning task.id, person.name

delete from person where id > 100

delete from person where id = 424242

delete from "Odd Name"

select count(*) from "Odd Name"

select what, count(*) from audit group by what order by what

merge into person p using (values (11, 'M1'), (200, 'M2')) v(i, n) on p.id = v.i when matched then update set name = v.n when not matched then insert (id, name) values (v.i, v.n)

merge into person p using (values (200)) v(i) on p.id = v.i when matched then delete when not matched then do nothing

with moved as (delete from person where id = 14 returning *) select count(*), max(name) from moved

with ins as (insert into person (id, name) values (15, 'W') returning id), upd as (update person set pay = 9 where id = 13 returning id) select * from ins, upd

with t as (select 1 as x) insert into audit select 'cte ' || x from t returning what

truncate audit

truncate table audit restart identity cascade

select id, name, pay from person order by id

create table copy_of as select * from person where id < 3

select * from copy_of order by id

create table empty_copy as table person with no data

select count(*) from empty_copy

select id, name into picked from person where id < 4

select * from picked order by id

create table if not exists copy_of as select 1

insert into copy_of select * from person where id = 3 returning id

drop table copy_of, empty_copy, picked

select nextval('counter'), currval('counter'), lastval()

select setval('counter', 10), nextval('counter')

select setval('counter', 20, false), nextval('counter')

select * from counter

select last_value, is_called from counter

create sequence s2 as smallint increment by -1 minvalue -10 maxvalue 0 start -1 cache 2 cycle

select nextval('s2'), nextval('s2')

alter sequence s2 restart with -5

select nextval('s2')

alter sequence s2 owned by person.id

alter sequence s2 owned by none

drop sequence s2

create table gen (id int generated always as identity, a int, b int generated always as (a * 2) stored)

insert into gen (a) values (1), (2) returning *

insert into gen (id, a) values (1, 1)

insert into gen (id, a) overriding system value values (50, 5) returning *

update gen set a = 7 where id = 50 returning *

update gen set b = 1

alter table gen alter column id restart with 100

insert into gen (a) values (8) returning id

drop table gen

call rename(1, 'Called')

select name from person where id = 1

lock table person in share mode

begin; lock table person in access exclusive mode; lock task; commit

--! values: 300|Param
insert into person (id, name) values ($1, $2) returning *

--! values: 300|Changed
update person set name = $2 where id = $1 returning id, name

--! values: 300
delete from person where id = $1

--! values: 301|Long
with x as (insert into person (id, name) values ($1::int, repeat($2, 1000)) returning length(name)) select * from x
