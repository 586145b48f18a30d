select 1

select

select 1;

;

   

-- only a comment

/* only /* a nested */ comment */

/* before */ select 2 /* after */ -- end

select 1 as a, 2 as a, 3 as "A"

select null, null::int, null::text

select 'it''s', E'tab\tnew\nline', $$dollar 'quoted'$$, $x$nested $$ here$x$, U&'d\0061t\+000061', b'101', x'ff'

select U&"n\0061me" from person order by id

select "select", "Mixed Case", "ümlaut" from "Odd Name"

select * from person order by id

select name from person where id = 1

select p.* from person p order by p.id limit 2 offset 1

select p from person p order by id

select person from person order by id limit 1

select (p).name, (p).id from person p order by 1

select count(*), count(pay), sum(pay), avg(pay), min(born), max(born) from person

select tags, tags[1], cardinality(tags), array_length(tags, 1) from person order by id

select extra -> 'a', extra ->> 'a', extra #> '{b,c}', extra @> '{"a": 1}' from person order by id

select distinct pay from person order by pay nulls first

select distinct on (pay) pay, name from person order by pay, name

select pay, count(*) from person group by pay having count(*) > 1

select grouping(pay), pay, count(*) from person group by rollup (pay) order by 1, 2

select pay, born, count(*) from person group by cube (pay, born) order by 1, 2, 3 limit 5

select pay, count(*) from person group by grouping sets ((pay), ()) order by 1

select name, row_number() over (order by id), rank() over (order by pay), lag(name) over (order by id) from person order by id

select name, sum(pay) over w, first_value(name) over w from person window w as (partition by pay order by id rows between unbounded preceding and current row) order by id

select ntile(2) over (order by id), percent_rank() over (order by id), cume_dist() over (order by id) from person

select p.name, t.title from person p join task t on t.person_id = p.id order by p.id, t.id

select p.name, t.title from person p left join task t on t.person_id = p.id and t.done order by p.id, t.id

select name, title from person natural left join (select person_id as id, title from task) t order by 1, 2

select * from person full join other.person o using (id) order by id

select count(*) from person cross join task

select p.name, l.n from person p cross join lateral (select count(*) as n from task t where t.person_id = p.id) l order by p.id

select * from (values (1, 'one'), (2, 'two')) v(n, w)

values (1, 'a'), (2, 'b'), (3, null)

table person

table busy

select * from busy order by id

select * from pay_total

select 1 union select 2 union all select 2 order by 1

select id from person intersect select person_id from task order by 1

select id from person except select person_id from task order by 1

select exists (select 1 from task where done), (select max(id) from person), 3 in (select id from person), 3 = any (array[1, 2, 3]), 3 > all (array[1, 2])

with a as (select 1 as x), b as (select x + 1 as y from a) select * from a, b

with recursive n(i) as (select 1 union all select i + 1 from n where i < 5) select * from n

with recursive t(i, path) as (select 1, array[1] union all select i + 1, path || (i + 1) from t where i < 4) search depth first by i set o select i, path, o from t

with recursive g(f, t) as (values (1, 2), (2, 3), (3, 1)), r(f, t) as (select * from g where f = 1 union all select g.* from g join r on g.f = r.t) cycle f set looped using path select f, t, looped from r

with m as materialized (select * from person) select count(*) from m

select case when pay is null then 'none' when pay > 1500 then 'much' else 'some' end from person order by id

select case id when 1 then 'one' else 'other' end from person order by id

select coalesce(pay, 0), nullif(id, 1), greatest(id, 3), least(id, 3) from person order by id

select name from person where name like 'A%' or name ilike '%us' or name similar to '(K|M)%' or name ~ '^L' order by 1

select id between 2 and 4, id not between symmetric 4 and 2, name is not null, pay is distinct from 1500.25 from person order by id

select true and null, true or null, not null::bool, null is unknown, true is not false

select 1 + 2 * 3 ^ 2 - 7 % 4 / 2, -5 % 3, 5 / 2, 5.0 / 2, 2 ^ 0.5, |/ 16, @ -3, 5 & 3, 5 | 3, 5 # 3, ~5, 1 << 4

