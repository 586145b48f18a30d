//! SQL functions in each of their forms, opened; and what takes masked values to where rules do not
//! find them.

use super::*;

#[track_caller]
fn masked(talk: &mut Talk<'_>, sql: &str) {
    let seen = talk.query(sql);
    clean(&seen);
    assert!(rows(&seen) > 0, "{sql}: {seen:?}");
}

#[track_caller]
fn refused(talk: &mut Talk<'_>, sql: &str) {
    let seen = talk.query(sql);
    clean(&seen);
    let told = seen.iter().any(|line| line.contains("C42501"));
    assert!(told, "{sql}: {seen:?}");
}

/// Past Weir, as an administrator does.
fn directly(server: &Server, sql: &str) {
    let done = Server::runtime().block_on(async { server.client().await.batch_execute(sql).await });
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[test]
fn bodies_that_were_read_when_they_were_made_are_opened() {
    let bodies = [
        "() returns text language sql begin atomic select ssn from customers where id = 1; end",
        "() returns text language sql return (select upper(ssn) from customers where id = 1)",
        "() returns text language sql begin atomic select 1; select min(ssn) from customers; end",
        "() returns text language sql begin atomic return (select ssn from customers where id = 1); end",
        "(out a int, out b text) returns setof record language sql \
            begin atomic select c.id, c.ssn from customers c; end",
        "() returns setof customers language sql begin atomic select * from customers; end",
        "(wanted int default 1) returns text language sql \
            begin atomic select c.ssn from customers c where c.id = wanted; end",
        "(n text default 'x') returns text language sql \
            begin atomic with recursive r(id, n) as (select id, ssn from customers union all select id, n from r) \
            cycle id set c using p select max(r.n) from r; end",
    ];
    let server = server("atomic");
    for (number, body) in bodies.iter().enumerate() {
        directly(&server, &format!("create function f{number}{body}"));
    }
    directly(
        &server,
        "create function echo(a text) returns text language sql return upper(a); \
         create function named(name text) returns text language sql \
            begin atomic select $1 from customers named limit 1; end; \
         create function rowed() returns setof record language sql as 'select ssn from customers'",
    );
    let mut talk = Talk::open(&server);
    for number in 0..bodies.len() {
        masked(&mut talk, &format!("select * from f{number}()"));
        masked(&mut talk, &format!("select f{number}()"));
        masked(&mut talk, &format!("select x from f{number}() x"));
        talk.query("create schema elsewhere; set search_path = elsewhere");
        masked(
            &mut talk,
            &format!("select public.f{number}()::text || 'x'"),
        );
        talk.query("set search_path = public; drop schema elsewhere");
    }
    masked(&mut talk, "select upper(x) from rowed() as t(x text)");
    // What it is given is what comes out.
    masked(&mut talk, "select id, echo(ssn), named(ssn) from customers");
    let seen = talk.query("select echo(name) from customers where id = 1");
    assert!(seen.iter().any(|line| line.contains("ANN")), "{seen:?}");
    // A name means what it meant when the function was made.
    talk.query("set search_path = other, public");
    masked(&mut talk, "select f0()");
    talk.query("create temp table customers (id int, name text, ssn text)");
    masked(&mut talk, "select f0()");
}

#[test]
fn a_body_that_shows_a_masked_column_is_not_made() {
    let server = server("bodies-made");
    let mut talk = Talk::open(&server);
    talk.query("create table sink (id int, body text)");
    for body in [
        "() returns text language sql as 'select ssn from customers'",
        "() returns text as 'select upper(c.ssn) from customers c' language 'sql'",
        "() returns text language sql return (select ssn from customers limit 1)",
        "() returns text language sql begin atomic select 1; select ssn from customers; end",
        "() returns void language sql as 'insert into sink select id, ssn from customers'",
        "() returns void language sql begin atomic update sink set body = (select max(ssn) from customers); end",
    ] {
        refused(&mut talk, &format!("create function f{body}"));
        refused(&mut talk, &format!("create or replace function f{body}"));
    }
    refused(
        &mut talk,
        "create procedure p() language sql as 'insert into sink select id, ssn from customers'",
    );
    for made in [
        "create function named(c customers) returns text language sql as 'select upper(c.ssn)'",
        "create function count_them() returns bigint language sql as 'select count(*) from customers'",
        "create function fill() returns void language sql as 'insert into sink select id, name from customers'",
    ] {
        let seen = talk.query(made);
        assert!(
            !seen.iter().any(|line| line.starts_with("E ")),
            "{made}: {seen:?}"
        );
    }
    masked(&mut talk, "select named(c) from customers c");
    assert_eq!(rows(&talk.query("select fill(), count_them()")), 1);
    let seen = talk.query("select body from sink where id = 1");
    assert!(seen.iter().any(|line| line.contains("Ann")), "{seen:?}");
    // One that is renamed in the same text is not known.
    let seen = talk.query("alter function count_them() rename to count_some; select count_some()");
    assert_eq!(rows(&seen), 0, "{seen:?}");
}

#[test]
fn bodies_that_write_are_opened() {
    let server = server("bodies-write");
    directly(
        &server,
        "create table sink (id int, body text); \
         create function fill_a() returns void language sql as 'insert into sink select id, ssn from customers'; \
         create function fill_b() returns void language sql \
            begin atomic insert into sink select id, ssn from customers; end; \
         create function hit() returns int language sql as 'insert into sink (id) values (1) returning 1'",
    );
    let mut talk = Talk::open(&server);
    refused(&mut talk, "select fill_a()");
    refused(&mut talk, "select fill_b()");
    refused(
        &mut talk,
        "select case when ssn < 'm' then hit() end from customers",
    );
    // A rule for the table is one for the function.
    talk.query("create function many() returns setof bigint language sql as 'select n from other.many where n > 3'");
    let seen = talk.query("select many()");
    assert!(rows(&seen) <= 3, "{seen:?}");
}

#[test]
fn masked_values_cannot_be_taken_to_another_name() {
    let server = server("moved");
    let mut talk = Talk::open(&server);
    talk.query("create table plain (id int, note text); insert into plain values (1, 'seen')");
    talk.query("create table parts (id int, ssn text) partition by list (id)");
    talk.query("create table part_1 partition of parts for values in (1)");
    for sql in [
        "alter table customers rename to clients",
        "alter table customers rename column ssn to number",
        "alter table if exists customers rename ssn to number",
        "alter table customers set schema other",
        "alter schema public rename to fresh",
        "create rule r as on insert to plain do also select id, ssn from customers",
        "create rule r as on insert to plain do instead insert into other.customers select id, name, ssn from customers",
        "create rule r as on update to customers do also insert into plain values (old.id, old.ssn)",
        "create policy p on plain using (exists (select 1 from customers c where c.ssn > 'm'))",
        "create trigger t before update on customers for each row when (old.ssn > 'm') execute function shop.noted()",
    ] {
        refused(&mut talk, sql);
        masked(&mut talk, "select ssn from customers");
    }
    for sql in [
        "alter table customers rename column name to full_name",
        "alter table plain rename to simple",
        "alter table simple set schema other",
        "alter table parts detach partition part_1",
        "create rule r as on insert to part_1 do also select note from other.simple",
    ] {
        let seen = talk.query(sql);
        assert!(
            !seen.iter().any(|line| line.starts_with("E ")),
            "{sql}: {seen:?}"
        );
    }
}

#[test]
fn whether_old_rows_keep_a_new_condition_is_not_told() {
    let server = server("old-rows");
    let mut talk = Talk::open(&server);
    talk.query("create table plain (id int, ssn text unique)");
    talk.query("create domain word as text; create table worded (id int, w word)");
    for sql in [
        "create unique index on customers (ssn)",
        "create unique index on customers (id) where ssn < 'm'",
        "create index on customers ((ssn::int))",
        "alter table customers add unique (ssn)",
        "alter table customers add constraint k exclude using btree (ssn with =)",
        "alter table customers drop constraint customers_pkey, add primary key (ssn)",
        "alter table customers add foreign key (ssn) references plain (ssn)",
        "alter table customers alter column ssn type int using ssn::int",
        "alter table customers alter column ssn type int using (ssn || 'x')::int",
        "alter table customers add check (ssn < 'm')",
        "alter table customers add constraint c check (left(ssn, 1) = '8') not valid",
        "alter table customers add constraint c check (customers.ssn ~ '^8')",
        "alter table customers add column x int check (ssn ~ '^8')",
        "alter table customers add column x int generated always as (ssn::int) stored",
        "create table split partition of customers default",
    ] {
        let seen = talk.query(sql);
        clean(&seen);
        assert!(
            !seen.iter().any(|line| line.starts_with("C ")),
            "{sql}: {seen:?}"
        );
    }
    for sql in [
        "create unique index on customers (name)",
        "create index on customers (ssn)",
        "alter table customers add check (name <> ''), add x int check (x > 0), add check (x < id + 9)",
        "alter table customers add y int generated always as (id + 1) stored",
        "alter domain word add check (value <> 'x')",
    ] {
        let seen = talk.query(sql);
        assert!(
            !seen.iter().any(|line| line.starts_with("E ")),
            "{sql}: {seen:?}"
        );
    }
    // A domain of a masked column, and a table that takes the masked one in.
    directly(
        &server,
        "alter table customers alter column ssn type word; \
         create table taken (id int, name text, ssn text) partition by list (id)",
    );
    let mut talk = Talk::open(&server);
    refused(
        &mut talk,
        "alter domain word add constraint c check (value ~ '^8')",
    );
    refused(
        &mut talk,
        "create table whole (like customers) partition by list (id); alter table whole attach partition customers default",
    );
    refused(
        &mut talk,
        "alter table taken attach partition customers default",
    );
    masked(&mut talk, "select ssn from customers");
}
