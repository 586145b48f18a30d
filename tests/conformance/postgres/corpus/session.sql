show server_version_num

show search_path

set search_path = other, public

show search_path

select * from person

select * from public.person order by id limit 1

set search_path to public

select count(*) from person

set search_path = "$user", public

set search_path = ''

select * from person

select count(*) from public.person

reset search_path

select count(*) from person

begin; set local search_path = other; select * from person; commit

select count(*) from person

select set_config('search_path', 'other', false)

select * from person

select set_config('search_path', 'public', true)

reset all

set datestyle = 'German, DMY'

select date '2020-03-01', timestamp '2020-03-01 10:00'

set datestyle to iso, mdy

set intervalstyle = 'iso_8601'

select interval '1 year 2 days 3:04'

set intervalstyle = postgres

set timezone = 'Europe/Berlin'

select timestamptz '2020-07-01 12:00+00'

set time zone 'UTC'

set time zone interval '+02:00' hour to minute

set time zone local

set time zone default

reset timezone

set extra_float_digits = 0

select 0.1::float8 + 0.2::float8, 1.0::float4 / 3

reset extra_float_digits

set bytea_output = 'escape'

select '\x00ff41'::bytea

reset bytea_output

set application_name = 'corpus ünïcode'

show application_name

reset application_name

set client_min_messages = error

do $$ begin raise notice 'hidden'; end $$

set client_min_messages = debug1

do $$ begin raise debug 'shown'; end $$

reset client_min_messages

do $$ begin raise notice 'n'; raise warning 'w'; raise info 'i'; raise log 'l'; end $$

select shout('one'), shout('two')

set work_mem = '8MB'

show work_mem

set local work_mem = '1MB'

set session work_mem to default

set statement_timeout = '10s'

show statement_timeout

set statement_timeout = 20

select pg_sleep(5)

reset statement_timeout

begin; set local statement_timeout = 20; select pg_sleep(5)

rollback

set lock_timeout = '1s'; set idle_in_transaction_session_timeout = '1min'; set transaction_read_only = off

set default_transaction_read_only = on

insert into audit values ('no')

set default_transaction_read_only = off

insert into audit values ('yes')

set enable_seqscan = off

explain (costs off) select * from person where id = 1

reset enable_seqscan

set my.variable = 'custom'

show my.variable

select current_setting('my.variable'), current_setting('my.other', true)

select set_config('my.variable', 'again', false)

show time zone

show session authorization

show transaction isolation level

set names 'UTF8'

set client_encoding = 'UTF8'

set client_encoding to unicode

--! name: client-encoding
set client_encoding = 'LATIN1'

--! name: names-latin1
set names 'SQL_ASCII'

--! name: names-latin1
set names 'UTF8'

set standard_conforming_strings = on

--! name: conforming-off
set standard_conforming_strings = off

--! name: conforming-off-function
select set_config('standard_conforming_strings', 'off', false)

--! name: conforming-off
reset standard_conforming_strings

set escape_string_warning = on

--! name: backslash-quote
set backslash_quote = on

set xmloption = document

set xml option content

set seed = 0.5

select random() < 1

create role corpus_reader

grant select on person to corpus_reader

set role corpus_reader

select current_user, session_user = current_user

select count(*) from person

select count(*) from task

insert into person values (600, 'x')

create table public.nope (a int)

reset role

set role none

set session authorization corpus_reader

select current_user

select * from task

reset session authorization

begin; set local role corpus_reader; select current_user; commit

select current_user = session_user

revoke select on person from corpus_reader

drop role corpus_reader

comment on table person is 'people'

select obj_description('person'::regclass)

comment on table person is null

comment on column person.name is 'given'

checkpoint

vacuum person

vacuum (verbose off, analyze) person

analyze person, task

analyze person (name)

reindex table person

reindex (verbose) index person_pkey

cluster task using task_pkey

refresh materialized view pay_total

discard sequences

discard plans

discard temp

--! differs: conforming-off-behind in limited
discard all

select pg_backend_pid() > 0

select pg_stat_get_backend_idset() is not null limit 1

select version() like 'PostgreSQL%'

select inet_client_addr() is null or true

load 'plpgsql'

alter system set nosuch = 1

do $$ begin execute 'create table by_do (a int)'; end $$

select * from by_do

do $$ begin insert into by_do values (1), (2); perform count(*) from by_do; end $$

select * from by_do order by a

do $$ begin execute 'set search_path = other'; end $$

select * from person

reset search_path

do $$ declare r record; begin for r in select id from public.person order by id limit 2 loop raise notice 'row %', r.id; end loop; end $$

create function made_table() returns void language plpgsql as $$ begin create table by_function (a int); end $$

select made_table()

select * from by_function

create procedure commits() language plpgsql as $$ begin insert into audit values ('p1'); commit; insert into audit values ('p2'); rollback; end $$

call commits()

select what from audit where what like 'p_' order by 1

create procedure outs(inout a int, out b text) language plpgsql as $$ begin a := a + 1; b := 'out'; end $$

call outs(1, null)

drop procedure commits, outs

drop function made_table()
