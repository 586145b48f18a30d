//! What other sessions, and other clients of the server, do to what a session goes by.

use super::*;

#[track_caller]
fn value(lines: &[String], expected: &str) {
    let rows: Vec<&String> = lines.iter().filter(|line| line.starts_with("D ")).collect();
    assert_eq!(rows.len(), 1, "{expected}: {lines:?}");
    assert!(rows[0].ends_with(expected), "{expected}: {lines:?}");
}

#[test]
fn a_table_made_anew_by_another_session_is_read_at_once() {
    let server = server("made-anew");
    let (mut maker, mut reader) = (Talk::open(&server), Talk::open(&server));
    maker.query("create table shared (v text); insert into shared values ('one')");
    value(&reader.query("select v from shared"), "one");
    reader.exchange(&[parse("s", "select v from shared"), sync()].concat(), 1);
    value(&reader.exchange(&run("s"), 1), "one");
    maker.query(
        "drop table shared; create table shared (v text); insert into shared values ('two')",
    );
    value(&reader.exchange(&run("s"), 1), "two");
    maker.query("begin; drop table shared; create table shared (n int, v text)");
    maker.query("insert into shared values (1, 'three'); commit");
    value(&reader.query("select v from shared"), "three");
    // Nor is a change lost of who leaves before it is done.
    let seen = server.definitions.count();
    maker.query("begin; create table unfinished (v text)");
    let now = maker.now();
    maker
        .session
        .finish(weir_govern::CloseReason::ClientLeft, now);
    assert!(server.definitions.count() > seen);
    let mut maker = Talk::open(&server);
    // Temporary ones are nobody else's.
    let seen = server.definitions.count();
    maker.query("create temp table own (v text)");
    assert_eq!(server.definitions.count(), seen);
}

#[test]
fn a_view_made_anew_by_somebody_else_is_an_error_and_then_read() {
    let server = server("behind-the-back");
    let mut talk = Talk::open(&server);
    talk.query("create table plain (v text); insert into plain values ('seen')");
    talk.query("create view shown as select v from plain");
    value(&talk.query("select v from shown"), "seen");
    let mut outside = Talk::open(&server);
    outside.session = PostgresSession::new(PostgresConfig {
        target: Arc::from("t"),
        ..PostgresConfig::default()
    });
    outside.exchange(&hello(), 1);
    outside.query("drop view shown; create view shown as select v from plain");
    // More than the time between two doubts.
    talk.clock += 2_000_000;
    let seen = talk.query("select v from shown");
    assert_eq!(rows(&seen), 0, "{seen:?}");
    assert!(seen.iter().any(|line| line.contains("C0A000")), "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("Z I"));
    value(&talk.query("select v from shown"), "seen");
}

#[test]
fn clients_are_given_the_servers_own_process_number() {
    let server = server("process-number");
    let mut talk = Talk::new(&server, None, Login::Trust);
    talk.exchange(&hello(), 1);
    let keys = talk.seen.windows(5).position(|five| five == b"K\0\0\0\x0c");
    let at = keys.expect("BackendKeyData") + 5;
    let given = i32::from_be_bytes(talk.seen[at..at + 4].try_into().expect("four bytes"));
    value(
        &talk.query("select pg_backend_pid()::text"),
        &given.to_string(),
    );
}

#[test]
fn what_a_function_made_is_asked_for_anew() {
    let server = server("made-by-function");
    let mut talk = Talk::open(&server);
    talk.query(
        "create function makes() returns void language plpgsql as \
         $$ begin create table by_function (v text); insert into by_function values ('made'); end $$",
    );
    talk.query("select makes()");
    value(&talk.query("select v from by_function"), "made");
}
