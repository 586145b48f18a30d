//! What clients try, on a real server.

use super::*;

#[test]
fn rows_are_masked_in_both_protocols() {
    let server = server("plain");
    let mut talk = Talk::open(&server);
    let seen = talk.query("select name, ssn from customers");
    clean(&seen);
    assert!(
        seen.iter()
            .any(|line| line.contains("Ann") && line.contains("[redacted]")),
        "{seen:?}"
    );
    let seen = talk.exchange(
        &[parse("p", "select name, ssn from customers"), run("p")].concat(),
        1,
    );
    clean(&seen);
    assert!(
        seen.iter()
            .any(|line| line.contains("Ann") && line.contains("[redacted]")),
        "{seen:?}"
    );
    let seen = talk.exchange(&run("p"), 1);
    assert!(
        seen.iter().any(|line| line.contains("[redacted]")),
        "{seen:?}"
    );
}

#[test]
fn a_failed_prepare_does_not_replace_the_statement() {
    let server = server("prepare");
    let mut talk = Talk::open(&server);
    clean(&talk.query("prepare p as select ssn || '' from customers"));
    clean(&talk.query("prepare p as select name from customers"));
    let seen = talk.query("execute p");
    clean(&seen);
    assert_eq!(rows(&seen), 2, "{seen:?}");
    clean(&talk.query("prepare q as select ssn from customers"));
    clean(&talk.query("prepare q as select name from customers"));
    let seen = talk.query("execute q");
    clean(&seen);
    assert!(
        seen.iter().any(|line| line.contains("[redacted]")),
        "{seen:?}"
    );
}

#[test]
fn a_failed_declare_does_not_replace_the_cursor() {
    let server = server("declare");
    let mut talk = Talk::open(&server);
    talk.query("begin");
    talk.query("declare c cursor for select ssn || '' from customers");
    talk.query("savepoint s");
    clean(&talk.query("declare c cursor for select name from customers"));
    talk.query("rollback to s");
    let seen = talk.query("fetch c");
    clean(&seen);
    assert_eq!(rows(&seen), 1, "{seen:?}");
}

#[test]
fn cursors_and_prepared_statements_have_names_of_their_own() {
    let server = server("names");
    let mut talk = Talk::open(&server);
    talk.query("begin");
    talk.query("declare c cursor for select ssn from customers");
    talk.query("prepare c as select name from customers");
    let seen = talk.query("fetch c");
    clean(&seen);
    assert!(
        seen.iter().any(|line| line.contains("[redacted]")),
        "{seen:?}"
    );
    let seen = talk.query("execute c");
    assert!(seen.iter().any(|line| line.contains("Ann")), "{seen:?}");
}

#[test]
fn a_failed_parse_does_not_replace_the_statement() {
    let server = server("parse");
    let mut talk = Talk::open(&server);
    talk.exchange(
        &[parse("p", "select ssn from customers"), sync()].concat(),
        1,
    );
    let seen = talk.exchange(
        &[parse("p", "select name from customers"), sync()].concat(),
        1,
    );
    assert!(seen.iter().any(|line| line.contains("42P05")), "{seen:?}");
    let seen = talk.exchange(&run("p"), 1);
    clean(&seen);
    assert!(
        seen.iter().any(|line| line.contains("[redacted]")),
        "{seen:?}"
    );
}

#[test]
fn a_skipped_parse_does_not_replace_the_statement() {
    let server = server("skipped");
    let mut talk = Talk::open(&server);
    talk.exchange(
        &[parse("", "select ssn from customers"), sync()].concat(),
        1,
    );
    let batch = [
        parse("e", "select 1 / (id - 1) from customers"),
        bind("", "e"),
        execute(""),
        parse("", "select name from customers"),
        sync(),
    ];
    clean(&talk.exchange(&batch.concat(), 1));
    let seen = talk.exchange(&run(""), 1);
    clean(&seen);
}

#[test]
fn sql_reaches_a_statement_prepared_by_the_protocol_with_its_masks() {
    let server = server("crossed");
    let mut talk = Talk::open(&server);
    talk.exchange(
        &[parse("p", "select ssn || '' from customers"), sync()].concat(),
        1,
    );
    let seen = talk.query("execute p");
    clean(&seen);
    assert_eq!(rows(&seen), 2, "{seen:?}");
}

