//! What only the session's own connection knows, and what the server says of texts that are wrong.

use super::*;

fn errors(lines: &[String]) -> Vec<&String> {
    lines.iter().filter(|line| line.starts_with("E ")).collect()
}

#[test]
fn temporary_tables_and_those_of_the_open_transaction_are_known() {
    let server = server("own");
    let mut talk = Talk::open(&server);
    talk.query("create temp table mine (a int)");
    talk.query("insert into mine values (1), (2)");
    assert_eq!(rows(&talk.query("select * from mine")), 2);
    talk.query("begin");
    talk.query("create table made (a int); insert into made values (1)");
    assert_eq!(rows(&talk.query("select a from made")), 1);
    talk.query("alter table made add column b int default 5");
    assert_eq!(rows(&talk.query("select b from made")), 1);
    talk.query("rollback");
    let seen = talk.query("select a from made");
    assert!(
        errors(&seen)[0].contains("relation \"made\" does not exist"),
        "{seen:?}"
    );
    // A temporary table comes before the one of its name, whose masks are not its own.
    talk.query("create temp table customers (ssn text)");
    talk.query("insert into customers values ('mine')");
    let seen = talk.query("select ssn from customers");
    assert!(seen.iter().any(|line| line.contains("mine")), "{seen:?}");
    let seen = talk.query("select ssn from public.customers");
    clean(&seen);
    assert_eq!(rows(&seen), 2, "{seen:?}");
}

#[test]
fn what_follows_ddl_in_a_pipeline_waits_for_it() {
    let server = server("pipelined");
    let mut talk = Talk::open(&server);
    let one = |sql: &str| [parse("", sql), bind("", ""), execute("")].concat();
    let pipeline = [
        one("create table piped (a int)"),
        sync(),
        one("insert into piped values (1), (2)"),
        sync(),
        one("select a from piped"),
        sync(),
    ];
    let seen = talk.exchange(&pipeline.concat(), 3);
    assert!(errors(&seen).is_empty(), "{seen:?}");
    assert_eq!(rows(&seen), 2, "{seen:?}");
    // The same in one implicit transaction, which a question of ours must not end.
    let batch = [
        one("create table batched (a int)"),
        one("insert into batched values (1)"),
        one("select a from batched"),
        one("select 1/0"),
        sync(),
    ];
    let seen = talk.exchange(&batch.concat(), 1);
    assert_eq!(rows(&seen), 1, "{seen:?}");
    assert!(errors(&seen)[0].contains("division by zero"), "{seen:?}");
    let seen = talk.query("select a from batched");
    assert!(errors(&seen)[0].contains("does not exist"), "{seen:?}");
}

