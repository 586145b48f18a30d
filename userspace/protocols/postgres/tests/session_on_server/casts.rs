//! Casts that change nothing: the server leaves them out, and describes the column itself.

use super::*;

#[test]
fn a_cast_that_changes_nothing_is_the_column() {
    let server = server("casts");
    let mut talk = Talk::open(&server);
    talk.query("create domain word as text");
    talk.query(
        "create table typed (v varchar(50), n numeric(5,2), c char(3), a int[], x word, i int)",
    );
    talk.query("insert into typed values ('vee', 1.5, 'cee', '{7}', 'ex', 42)");
    for (sql, value) in [
        ("select v::varchar(50) from typed", "vee"),
        ("select v::varchar from typed", "vee"),
        ("select n::numeric(5,2) from typed", "1.50"),
        ("select c::char(3) from typed", "cee"),
        ("select a::int[] from typed", "{7}"),
        ("select x::word from typed", "ex"),
        ("select (typed.i)::int::int from typed", "42"),
        (
            "select k from (select v::varchar(50) as k from typed) s",
            "vee",
        ),
        ("update typed set v = 'wee' returning v::varchar(50)", "wee"),
    ] {
        let seen = talk.query(sql);
        let row = seen.iter().find(|line| line.starts_with("D "));
        assert!(
            row.is_some_and(|row| row.ends_with(value)),
            "{sql}: {seen:?}"
        );
    }
    talk.query("create table numbers (ssn varchar(50)); create view shown as select ssn::varchar(50) from customers");
    for sql in [
        "select ssn::text from customers",
        "select ssn::text::text from customers",
        "select coalesce(ssn::text) from customers",
        "select x from (select ssn::text as x from customers) s",
    ] {
        clean(&talk.query(sql));
        clean(&talk.exchange(&[parse("", sql), run("")].concat(), 1));
    }
}
