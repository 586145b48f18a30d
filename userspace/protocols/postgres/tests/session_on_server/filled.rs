//! Values that a text moves or shows by way of something that it made itself.

use super::*;

#[track_caller]
fn has(lines: &[String], text: &str) {
    assert!(
        lines.iter().any(|line| line.contains(text)),
        "{text}: {lines:?}"
    );
}

#[test]
fn a_table_is_filled_by_execute_unless_a_masked_value_is_in_it() {
    let server = server("filled-by-execute");
    let mut talk = Talk::open(&server);
    talk.query("prepare names as select id, name from customers");
    has(
        &talk.query("create table copied as execute names"),
        "SELECT 2",
    );
    has(&talk.query("select name from copied"), "Ann");
    talk.query("prepare numbers as select ssn from customers");
    for sql in [
        "create table stolen as execute numbers",
        "prepare also as select reverse(ssn) from customers; create temp table stolen as execute also",
        "explain analyze create table stolen as execute numbers",
    ] {
        let seen = talk.query(sql);
        clean(&seen);
        has(&seen, "E ");
        has(&talk.query("select * from stolen"), "42P01");
    }
    has(
        &talk.query("create table nothing as execute nosuch"),
        "26000",
    );
}

#[test]
fn explain_analyze_of_a_held_statement_is_held_each_time() {
    let server = server("explain-execute");
    let mut talk = Talk::open(&server);
    talk.query("prepare d as delete from other.slow where n = 99");
    let holds = talk.holds;
    has(
        &talk.query("explain (analyze, costs off) execute d"),
        "Delete on slow",
    );
    assert_eq!(talk.holds, holds + 1);
    talk.exchange(
        &[parse("e", "explain analyze execute d"), run("e")].concat(),
        1,
    );
    talk.exchange(&run("e"), 1);
    assert!(talk.holds >= holds + 3, "{} after {holds}", talk.holds);
}

#[test]
fn what_a_text_made_is_read_in_it() {
    let server = server("made-and-read");
    let mut talk = Talk::open(&server);
    let seen = talk.query(
        "create temp table mine (a text); insert into mine values ('own'); select a from mine",
    );
    has(&seen, "own");
    has(&talk.query("begin; create table made (a text); insert into made values ('raw'); copy made to stdout; commit"), "raw");
    let seen =
        talk.query("create schema s create index on t (a) create view v as select a from t create table t (a text)");
    has(&seen, "CREATE SCHEMA");
    talk.query("insert into s.t values ('seen')");
    has(&talk.query("select * from s.v"), "seen");
    // A table that is there already keeps its masks.
    for sql in [
        "create table if not exists customers (ssn text); select ssn from customers",
        "create table if not exists customers (ssn text); select c.ssn from customers c",
        "create table if not exists customers (ssn text); copy customers to stdout",
        "create temp table customers (ssn text); select ssn from public.customers",
    ] {
        clean(&talk.query(sql));
    }
}

#[test]
fn what_a_prepared_statement_reads_may_go_away() {
    let server = server("gone");
    let mut talk = Talk::open(&server);
    talk.query("create temp table gone as select 1 as a");
    talk.query("prepare x as select * from gone");
    has(&talk.query("execute x"), "D ");
    talk.query("drop table gone");
    has(&talk.query("execute x"), "42P01");
    has(&talk.query("execute x"), "42P01");
    talk.query("create temp table gone as select 2 as a");
    has(&talk.query("execute x"), "D ");
}

#[test]
fn one_text_makes_fills_changes_and_drops_a_table() {
    let server = server("all-in-one");
    let mut talk = Talk::open(&server);
    let text = "select 'ok' as \"begin\" ;\ncreate table comics (s text) ;\n\
        insert into comics values ('Calvin'), ('hobbes') ;\ncopy comics from stdin ;\n\
        update comics set s = 'Hobbes' where s = 'hobbes' ;\ndelete from comics where s = 'Moe' ;\n\
        copy comics to stdout ;\ndrop table comics ;\nselect 'done' ;";
    let query = frame(b'Q', &[text.as_bytes(), b"\0"].concat());
    let seen = talk.until(&query, |lines| {
        lines
            .iter()
            .any(|line| line.starts_with('G') || line.starts_with("Z"))
    });
    has(&seen, "G ");
    let seen = talk.exchange(
        &[frame(b'd', b"Moe\nSusie\n"), frame(b'c', b"")].concat(),
        1,
    );
    has(&seen, "d Calvin");
    has(&seen, "d Hobbes");
    has(&seen, "done");
    assert!(!seen.iter().any(|line| line.contains("Moe")), "{seen:?}");
}
