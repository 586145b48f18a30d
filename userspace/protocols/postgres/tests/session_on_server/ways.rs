//! Ways by which a masked value, or an answer about it, might come back: each was thought of by somebody
//! who read the code.

use super::*;

const MADE: &str = "
create table plain (id int primary key, note text);
insert into plain values (1, 'a'), (2, 'b');
create sequence counted;
create table base (id int, secret text);
create table gold (perk text) inherits (base);
insert into gold values (1, '900-11-2222', 'p');
create function ssn_of(wanted int) returns text language sql as 'select ssn from customers where id = wanted';
create view opened as select ssn_of(1) as s;
create view named as select id, ssn as code from customers;
create type pair as (a text, b text);
create type guess as enum ('900-11-2222');
create function divided(k int) returns int language sql as 'select 1 / $1';
";
/// Statements one after the other: the first that shows the value.
fn shown(talk: &mut Talk<'_>, texts: &[&str]) -> Option<String> {
    let mut found = None;
    for text in texts {
        let seen = talk.query(text);
        if found.is_none() && seen.iter().any(|line| line.contains(SECRET)) {
            found = Some(format!("{text}: {seen:?}\n"));
        }
    }
    talk.query("rollback");
    found
}

/// What is said when a statement is not refused.
fn not_refused(talk: &mut Talk<'_>, text: &str) -> Option<String> {
    let seen = talk.query(text);
    talk.query("rollback");
    let refused = seen.iter().any(|line| line.contains("C42501"));
    let clean = !seen.iter().any(|line| line.contains(SECRET));
    (!refused || !clean).then(|| format!("{text}: {seen:?}\n"))
}

fn begin(name: &str) -> Server {
    let server = server(name);
    let made =
        Server::runtime().block_on(async { server.client().await.batch_execute(MADE).await });
    made.expect("the tables are made");
    server
}

#[test]
fn values_do_not_come_by_a_detour() {
    let server = begin("detours");
    let mut talk = Talk::open(&server);
    let mut found = String::new();
    for texts in [
        &[
            "insert into customers (id, name, ssn) select id, name, ssn from customers on conflict (id) \
            do update set name = excluded.ssn returning id, name",
            "select name from customers",
        ][..],
        &[
            "insert into customers (id, name, ssn) values (1, 'x', (select ssn from customers where id = 2)) \
            on conflict (id) do update set name = excluded.ssn",
            "select name from customers",
        ],
        &[
            "select s.d || '' from (select o.*, p.ssn from customers p, \
            jsonb_populate_record(null::plain, '{}') o) s(a, b, d)",
        ],
        &[
            "select s.a, s.b, s.c from (select o.*, p.ssn from customers p, \
            jsonb_populate_record(null::plain, '{}') o) s(a, b, c)",
        ],
        &[
            "with s(a, b, d) as (select o.*, p.ssn from customers p, jsonb_populate_record(null::plain, '{}') o) \
            select d || '' from s",
        ],
        &[
            "select 1, 'x', 'y' || '' union all select o.*, p.ssn from customers p, \
            jsonb_populate_record(null::plain, '{}') o",
        ],
        &[
            "insert into plain (id, note) select (jsonb_populate_record(null::plain, '{\"id\": 7}')).id, p.ssn from customers p",
            "select note from plain",
        ],
        &["select v.c from customers x, lateral (values (x.*)) v(a, b, c)"],
        &[
            "select v.c || '' from (values (((select x from customers x where id = 1)).*)) v(a, b, c)",
        ],
        &[
            "select ssn from (select (x).* from (select c as x from customers c) q) s \
            left join (select ''::text as ssn) o using (ssn)",
        ],
        &[
            "update customers c set (ssn, name) = row(x.*) from \
            (select '' a, ssn b from customers where id = 1) x where c.id = 2",
            "select name from customers",
        ],
        &[
            "prepare p(text) as select $1 as v",
            "execute p((select ssn from customers where id = 1))",
        ],
        &["prepare q(text) as select $1 as v", "execute q(ssn_of(1))"],
        &[
            "begin",
            "create temp table customers (id int, ssn text) on commit drop",
            "select 1 from customers",
            "commit",
            "select ssn || '' from customers",
        ],
        &[
            "set search_path = nowhere",
            "select s from public.opened",
            "set search_path = public",
            "select s from opened",
        ],
        &["alter index customers rename to x", "select ssn from x"],
        &["alter view named rename to fresh; select code || '' from fresh"],
        &["alter sequence customers rename to y; select ssn || '' from y"],
        &[
            "create rule r as on update to named do instead insert into plain values (old.id + 10, old.code)",
            "update named set code = 'x'",
            "select note from plain",
        ],
        &[
            "alter table only base drop column secret",
            "select secret from gold",
        ],
        &[
            "create table open (secret text)",
            "alter table gold inherit open",
            "select secret from open",
        ],
        &[
            "create table vectors (id int, v tsvector, t text)",
            "alter table customers add column v tsvector",
            "create trigger t before update on customers for each row execute function \
                tsvector_update_trigger(v, 'pg_catalog.simple', ssn)",
            "update customers set name = name",
            "select v from customers",
        ],
        &[
            "create domain d as text check ((value::int) > 0)",
            "alter table customers alter ssn type d",
        ],
        &[
            "create statistics s on (ssn::int), (ssn::date) from customers",
            "analyze customers",
        ],
        &[
            "create domain e as text default ssn_of(1)",
            "create table made (x e)",
            "insert into made default values",
            "select x from made",
        ],
        &[
            "create table made2 (x text default ssn_of(1))",
            "insert into made2 default values",
            "select x from made2",
        ],
        &["create index on named ((code::int))"],
        &[
            "create table pairs (p pair)",
            "insert into pairs select row(ssn, 'x')::pair from customers",
            "select (p).a from pairs",
        ],
    ] {
        found.extend(shown(&mut talk, texts));
    }
    assert!(found.is_empty(), "{found}");
}