#[test]
fn a_statement_deallocated_in_sql_is_gone_for_the_protocol() {
    let server = server("deallocate");
    let mut talk = Talk::open(&server);
    talk.exchange(
        &[parse("p", "select name from customers"), sync()].concat(),
        1,
    );
    talk.query("deallocate p");
    talk.query("prepare p as select ssn from customers");
    let seen = talk.exchange(&run("p"), 1);
    clean(&seen);
    assert!(
        seen.iter().any(|line| line.contains("[redacted]")),
        "{seen:?}"
    );
    talk.query("discard all");
    talk.query("prepare p as select name from customers");
    let seen = talk.exchange(&run("p"), 1);
    assert!(seen.iter().any(|line| line.contains("Ann")), "{seen:?}");
}

#[test]
fn sql_reaches_a_portal_of_the_protocol_with_its_masks() {
    let server = server("portal");
    let mut talk = Talk::open(&server);
    talk.query("begin");
    let batch = [
        parse("p", "select ssn || '' from customers"),
        bind("c", "p"),
        sync(),
    ];
    clean(&talk.exchange(&batch.concat(), 1));
    let seen = talk.query("fetch c");
    clean(&seen);
    assert_eq!(rows(&seen), 1, "{seen:?}");
}

#[test]
fn a_prepared_statement_follows_search_path() {
    let server = server("path");
    let mut talk = Talk::open(&server);
    talk.query("set search_path = other");
    let seen = talk.exchange(
        &[parse("p", "select ssn from customers"), run("p")].concat(),
        1,
    );
    assert!(seen.iter().any(|line| line.contains("open")), "{seen:?}");
    talk.query("prepare q as select ssn from customers");
    talk.query("set search_path = public");
    let seen = talk.exchange(&run("p"), 1);
    clean(&seen);
    assert!(
        seen.iter().any(|line| line.contains("[redacted]")),
        "{seen:?}"
    );
    let seen = talk.query("execute q");
    clean(&seen);
    assert!(
        seen.iter().any(|line| line.contains("[redacted]")),
        "{seen:?}"
    );
}

#[test]
fn a_prepared_statement_follows_a_view() {
    let server = server("view");
    let mut talk = Talk::open(&server);
    talk.query("create view v as select name as x from customers");
    let seen = talk.exchange(&[parse("p", "select x from v"), run("p")].concat(), 1);
    assert!(seen.iter().any(|line| line.contains("Ann")), "{seen:?}");
    clean(&talk.query("create or replace view v as select ssn as x from customers"));
    clean(&talk.exchange(&run("p"), 1));
    clean(&talk.query("select x from v"));
}

#[test]
fn every_execution_of_a_held_statement_is_held() {
    let server = server("held");
    let mut talk = Talk::open(&server);
    talk.query("prepare d as delete from customers where id = 77");
    let before = talk.holds;
    talk.query("execute d");
    talk.query("execute d");
    assert_eq!(
        talk.holds - before,
        2,
        "EXECUTE ran a held statement without asking"
    );
}

#[test]
fn a_batch_that_failed_before_its_sync_is_skipped_like_the_server_does() {
    let server = server("desync");
    let mut talk = Talk::open(&server);
    let first = [
        parse("n", "select $1::int4"),
        bind_text("n", "not a number"),
        frame(b'H', b""),
    ];
    let seen = talk.until(&first.concat(), |lines| {
        lines.iter().any(|l| l.starts_with('E'))
    });
    assert!(seen.iter().any(|line| line.contains("22P02")), "{seen:?}");
    let seen = talk.exchange(&[execute(""), sync()].concat(), 1);
    assert_eq!(seen, ["Z I"], "{seen:?}");
    let seen = talk.query("select 5 as five");
    assert!(seen.iter().any(|line| line.starts_with("D ")), "{seen:?}");
}

