//! Names that mean another table than they seem to: shadowed, taken away, or of another level.

use super::*;

#[test]
fn a_column_of_an_outer_level_is_not_lost_behind_what_is_not_known() {
    let server = server("outer-level");
    let mut talk = Talk::open(&server);
    for sql in [
        "select (select upper(ssn) from generate_series(1, 1)) from customers",
        "select (select upper(ssn) from unnest(array[1])) from customers",
        "select x from customers join lateral (select upper(ssn) as x from unnest(array[1])) l on true",
        "create table own (a int); insert into own values (1); select (select upper(ssn) from own) from customers",
        "alter table own add b int; select (select upper(ssn) from own) from customers",
    ] {
        let seen = talk.query(sql);
        clean(&seen);
        let seen = talk.exchange(&[parse("", sql), run("")].concat(), 1);
        clean(&seen);
    }
    // Nothing is lost where nothing is masked.
    let seen = talk.query("select (select upper(name) from generate_series(1, 1)) from customers");
    assert!(seen.iter().any(|line| line.contains("ANN")), "{seen:?}");
}

#[test]
fn what_a_text_takes_away_no_longer_shadows() {
    let server = server("taken-away");
    let mut talk = Talk::open(&server);
    let shadow = "create temp table customers (id int, ssn text)";
    for gone in [
        "drop table pg_temp.customers",
        "alter table pg_temp.customers rename to moved",
        "discard temp",
    ] {
        talk.query(shadow);
        for behind in [
            "select upper(ssn) from customers",
            "copy customers to stdout",
        ] {
            clean(&talk.query(&format!("{gone}; {behind}")));
        }
        talk.query("drop table if exists pg_temp.customers, pg_temp.moved");
    }
    for end in ["rollback", "rollback to a"] {
        talk.query(&format!("begin; savepoint a; {shadow}"));
        clean(&talk.query(&format!("{end}; select upper(ssn) from customers")));
        talk.query("rollback");
    }
    talk.query("set search_path = other");
    talk.query("prepare p as select set_config('search_path', 'public', false)");
    clean(&talk.query("execute p; select upper(ssn) from customers"));
    talk.query("set search_path = public");
    // What is alone on the path is understood.
    talk.query("create table fleeting (v text)");
    let seen = talk.query("drop table fleeting; select name from customers");
    assert!(seen.iter().any(|line| line.contains("Ann")), "{seen:?}");
}

#[test]
fn a_cursor_of_a_function_is_not_read_by_a_table_made_later() {
    let server = server("later-shadow");
    let mut talk = Talk::open(&server);
    talk.query(
        "create function opens() returns refcursor language plpgsql as $$ declare c refcursor := 'c'; \
         begin open c for select upper(ssn) from customers; return c; end $$",
    );
    for between in [
        "create temp table customers (x int)",
        "set local search_path = other",
        "select 1",
    ] {
        talk.query("begin");
        talk.query("select opens()");
        talk.query(between);
        clean(&talk.query("fetch all from c"));
        talk.query("rollback");
    }
}

#[test]
fn a_function_is_read_behind_what_changes_names_too() {
    let server = server("function-behind");
    let mut talk = Talk::open(&server);
    talk.query(
        "create function number_of(int) returns text language sql as \
         'select upper(c.ssn) from public.customers c where c.id = $1'",
    );
    talk.query("create view numbers as select public.number_of(id) as n from public.customers");
    for before in [
        "select 1",
        "begin; commit",
        "set search_path = public, other",
        "set search_path = other",
        "drop table if exists nosuch",
    ] {
        for read in ["select public.number_of(1)", "select n from public.numbers"] {
            clean(&talk.query(&format!("{before}; {read}")));
        }
        talk.query("rollback");
        talk.query("reset search_path");
    }
}