#[test]
fn answers_do_not_come_by_a_detour() {
    let server = begin("answers");
    let mut talk = Talk::open(&server);
    let mut found = String::new();
    for text in [
        "select case when ssn < 'm' then (select id from plain) end from customers where id = 1",
        "select case when ssn < 'm' then (select nextval('counted')) end from customers where id = 1",
        "select case when ssn < 'm' then (select 1 / (id - id) from plain limit 1) end from customers",
        "explain (analyze, costs off) select case when ssn < 'm' then (select max(q.id) from plain q) end \
            from customers where id = 1",
        "select coalesce(nullif(ssn, '900-11-2222'), (select note from plain)) from customers",
        "select ssn < 'm' and exists (select 1 / (id - id) from plain) from customers",
        "select (case when ssn < 'm' then '1' else 'x' end)::json from customers",
        "select (case when ssn < 'm' then 'plain' else 'x' end)::regclass from customers",
        "select 2147483647::int4 + (case when ssn < 'm' then 1 else 0 end) from customers",
        "select substr('a', 1, case when ssn < 'm' then 1 else -1 end) from customers",
        "select 'a' like case when ssn < 'm' then 'a' else '\\' end from customers",
        "select 'a' ~ case when ssn < 'm' then 'a' else '(' end from customers",
        "select xmlparse(content case when ssn < 'm' then 'a' else '<' end) from customers",
        "select jsonb_array_length(case when ssn < 'm' then '[]'::jsonb else '{}'::jsonb end) from customers",
        "select date_trunc(case when ssn < 'm' then 'day' else 'x' end, now()) from customers",
        "select (array[1])[1] from customers tablesample bernoulli (50) \
            repeatable ((select length(ssn) from customers where id = 1))",
        "select 1 from xmltable(xmlnamespaces((select left(ssn, 1) from customers where id = 1) as x), '/x:r' \
            passing '<r xmlns=\"9\"/>' columns v text path '.')",
        "with recursive r(id, v) as (select id, ssn from customers union all select id, v from r) \
            cycle v set c using p select count(*) from r",
        "select ssn::guess from customers",
        "select case when ssn < 'm' then name::int end from customers",
        "select ssn < 'm' and name::int > 0 from customers",
        "select case when ssn < 'm' then ('x'::text)::date end from customers",
        "select case when ssn < 'm' then substring(name, 1, -1) end from customers",
        "select case when ssn < 'm' then name ~ '(' end from customers",
        "select substring('abc', 1, ascii(ssn) - 100) from customers",
        "select split_part('a', 'b', ascii(ssn) - 53) from customers",
        "select format('%' || substr(ssn, 1, 1) || '$s', 'a', 'b') from customers",
        "select 'a' ~ ('a{' || substr(ssn, 1, 1) || ',5}') from customers",
        "select ascii(ssn) * 1000 * 1000 * 43 from customers",
        "select sum(case when ssn < 'm' then 1e308::float8 else 0 end) from customers, generate_series(1, 2)",
        "select array_agg(case when ssn < 'm' then array[1] else array[[1]] end) from customers",
        "select (case when ssn < 'm' then '1' else '{}' end)::json ->> 'a' from customers",
        "select divided(case when ssn < 'm' then 0 else 1 end) from customers",
        "create function asks(k text) returns bigint language sql as \
            'select count(*) from customers where ssn < k'",
        "alter table customers alter column ssn type varchar(5)",
        "alter table customers alter column ssn set not null",
        "update customers set ssn = case when ssn < 'm' then null else ssn end where id = 1",
        "create table mine (x text references customers (ssn) on update cascade)",
        "create trigger t before update on customers for each row execute function \
            suppress_redundant_updates_trigger()",
    ] {
        found.extend(not_refused(&mut talk, text));
    }
    assert!(found.is_empty(), "{found}");
    // What only chooses what is shown is masked, and nothing is asked.
    for text in [
        "select case when ssn < 'm' then 'low' else 'high' end from customers",
        "select upper(case when ssn is null then 'none' else ssn end) from customers",
        "select coalesce(ssn, 'none'), coalesce(name, (select note from plain limit 1)) from customers",
        "select case when id = 1 then (select note from plain where id = 1) else ssn end from customers",
    ] {
        let seen = talk.query(text);
        clean(&seen);
        assert_eq!(rows(&seen), 2, "{text}: {seen:?}");
    }
}
