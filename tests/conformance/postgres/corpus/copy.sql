copy person to stdout

copy person (id, name) to stdout

copy (select id, name from person order by id) to stdout

copy (select id, name from person order by id) to stdout (format csv)

copy (select id, name, pay from person order by id) to stdout with (format csv, header, delimiter ';', null '-', quote '''', force_quote (name))

copy (select * from person order by id) to stdout with (format csv, force_quote *)

copy (select id, name from person order by id) to stdout (format binary)

copy mixed to stdout binary

copy person to stdout csv header

copy person to stdout with delimiter '|' null 'N'

copy (values (1, null), (2, E'tab\there'), (3, E'new\nline'), (4, 'back\slash'), (5, '\.')) to stdout

copy (values (1, null), (2, ''), (3, 'a,b'), (4, 'q"q'), (5, E'new\nline')) to stdout csv

copy (select 1 where false) to stdout

copy (select 1 where false) to stdout (format csv, header)

copy (select 1 where false) to stdout (format binary)

copy (select n, repeat('z', 100) from generate_series(1, 2000) n) to stdout

copy (select repeat('z', 200000)) to stdout

copy (insert into audit values ('by copy') returning what) to stdout

copy (update person set pay = pay where id = 1 returning id) to stdout

copy (with x as (select 1) select * from x) to stdout

copy (select shout('in copy')) to stdout

copy measure to stdout

copy (select * from measure order by day) to stdout

copy busy to stdout

copy pay_total to stdout

copy (select * from busy order by id) to stdout

copy animal to stdout

copy other.person to stdout

copy "Odd Name" ("Mixed Case") to stdout

copy (select 1/0) to stdout

copy (select 1 / (3 - n) from generate_series(1, 5) n) to stdout

create table loaded (id int, t text, n numeric, d date)

--! copy: 1\tone\t1.5\t2020-01-01\n2\t\\N\t\\N\t\\N\n3\ttab\\there\t3\t2020-03-03\n
copy loaded from stdin

--! copy: 4,four,4.4,2020-04-04\n5,"quoted, comma",5,\n6,"q""q",,\n
copy loaded from stdin csv

--! copy: id;t;n;d\n7;seven;7;2020-07-07\n
copy loaded from stdin with (format csv, header, delimiter ';')

--! copy: id,t\n8,eight\n
copy loaded (id, t) from stdin (format csv, header match)

--! copy: id,x\n8,eight\n
copy loaded (id, t) from stdin (format csv, header match)

--! copy: 9|nine\n
copy loaded (t, id) from stdin delimiter '|'

--! copy: nine|9\n
copy loaded (t, id) from stdin delimiter '|'

--! copy: 10\tten\n11\televen\n
copy loaded (id, t) from stdin where id > 10

--! copy: 12\ttwelve\n\\.\nignored after the end\n
copy loaded (id, t) from stdin

--! copy: 13,,-,\n
copy loaded from stdin (format csv, null '-', force_not_null (t))

--! copy: 13,NULL,"1",\n
copy loaded from stdin (format csv, null 'NULL')

--! copyhex: 5047434f50590aff0d0a000000000000000000000200000004000000150000000574776e7479ffff
copy loaded (id, t) from stdin (format binary)

--! copyhex: 5047434f50590aff0d0a0000
copy loaded (id, t) from stdin (format binary)

--! copy:
copy loaded from stdin

--! copy: x\ty\n
copy loaded (id, t) from stdin

--! copy: 20\ttwenty\nbad line without tabs\n
copy loaded from stdin

--! copy: 30\tthirty\n
--! simple:
copy loaded (id, t) from stdin (freeze)

--! copy: 2020-02-02\t1\t5\n2021-02-02\t2\t6\n
copy measure from stdin

--! copy: 2031-02-02\t1\t5\n
copy measure from stdin

--! copy: 77\tby trigger\n
copy task (id, title) from stdin

--! copy: 1\n2\n
--! simple:
copy busy from stdin

select * from loaded order by id

select what from audit order by what

begin

--! copy: 40\tforty\n
copy loaded (id, t) from stdin

select t from loaded where id = 40

rollback

select t from loaded where id = 40

--! copy: 41\tone\n
copy loaded (id, t) from stdin; select count(*) from loaded where id = 41

create temp table tmp_loaded (a int, b text)

--! copy: 1\tx\n2\ty\n
copy tmp_loaded from stdin

copy tmp_loaded to stdout

begin; create table made_here (a int)

--! copy: 5\n6\n
copy made_here from stdin

--! name: copy-unknown
copy made_here to stdout

commit

begin; create table made_too (a int); copy made_too to stdout; commit

copy loaded to '/tmp/weir-conformance-copy.txt'

copy loaded from '/tmp/weir-conformance-copy.txt'

copy loaded to program 'cat > /dev/null'

copy loaded (t) from program 'echo by program'

select count(*) from loaded

select lo_creat(-1) > 0

select lo_create(91234)

begin; select lo_open(91234, 131072 | 262144); select lowrite(0, '\x616263'); select lo_lseek(0, 0, 0); select loread(0, 10); select lo_tell(0); select lo_truncate(0, 1); select lo_close(0); commit

select lo_get(91234), lo_put(91234, 1, '\x7a7a'), lo_get(91234)

select lo_from_bytea(91235, '\xdeadbeef')

select convert_from(lo_get(91234), 'UTF8')

select lo_unlink(91234), lo_unlink(91235)
