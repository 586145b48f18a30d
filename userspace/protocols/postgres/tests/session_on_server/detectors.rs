//! Detectors on what has no label: by every way that a value takes to the client.

use super::*;

const DETECT: &str = r#"
@id("all") permit (principal, action, resource in Weir::Target::"t");
@id("detect") @detect("all") forbid (principal, action == Postgres::Action::"readColumn",
    resource in Postgres::Table::"t/postgres/other/many");
"#;

fn shows(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

fn rows(lines: &[String]) -> usize {
    lines.iter().filter(|line| line.starts_with('D')).count()
}

fn talk(server: &Server) -> Talk<'_> {
    let mut talk = Talk::new(
        server,
        Some(Arc::new(
            Patterns::new(&Detector::ALL, &[]).expect("patterns"),
        )),
        Login::Trust,
    );
    talk.set = compiled(DETECT);
    talk.exchange(&hello(), 1);
    talk
}

/// Binary results of one statement, as bytes from the server's side of the session.
fn binary(talk: &mut Talk<'_>, sql: &str) -> Vec<String> {
    let bind = frame(b'B', b"\0s\0\0\0\0\0\0\x01\0\x01");
    talk.exchange(
        &[parse("s", sql), bind, execute(""), sync(), close_s()].concat(),
        1,
    )
}

/// Values of the newest reply that did not go out as they were.
fn changed(talk: &Talk<'_>) -> u64 {
    let mut replies = talk.facts.iter().rev();
    let reply = replies.find(|fact| fact.kind == FactKind::Reply);
    reply.expect("a reply").masked_values
}

fn close_s() -> Vec<u8> {
    frame(b'C', b"Ss\0")
}

#[test]
fn texts_are_shown_without_what_was_found() {
    let server = server("detectors");
    let mut talk = Talk::open(&server);
    for sql in [
        "select note, n from other.many where n = 1",
        "select upper(note) from other.many where n = 1",
        "select array[note, 'other'] from other.many where n = 1",
        "select json_build_object('note', note) from other.many where n = 1",
        "select jsonb_agg(note) from other.many",
        "select to_jsonb(E'first line\n' || note) from other.many where n = 1",
        "copy (select note from other.many where n < 3) to stdout",
        "copy other.many (note) to stdout (format csv)",
        "copy other.many (note) to stdout (delimiter ' ')",
        "copy other.many (note) to stdout (format binary)",
    ] {
        let seen = talk.query(sql);
        assert!(!shows(&seen, "4111"), "{sql}: {seen:?}");
        assert!(shows(&seen, "payment-card"), "{sql}: {seen:?}");
    }
}

#[test]
fn what_is_no_text_is_withheld() {
    let server = server("detectors-others");
    let mut talk = talk(&server);
    for expression in [
        "number",
        "number::numeric",
        "number::float8",
        "array[number]",
        "many",
        "row(n, note)",
        "row(number)",
        "row(row(note))",
        "array[row(note)]",
        "array[row(number)]",
        "int8range(number, number + 1)",
        "row(number::float8)",
        "row(note::bytea)",
        "note::bytea",
        "to_tsvector('simple', 'paid by ' || number)",
        "json_build_object('number', number)",
    ] {
        let sql = format!("select {expression} from other.many where n = 1");
        for extended in [false, true] {
            let seen = if extended {
                binary(&mut talk, &sql)
            } else {
                talk.query(&sql)
            };
            assert!(rows(&seen) == 1 && changed(&talk) == 1, "{sql}: {seen:?}");
            assert!(!shows(&seen, "4111"), "{sql}: {seen:?}");
            assert!(!shows(&seen, "343131"), "{sql}: {seen:?}");
        }
        // COPY does not say types.
        for format in ["text", "csv", "binary"] {
            let sql = format!("copy ({sql}) to stdout (format {format})");
            let seen = talk.query(&sql);
            assert!(!shows(&seen, "4111"), "{sql}: {seen:?}");
            assert!(!shows(&seen, "343131"), "{sql}: {seen:?}");
            assert!(
                shows(&seen, "COPY 1") && changed(&talk) == 1,
                "{sql}: {seen:?}"
            );
        }
    }
    for expression in ["number", "row(n, number)", "array[number]"] {
        let seen = talk.query(&format!("select {expression} from other.many where n = 2"));
        assert!(shows(&seen, "1234") && changed(&talk) == 0, "{seen:?}");
    }
}

#[test]
fn what_the_server_says_is_looked_through() {
    let server = server("detectors-said");
    let mut talk = talk(&server);
    let seen = talk.query("select note::int from other.many where n = 1");
    assert!(
        shows(&seen, "22P02") && shows(&seen, "payment-card"),
        "{seen:?}"
    );
    assert!(!shows(&seen, "4111"), "{seen:?}");
    // Of whoever's statement it is: a value takes more than one step.
    let seen = talk.query("select 'paid by 4111 1111 1111 1111'::int");
    assert!(shows(&seen, "22P02") && !shows(&seen, "4111"), "{seen:?}");
    let seen = talk.query("do $$ begin raise notice 'paid by 4111 1111 1111 1111'; end $$");
    assert!(
        shows(&seen, "payment-card") && !shows(&seen, "4111"),
        "{seen:?}"
    );
    talk.query("listen here");
    let seen = talk.query("select pg_notify('here', note) from other.many where n = 1");
    assert!(
        shows(&seen, "here") && shows(&seen, "payment-card"),
        "{seen:?}"
    );
    assert!(!shows(&seen, "4111"), "{seen:?}");
    let seen = talk.query("select pg_notify('here', 'nothing')");
    assert!(shows(&seen, "nothing"), "{seen:?}");
    let seen = talk
        .query("select set_config('application_name', note, false) from other.many where n = 1");
    assert!(shows(&seen, "application_name.paid by [masked"), "{seen:?}");
    assert!(!shows(&seen, "4111"), "{seen:?}");
    // Other errors are the server's own.
    let seen = talk.query("select 1 / 0");
    assert!(shows(&seen, "division by zero"), "{seen:?}");
}