#[test]
fn a_refusal_in_a_pipeline_keeps_the_session() {
    let server = server("refusal");
    let mut talk = Talk::open(&server);
    let batch = [
        parse("", "select name from customers"),
        bind("", ""),
        execute(""),
        parse("", "truncate customers"),
        bind("", ""),
        execute(""),
        sync(),
    ];
    let seen = talk.exchange(&batch.concat(), 1);
    assert!(seen.iter().any(|line| line.contains("Ann")), "{seen:?}");
    assert!(seen.iter().any(|line| line.contains("42501")), "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("Z I"));
    let seen = talk.exchange(
        &[parse("", "select name from customers"), run("")].concat(),
        1,
    );
    assert!(seen.iter().any(|line| line.contains("Ann")), "{seen:?}");
    assert_eq!(talk.submitted("truncate"), 0);
}

#[test]
fn two_batches_in_one_write_are_answered_in_order() {
    let server = server("batches");
    let mut talk = Talk::open(&server);
    let batch = [
        parse("", "select id, ssn from customers"),
        bind("", ""),
        frame(b'D', b"P\0"),
        execute(""),
        sync(),
    ]
    .concat();
    let seen = talk.exchange(&[batch.clone(), batch.clone(), batch].concat(), 3);
    clean(&seen);
    let tags: String = seen.iter().filter_map(|line| line.chars().next()).collect();
    assert_eq!(tags, "12TDDCZ".repeat(3));
}

/// As the JDBC driver does with `autosave=always`.
#[test]
fn a_simple_query_within_a_batch_is_answered() {
    let server = server("within");
    let mut talk = Talk::open(&server);
    let batch = [
        parse("", "begin"),
        bind("", ""),
        execute(""),
        frame(b'Q', b"savepoint s\0"),
        parse("", "select name from customers"),
        bind("", ""),
        execute(""),
        sync(),
    ];
    let seen = talk.exchange(&batch.concat(), 2);
    assert!(seen.iter().any(|line| line.contains("Ann")), "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("Z T"), "{seen:?}");
    // Behind an error the server skips it like everything else.
    let batch = [
        parse("", "select 1 / 0"),
        bind("", ""),
        execute(""),
        frame(b'Q', b"rollback\0"),
        sync(),
    ];
    let seen = talk.exchange(&batch.concat(), 1);
    assert!(seen.iter().any(|line| line.contains("22012")), "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("Z E"), "{seen:?}");
    assert_eq!(talk.query("rollback"), ["C ROLLBACK.", "Z I"]);
}

#[test]
fn an_error_at_parse_keeps_its_text_when_nothing_is_masked() {
    let server = server("text");
    let mut talk = Talk::open(&server);
    let seen = talk.exchange(&[parse("", "select 1 + point '(1,1)'"), sync()].concat(), 1);
    assert!(
        seen.iter()
            .any(|line| line.contains("operator does not exist")),
        "{seen:?}"
    );
}

#[test]
fn a_view_changed_within_a_transaction_is_not_read_by_its_old_meaning() {
    let server = server("open");
    let mut talk = Talk::open(&server);
    talk.query("create view v as select name as x from customers");
    talk.query("begin");
    talk.query("create or replace view v as select ssn as x from customers");
    clean(&talk.query("select x || '' as y from v"));
    talk.query("rollback");
    let seen = talk.query("select x from v");
    assert!(seen.iter().any(|line| line.contains("Ann")), "{seen:?}");
}

#[test]
fn a_view_changed_in_the_same_pipeline_is_not_read_by_its_old_meaning() {
    let server = server("pipe");
    let mut talk = Talk::open(&server);
    talk.query("create view v as select name as x from customers");
    talk.exchange(
        &[parse("p", "select x || '' as y from v"), sync()].concat(),
        1,
    );
    let batch = [
        parse(
            "",
            "create or replace view v as select ssn as x from customers",
        ),
        bind("", ""),
        execute(""),
        bind("", "p"),
        execute(""),
        sync(),
    ];
    clean(&talk.exchange(&batch.concat(), 1));
}

#[test]
fn a_temporary_view_in_front_of_a_table_is_seen() {
    let server = server("temp");
    let mut talk = Talk::open(&server);
    talk.query("set search_path = other");
    talk.query("create temp view customers as select ssn as name, id, ssn from public.customers");
    clean(&talk.query("select name || '' as y from customers"));
    clean(&talk.query("select name from customers"));
}

#[test]
fn temporary_tables_stand_where_the_path_says() {
    let server = server("temp-last");
    let mut talk = Talk::open(&server);
    talk.query("create temp table customers (id int, name text, ssn text)");
    talk.query("insert into pg_temp.customers values (1, 'own', 'own')");
    let seen = talk.query("select name, ssn from customers");
    assert!(seen.iter().any(|line| line.contains("own")), "{seen:?}");
    talk.query("set search_path = public, pg_temp");
    let seen = talk.query("select name, ssn from customers");
    clean(&seen);
    assert!(
        seen.iter()
            .any(|line| line.contains("Ann") && line.contains("[redacted]")),
        "{seen:?}"
    );
    // What is decided is what is changed: deletes of `customers` wait for a reviewer.
    talk.query("delete from customers where id = 2");
    assert_eq!(talk.holds, 1);
    let asked = talk
        .facts
        .iter()
        .rev()
        .flat_map(|fact| fact.objects.iter())
        .map(|o| format!("{o:?}"))
        .collect::<String>();
    assert!(asked.contains("public/customers"), "{asked}");
    talk.query("set search_path = pg_temp, pg_catalog, public");
    let seen = talk.query("select name, ssn from customers");
    assert!(seen.iter().any(|line| line.contains("own")), "{seen:?}");
}

#[test]
fn the_row_in_an_error_detail_is_kept() {
    let server = server("detail");
    let mut talk = Talk::open(&server);
    talk.query("alter table customers alter name set not null");
    let seen = talk.query("update customers set name = null where id = 1");
    assert!(seen.iter().any(|line| line.contains("23502")), "{seen:?}");
    clean(&seen);
}

#[test]
fn names_longer_than_the_server_keeps_are_refused() {
    let server = server("long");
    let mut talk = Talk::open(&server);
    let long = "a".repeat(63);
    let (first, second) = (format!("{long}1"), format!("{long}2"));
    talk.exchange(
        &[parse(&first, "select name from customers"), sync()].concat(),
        1,
    );
    let close = frame(b'C', &[b"S", second.as_bytes(), b"\0"].concat());
    let batch = [close, parse(&second, "select ssn from customers"), sync()];
    talk.exchange(&batch.concat(), 1);
    clean(&talk.exchange(&run(&first), 1));
}

#[test]
fn portals_bound_before_an_earlier_sync_is_answered_stay() {
    let server = server("early");
    let mut talk = Talk::open(&server);
    let first = [
        parse("p", "select name from customers"),
        bind("", "p"),
        execute(""),
        sync(),
        bind("", "p"),
    ];
    let seen = talk.exchange(&first.concat(), 1);
    assert!(seen.iter().any(|line| line.contains("Ann")), "{seen:?}");
    let seen = talk.exchange(&[execute(""), sync()].concat(), 1);
    assert!(seen.iter().any(|line| line.contains("Ann")), "{seen:?}");
}

#[test]
fn a_cursor_is_read_by_fetch_with_masks() {
    let server = server("cursor");
    let mut talk = Talk::open(&server);
    talk.query("begin");
    talk.query("declare c cursor for select name, ssn from customers");
    let seen = talk.query("fetch 1 from c");
    clean(&seen);
    assert!(
        seen.iter()
            .any(|line| line.contains("Ann") && line.contains("[redacted]")),
        "{seen:?}"
    );
    let seen = talk.exchange(&[parse("", "fetch 1 from c"), run("")].concat(), 1);
    clean(&seen);
    assert!(
        seen.iter()
            .any(|line| line.contains("Bob") && line.contains("[redacted]")),
        "{seen:?}"
    );
    let seen = talk.query("close c; declare c cursor for select name from customers; fetch c");
    assert!(seen.iter().any(|line| line.contains("Ann")), "{seen:?}");
}

#[test]
fn a_path_changed_by_a_fetch_is_noticed() {
    let server = server("fetch");
    let mut talk = Talk::open(&server);
    talk.query("set search_path = other");
    talk.query("begin");
    talk.query("declare c cursor for select set_config('search_path', 'public', false)");
    talk.query("fetch c");
    let seen = talk.query("select ssn from customers");
    clean(&seen);
    assert!(
        seen.iter().any(|line| line.contains("[redacted]")),
        "{seen:?}"
    );
}

#[test]
fn a_path_changed_by_execute_is_noticed() {
    let server = server("setter");
    let mut talk = Talk::open(&server);
    talk.query("set search_path = other");
    talk.query("prepare s as select set_config('search_path', 'public', false)");
    talk.query("select ssn from customers");
    talk.query("execute s");
    let seen = talk.query("select ssn from customers");
    clean(&seen);
    assert!(
        seen.iter().any(|line| line.contains("[redacted]")),
        "{seen:?}"
    );
}

#[test]
fn a_portal_that_reads_a_cursor_reads_the_one_it_was_bound_to() {
    let server = server("swap");
    let mut talk = Talk::open(&server);
    talk.query("begin");
    talk.query("declare c cursor for select name from customers");
    let batch = [
        parse("f", "fetch c"),
        bind("r", "f"),
        frame(b'D', b"Pr\0"),
        parse("", "close c"),
        bind("", ""),
        execute(""),
        parse("", "declare c cursor for select ssn from customers"),
        bind("", ""),
        execute(""),
        execute("r"),
        sync(),
    ];
    let seen = talk.exchange(&batch.concat(), 1);
    clean(&seen);
    assert!(seen.iter().any(|line| line.contains("0A000")), "{seen:?}");
}

#[test]
fn a_name_is_a_portal_or_a_cursor_but_never_both() {
    let server = server("both");
    let mut talk = Talk::open(&server);
    let batch = [
        parse("n", "select name from customers"),
        bind("c", "n"),
        frame(b'D', b"Pc\0"),
        sync(),
    ];
    talk.exchange(&batch.concat(), 1);
    talk.query("begin");
    talk.query("declare c cursor for select ssn from customers");
    clean(&talk.exchange(&[execute("c"), sync()].concat(), 1));
    talk.query("rollback");
    talk.query("begin");
    talk.query("declare c cursor with hold for select name from customers");
    talk.query("rollback");
    talk.query("begin");
    let batch = [
        parse("s", "select ssn || '' from customers"),
        bind("c", "s"),
        sync(),
    ];
    talk.exchange(&batch.concat(), 1);
    let seen = talk.query("fetch c");
    clean(&seen);
    assert_eq!(rows(&seen), 1, "{seen:?}");
}

#[test]
fn a_held_statement_behind_an_error_is_not_run() {
    let server = server("behind");
    let mut talk = Talk::open(&server);
    let batch = [
        parse("e", "select 1 / (id - 1) from customers"),
        parse("d", "delete from customers"),
        bind("", "e"),
        execute(""),
        bind("", "d"),
        execute(""),
        sync(),
    ];
    let seen = talk.exchange(&batch.concat(), 1);
    assert!(seen.iter().any(|line| line.contains("22012")), "{seen:?}");
    let seen = talk.query("select name from customers");
    assert_eq!(rows(&seen), 2, "{seen:?}");
}

#[test]
fn an_error_in_a_transaction_and_its_rollback_leave_a_usable_session() {
    let server = server("rollback");
    let mut talk = Talk::open(&server);
    talk.query("begin");
    talk.query("set local search_path = other");
    let seen = talk.query("select 1 / (id - 1) from customers");
    assert_eq!(seen.last().map(String::as_str), Some("Z E"), "{seen:?}");
    let seen = talk.query("select ssn from customers");
    assert_eq!(seen.last().map(String::as_str), Some("Z E"), "{seen:?}");
    talk.query("rollback");
    let seen = talk.query("select ssn from customers");
    clean(&seen);
    assert!(
        seen.iter().any(|line| line.contains("[redacted]")),
        "{seen:?}"
    );
}

#[test]
fn a_held_statement_waits_thirty_minutes_and_runs_then() {
    let server = server("patient");
    let mut talk = Talk::open(&server);
    talk.asks = true;
    let message = frame(b'Q', b"delete from customers where id = 1\0");
    let seen = talk.until(&message, |lines| {
        lines.iter().any(|line| line.starts_with("N "))
    });
    assert_eq!(seen.len(), 1, "{seen:?}");
    for _minute in 0..30 {
        talk.clock += 60_000_000;
        // Nothing of ours runs out, and the client is neither answered nor read from.
        assert!(talk.session.poll_timeout().is_none());
        assert!(!talk.session.wants_client());
        talk.seen.clear();
        talk.step();
        assert!(talk.seen.is_empty(), "{:?}", lines(&talk.seen));
    }
    let seen = talk.decide(true);
    assert!(
        seen.iter().any(|line| line.contains("C DELETE 1")),
        "{seen:?}"
    );
    let held = talk
        .facts
        .iter()
        .find(|fact| fact.kind == FactKind::Approval);
    assert_eq!(held.map(|fact| fact.held_ms / 60_000), Some(30));
}

#[test]
fn a_transaction_in_which_nothing_ran_does_not_shorten_a_hold() {
    let server = server("begun");
    let mut talk = Talk::open(&server);
    talk.query("begin");
    talk.query("delete from customers where id = 98");
    assert!(!talk.held.as_ref().expect("held").in_transaction);
    talk.query("delete from customers where id = 99");
    assert!(talk.held.as_ref().expect("held").in_transaction);
    talk.query("commit");
    talk.query("delete from customers where id = 100");
    assert!(!talk.held.as_ref().expect("held").in_transaction);
}
