//! Cursors that functions opened.

use super::*;

const FUNCTIONS: &str = "
    create function opened(who text) returns refcursor language plpgsql as $$
        declare c refcursor := 'named';
        begin open c for select name, length(name) from customers where name = who; return c; end $$;
    create function opens_numbers() returns refcursor language plpgsql as $$
        declare c refcursor := 'numbers';
        begin open c for select name, ssn from customers; return c; end $$;
    create function declares(who text) returns void language sql as
        'declare made cursor for select name from customers where name = $1';
    create function opens_elsewhere() returns refcursor language plpgsql set search_path = other as $$
        declare c refcursor := 'elsewhere';
        begin open c for select v from twins; return c; end $$;
    create table twins (v text); insert into twins values ('here');
    create table other.twins (v text); insert into other.twins values ('there')";

fn prepared(talk: &mut Talk<'_>) {
    let seen = talk.query(FUNCTIONS);
    assert!(!seen.iter().any(|line| line.starts_with('E')), "{seen:?}");
}

#[test]
fn what_a_function_opened_can_be_fetched_and_is_masked() {
    let server = server("refcursors");
    let mut talk = Talk::open(&server);
    prepared(&mut talk);
    talk.query("begin");
    talk.query("select opened('Ann')");
    let seen = talk.query("fetch all from named");
    assert_eq!(rows(&seen), 1, "{seen:?}");
    assert!(seen.iter().any(|line| line.contains("Ann")), "{seen:?}");
    talk.query("select opens_numbers()");
    let seen = talk.query("fetch all in numbers");
    assert_eq!(rows(&seen), 2, "{seen:?}");
    clean(&seen);
    assert!(seen.iter().any(|line| line.contains("Ann")), "{seen:?}");
    talk.query("select declares('Ann')");
    let fetch = [parse("f", "fetch next from made"), run("f"), run("f")].concat();
    let seen = talk.exchange(&fetch, 2);
    assert_eq!(rows(&seen), 1, "{seen:?}");
    talk.query("commit");
    for name in ["named", "nosuch", "o'dd"] {
        let seen = talk.query(&format!("fetch next from \"{name}\""));
        assert!(seen[0].contains("C34000"), "{seen:?}");
        assert_eq!(seen.last().map(String::as_str), Some("Z I"), "{seen:?}");
    }
    talk.query("begin");
    let seen = talk.query("fetch next from nosuch");
    assert!(seen[0].contains("C34000"), "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("Z E"), "{seen:?}");
    talk.query("rollback");
}

#[test]
fn names_that_a_function_means_otherwise_are_not_taken_for_the_sessions() {
    let server = server("refcursor-path");
    let mut talk = Talk::open(&server);
    prepared(&mut talk);
    talk.query("begin");
    talk.query("select opens_elsewhere()");
    let seen = talk.query("fetch all from elsewhere");
    assert_eq!(rows(&seen), 0, "{seen:?}");
    assert!(seen.iter().any(|line| line.contains("C0A000")), "{seen:?}");
}

#[test]
fn what_is_held_is_not_fetched_by_way_of_a_function() {
    let server = server("refcursor-held");
    let mut talk = Talk::open(&server);
    talk.query("create table other.asked (v text); insert into other.asked values ('held')");
    talk.query(
        "create function opens_held() returns refcursor language plpgsql as $$ declare c refcursor := 'c'; \
         begin open c for select v from other.asked; return c; end $$",
    );
    let holds = talk.holds;
    let seen = talk.query("select v from other.asked");
    assert_eq!((rows(&seen), talk.holds), (1, holds + 1), "{seen:?}");
    talk.query("begin");
    talk.query("select opens_held()");
    let seen = talk.query("fetch all from c");
    assert!(seen[0].contains("C42501"), "{seen:?}");
    assert_eq!((rows(&seen), talk.holds), (0, holds + 1), "{seen:?}");
}