#[test]
fn the_server_says_what_is_wrong_with_a_text_and_never_runs_it() {
    let server = server("doubt");
    let mut talk = Talk::open(&server);
    for (sql, said) in [
        ("selec 1", "syntax error at or near \"selec\""),
        (
            "select nam from customers",
            "Perhaps you meant to reference the column \"customers.name\"",
        ),
        (
            "select 1; drop table; select 2",
            "syntax error at or near \";\"",
        ),
    ] {
        let seen = talk.query(sql);
        assert!(errors(&seen)[0].contains(said), "{sql}: {seen:?}");
        assert!(!errors(&seen)[0].contains("weir"), "{sql}: {seen:?}");
        assert_eq!(seen.last().map(String::as_str), Some("Z I"));
        let seen = talk.exchange(&[parse("", sql), run("")].concat(), 1);
        assert!(errors(&seen)[0].contains(said), "{sql}: {seen:?}");
        assert_eq!(seen.len(), 2, "{sql}: {seen:?}");
    }
    talk.query("begin");
    let seen = talk.query("select nosuch");
    assert_eq!(seen.last().map(String::as_str), Some("Z E"), "{seen:?}");
    let seen = talk.query("select name from customers");
    assert!(
        errors(&seen)[0].contains("current transaction is aborted"),
        "{seen:?}"
    );
    talk.query("rollback");
    // The server's parser takes it and Weir does not: it is refused, and the transaction fails.
    talk.query("begin");
    let seen = talk.query("set search_path = other, public; select name from customers");
    assert!(errors(&seen)[0].contains("weir: "), "{seen:?}");
    assert_eq!(errors(&seen).len(), 1, "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("Z E"), "{seen:?}");
    talk.query("rollback");
    let seen = talk.query("select name from customers");
    assert_eq!(rows(&seen), 2, "{seen:?}");
}

#[test]
fn defect_6_a_function_call_is_decided_and_recorded() {
    let server = server("function");
    let mut talk = Talk::open(&server);
    let call = |oid: u32, argument: &[u8]| {
        let mut body = BytesMut::new();
        body.put_u32(oid);
        body.put_slice(&[0, 1, 0, 1, 0, 1]);
        body.put_u32(u32::try_from(argument.len()).expect("short"));
        body.put_slice(argument);
        body.put_u16(1);
        frame(b'F', &body)
    };
    // lo_creat(int): large objects are what libpq still calls this way for.
    let seen = talk.exchange(&call(957, &(-1_i32).to_be_bytes()), 1);
    assert!(seen.iter().any(|line| line.starts_with("V ")), "{seen:?}");
    assert_eq!(talk.submitted("function call pg_catalog.lo_creat"), 1);
    // upper(text), and one that is not there: no description comes with the value.
    for oid in [871, 4_000_000_000] {
        let seen = talk.exchange(&call(oid, b"x"), 1);
        assert!(errors(&seen)[0].contains("weir: "), "{seen:?}");
        assert!(!seen.iter().any(|line| line.starts_with("V ")), "{seen:?}");
    }
    assert_eq!(rows(&talk.query("select name from customers")), 2);
}

#[test]
fn an_empty_statement_is_prepared_and_answered() {
    let server = server("empty");
    let mut talk = Talk::open(&server);
    for text in ["", "  -- nothing"] {
        let seen = talk.exchange(&[parse("e", text), run("e"), run("e")].concat(), 2);
        let empty = seen.iter().filter(|line| line.starts_with('I')).count();
        assert_eq!(empty, 2, "{seen:?}");
        talk.exchange(&[frame(b'C', b"Se\0"), sync()].concat(), 1);
    }
}

#[test]
fn a_sync_in_front_of_copy_data_is_read_over() {
    let server = server("early");
    let mut talk = Talk::open(&server);
    talk.query("create table copied (a int)");
    // As libpq sends it: the Sync goes with the Execute, and another one behind the data.
    let start = [parse("", "copy copied from stdin"), run("")].concat();
    talk.until(&start, |lines| {
        lines.iter().any(|line| line.starts_with('G'))
    });
    let data = [frame(b'd', b"1\n2\n"), frame(b'c', b""), sync()].concat();
    let seen = talk.exchange(&data, 1);
    assert!(errors(&seen).is_empty(), "{seen:?}");
    assert_eq!(rows(&talk.query("select a from copied")), 2);
}

#[test]
fn copy_data_right_behind_the_statement_are_not_lost() {
    let server = server("behind-copy");
    let mut talk = Talk::open(&server);
    talk.query("create table copied (a int)");
    // As asyncpg sends it, without waiting for the server to ask.
    let data = [frame(b'd', b"1\n2\n"), frame(b'c', b"")].concat();
    for _again in 0..20 {
        let simple = frame(b'Q', b"copy copied from stdin\0");
        let seen = talk.exchange(&[simple, data.clone()].concat(), 1);
        assert!(seen.iter().any(|line| line.contains("COPY 2")), "{seen:?}");
        let extended = [parse("", "copy copied from stdin"), bind("", "")];
        let behind = [execute(""), data.clone(), sync()];
        let seen = talk.exchange(&[extended.concat(), behind.concat()].concat(), 1);
        assert!(seen.iter().any(|line| line.contains("COPY 2")), "{seen:?}");
    }
    assert_eq!(rows(&talk.query("select a from copied")), 80);
    // What fails before it asks takes none, and the session goes on.
    let failing = frame(
        b'Q',
        b"copy copied (a) from stdin with (format csv, header 7)\0",
    );
    let seen = talk.exchange(&[failing, data].concat(), 1);
    assert!(errors(&seen).len() == 1, "{seen:?}");
    assert_eq!(rows(&talk.query("select a from copied")), 80);
}

#[test]
fn the_clients_encoding_may_be_named_as_the_server_does() {
    let server = server("unicode");
    let mut talk = Talk::open(&server);
    for name in ["'UNICODE'", "'utf_8'", "utf8", "'UTF-8'"] {
        let seen = talk.query(&format!("set client_encoding to {name}"));
        assert!(errors(&seen).is_empty(), "{name}: {seen:?}");
        assert_eq!(rows(&talk.query("select name from customers")), 2);
    }
    let seen = talk.query("set client_encoding to latin1");
    assert!(errors(&seen)[0].contains("weir: "), "{seen:?}");
}