select cast('1' as int), '2'::int8, int '3', float8 '1.5', date '2020-02-29', interval '1 day 2 hours', time '12:30'

select array[1, 2, 3], array[[1, 2], [3, 4]], '{a,b,"c d",NULL}'::text[], array[]::int[], (array[1, 2, 3])[2:3], (array[1,2,3])[:2]

select row(1, 'a', null), (1, 2) = (1, 2), (1, 2) < (1, 3), row(1, null) is null, row(null, null) is null

select * from generate_series(1, 5) with ordinality as g(v, o)

select * from rows from (generate_series(1, 3), unnest(array['a', 'b'])) as r(a, b)

select unnest(array[1, 2]), generate_series(1, 3)

select * from unnest(array[1, 2], array['x', 'y', 'z']) as u(a, b)

select * from people()

select people()

select (people()).name

select pair()

select * from pair()

select plus_one(41), plus_one(i => 1), shout('x')

select id, name from person order by name desc nulls last, id using < limit all

select id from person order by id fetch first 2 rows only

select pay from person order by pay fetch first 1 row with ties

select string_agg(name, ',' order by id), array_agg(id order by id desc), json_agg(name order by id), bool_and(id > 0), every(id < 9) from person

select count(*) filter (where pay > 1000), percentile_cont(0.5) within group (order by id), mode() within group (order by pay) from person

select id from person for update

select id from person order by id for share of person skip locked

select name from person tablesample bernoulli (100) order by 1

select current_database() = current_catalog, current_schema, current_user = session_user

select pg_typeof(1), pg_typeof('x'), pg_typeof(null), pg_typeof(array[1.5])

--! oids:
select ctid, tableoid::regclass, id from person order by id

select * from measure order by day

--! oids:
select tableoid::regclass, count(*) from measure group by 1 order by 1

select * from only measure

select * from measure_2020 order by day limit 3

select * from animal order by name

select * from only animal

select * from animal*, only dog d order by animal.name

select a.name, d.breed from animal a left join dog d using (name) order by 1

select * from mixed order by id

select m, (p).x, p, d, lower(r), upper(r), r @> 5, arr, j -> 'x', b, u from mixed order by id

select m > 'sad', enum_range(null::mood), enum_first(null::mood) from mixed order by id

select t from wide where id in (1, 30, 60) order by id

select * from wide order by id

select repeat('x', 100000)

select length(repeat('long ', 200000))

select 'a' 'b'

select 'a'
'b'

select 1.5e10, .5, 1e-3, 0.1 + 0.2, 100000000000000000000, 9223372036854775807

select 'NaN'::float8, 'Infinity'::float8, '-Infinity'::numeric, '1e400'::numeric

select n from generate_series(1, 3000) n

select n, repeat('y', 50) from generate_series(1, 500) n

select relname, relkind from pg_class where relname in ('person', 'busy', 'pay_total', 'counter') order by 1

select attname, atttypid::regtype from pg_attribute where attrelid = 'person'::regclass and attnum > 0 order by attnum

select table_name, column_name, data_type from information_schema.columns where table_schema = 'public' and table_name = 'task' order by ordinal_position

select pg_get_viewdef('busy'::regclass)

select obj_description('person'::regclass), col_description('person'::regclass, 1), has_table_privilege('person', 'select')

explain (costs off) select * from person where id = 1

explain (costs off, format json) select name from person order by name

explain (costs off, verbose) select p.name from person p join task t on t.person_id = p.id

explain (analyze, costs off, timing off, summary off) select count(*) from person

explain (costs off) insert into person values (99, 'x')

--! values: 2
select name from person where id = $1::int

--! values: 2|Grace
select $1::int + 1, $2 || '!'

--! values: {1,3}
select name from person where id = any ($1::int[]) order by 1

--! values: ~
select $1::text is null

--! values: 2020-01-01|3 days
select $1::date + $2::interval

--! values: 1
select * from person where id = $1 order by id

--! values: x
select $1

--! values: 1|2
select $2::int - $1::int

--! values: abc
select $1::int

--! values: 1
select $1::int, $2::int
