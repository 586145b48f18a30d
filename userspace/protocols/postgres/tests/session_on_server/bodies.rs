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

#[test]
fn bodies_that_were_read_when_they_were_made_are_opened() {
    let server = server("atomic");
    let mut talk = Talk::open(&server);
    for made in [
        "create function f() returns text language sql begin atomic select ssn from customers where id = 1; end",
        "create function f() returns text language sql return (select upper(ssn) from customers where id = 1)",
        "create function f() returns text language sql begin atomic select 1; select min(ssn) from customers; end",
        "create function f(out a int, out b text) returns setof record language sql \
            begin atomic select c.id, c.ssn from customers c; end",
        "create function f() returns setof customers language sql begin atomic select * from customers; end",
        "create function f(wanted int default 1) returns text language sql \
            begin atomic select c.ssn from customers c where c.id = f.wanted; end",
    ] {
        // In the transaction that makes it, too.
        talk.query("begin");
        talk.query(made);
        masked(&mut talk, "select * from f()");
        talk.query("commit");
        masked(&mut talk, "select f()");
        masked(&mut talk, "select x from f() x");
        talk.query("create schema elsewhere; set search_path = elsewhere");
        masked(&mut talk, "select public.f()::text || 'x'");
        talk.query("set search_path = public; drop schema elsewhere");
        talk.query("drop function f");
    }
    // What it is given is what comes out.
    talk.query("create function echo(a text) returns text language sql return upper(a)");
    masked(&mut talk, "select id, echo(ssn) from customers");
    let seen = talk.query("select echo(name) from customers where id = 1");
    assert!(seen.iter().any(|line| line.contains("ANN")), "{seen:?}");
    // A name means what it meant when the function was made.
    talk.query("create function settled() returns text language sql begin atomic select ssn from customers limit 1; end");
    talk.query("set search_path = other, public");
    masked(&mut talk, "select settled()");
    talk.query("create temp table customers (id int, name text, ssn text)");
    masked(&mut talk, "select settled()");
    talk.query("create temp table own (n int); insert into own values (1)");
    talk.query("create function over_own() returns text language sql begin atomic select c.ssn from public.customers c, own; end");
    masked(&mut talk, "select over_own()");
}

#[test]
fn bodies_that_write_are_opened() {
    let server = server("bodies-write");
    let mut talk = Talk::open(&server);
    talk.query("create table sink (id int, body text)");
    for body in [
        "as 'insert into sink select id, ssn from customers'",
        "begin atomic insert into sink select id, ssn from customers; end",
        "as 'update sink set body = (select max(ssn) from customers)'",
        "as 'with w as (insert into sink select id, ssn from customers returning 1) select from w'",
    ] {
        talk.query(&format!(
            "create function fill() returns void language sql {body}"
        ));
        refused(&mut talk, "select fill()");
        talk.query("drop function fill");
    }
    talk.query("create function fill() returns void language sql as 'insert into sink select id, name from customers'");
    let seen = talk.query("select fill()");
    assert_eq!(rows(&seen), 1, "{seen:?}");
    let seen = talk.query("select body from sink where id = 1");
    assert!(seen.iter().any(|line| line.contains("Ann")), "{seen:?}");
    // A rule for the table is one for the function.
    talk.query("create function gone() returns void language sql as 'truncate customers'");
    talk.query("create function asked() returns bigint language sql as 'select n from other.many where n > 3'");
    let seen = talk.query("select asked()");
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
    let set = "alter table customers alter column ssn type word";
    let mut outside = Talk::open(&server);
    outside.session = PostgresSession::new(PostgresConfig {
        target: Arc::from("t"),
        ..PostgresConfig::default()
    });
    outside.exchange(&hello(), 1);
    outside.query(set);
    outside.query("create table taken (id int, name text, ssn text) partition by list (id)");
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
