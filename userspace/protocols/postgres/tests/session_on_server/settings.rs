//! Settings whose names are parameters.

use super::*;

fn bind_both(first: &str, second: &str) -> Vec<u8> {
    let mut body = BytesMut::new();
    body.put_slice(b"\0s\0\0\0\0\x02");
    for value in [first, second] {
        body.put_u32(u32::try_from(value.len()).expect("short"));
        body.put_slice(value.as_bytes());
    }
    body.put_slice(&[0, 0]);
    frame(b'B', &body)
}

fn set(talk: &mut Talk<'_>, name: &str, value: &str) -> Vec<String> {
    let bytes = [bind_both(name, value), execute(""), sync()].concat();
    talk.exchange(&bytes, 1)
}

#[test]
fn a_setting_may_be_named_by_a_parameter_but_not_a_pinned_one() {
    let server = server("named-settings");
    let mut talk = Talk::open(&server);
    let text = "select set_config($1, $2, false)";
    talk.exchange(&[parse("s", text), sync()].concat(), 1);
    let seen = set(&mut talk, "app.tenant", "seven");
    assert!(seen.iter().any(|line| line.contains("seven")), "{seen:?}");
    let seen = talk.query("select current_setting('app.tenant')");
    assert!(seen.iter().any(|line| line.contains("seven")), "{seen:?}");
    for name in ["client_encoding", " Standard_Conforming_Strings "] {
        let seen = set(&mut talk, name, "off");
        assert!(seen[0].contains("weir: "), "{name}: {seen:?}");
        assert_eq!(seen.last().map(String::as_str), Some("Z I"), "{seen:?}");
    }
    let holds = talk.holds;
    let seen = set(&mut talk, "app.asked", "x");
    assert!(seen[0].contains("C42501"), "{seen:?}");
    assert_eq!(talk.holds, holds);
    // Names mean something else afterwards.
    set(&mut talk, "search_path", "other");
    let seen = talk.query("select name from customers");
    assert!(seen.iter().any(|line| line.contains("open")), "{seen:?}");
}

#[test]
fn a_name_that_is_made_at_the_server_is_refused() {
    let server = server("made-settings");
    let mut talk = Talk::open(&server);
    for text in [
        "select set_config(lower($1), $2, false)",
        "select set_config($1::char(3), $2, false)",
        "prepare p as select set_config($1, 'off', false)",
    ] {
        let seen = talk.exchange(&[parse("", text), sync()].concat(), 1);
        assert!(seen[0].contains("weir: "), "{text}: {seen:?}");
    }
    // A parameter of another type is cast.
    let mut body = BytesMut::new();
    body.put_slice(b"\0select set_config($1, $2, false)\0\0\x01");
    body.put_u32(1042);
    let seen = talk.exchange(&[frame(b'P', &body), sync()].concat(), 1);
    assert!(seen[0].contains("weir: "), "{seen:?}");
    talk.query(
        "create function to_text(int) returns text language sql as 'select ''client_encoding'''",
    );
    talk.query("create type named as (n int)");
    talk.query(
        "create function of(named) returns text language sql as 'select ''client_encoding'''",
    );
    talk.query("create cast (named as text) with function of(named) as implicit");
    let text = "select set_config($1, $2, false)";
    let seen = talk.exchange(&[parse("", text), sync()].concat(), 1);
    assert!(seen[0].contains("weir: "), "{seen:?}");
}
