//! Writes whose effect is approved: shown before it stays, gone when it is not approved.

use super::*;

impl Talk<'_> {
    /// Sends a statement and stops where a reviewer is asked.
    fn shown(&mut self, sql: &str) -> weir_model::effect::Effect {
        self.asks = true;
        self.held = None;
        let message = frame(b'Q', &[sql.as_bytes(), b"\0"].concat());
        let seen = self.until(&message, |lines| {
            lines.iter().any(|line| line.contains("held for approval"))
        });
        assert_eq!(seen.len(), 1, "more than the notice went out: {seen:?}");
        self.effect_held()
    }

    /// The same with messages of the extended protocol.
    fn shown_in_batch(&mut self, messages: &[u8]) -> weir_model::effect::Effect {
        self.asks = true;
        self.held = None;
        let seen = self.until(messages, |lines| {
            lines.iter().any(|line| line.contains("held for approval"))
        });
        let early = |line: &&String| matches!(line.as_bytes(), [b'D' | b'C' | b'Z', b' ', ..]);
        assert_eq!(seen.iter().find(early), None, "it went out early");
        self.effect_held()
    }

    fn shown_in_batch_again(&mut self) -> weir_model::effect::Effect {
        let before = self.holds;
        for _step in 0..4000 {
            if self.holds > before {
                return self.effect_held();
            }
            self.step();
        }
        panic!("nobody was asked: {:?}", lines(&self.seen));
    }

    fn effect_held(&mut self) -> weir_model::effect::Effect {
        let held = self.held.take().expect("a held request");
        assert!(held.in_transaction, "it has the shorter limit");
        held.effect.expect("an effect")
    }

    fn refused(&mut self, sql: &str, why: &str) {
        let before = self.holds;
        let seen = self.query(sql);
        assert!(
            seen.iter().any(|line| line.contains(why)),
            "{sql}: {seen:?}"
        );
        assert_eq!(self.holds, before, "{sql}: somebody was asked");
    }
}

/// As another connection sees it.
fn there(server: &Server, sql: &str) -> String {
    Server::runtime().block_on(async {
        let client = server.client().await;
        let answer = client.simple_query(sql).await.expect(sql);
        let rows = answer.iter().filter_map(|message| {
            let SimpleQueryMessage::Row(row) = message else {
                return None;
            };
            Some(row.get(0).unwrap_or("null").to_owned())
        });
        rows.collect::<Vec<_>>().join(" ")
    })
}

fn cells(row: &[Option<String>]) -> Vec<&str> {
    row.iter()
        .map(|cell| cell.as_deref().unwrap_or("null"))
        .collect()
}

#[test]
fn an_effect_is_shown_masked_and_stays_once_it_is_approved() {
    let server = server("effect");
    let mut talk = Talk::open(&server);
    let effect = talk.shown("update shop.stock set item = 'new' where id < 3 returning id, ssn");
    assert_eq!(effect.tag, "UPDATE 2");
    let [stock] = effect.changed.as_slice() else {
        panic!("{effect:?}");
    };
    assert_eq!(stock.table, "shop.stock");
    assert_eq!(stock.columns, ["id", "item", "ssn"]);
    assert_eq!(cells(&stock.before[0]), ["1", "item 1", "[redacted]"]);
    assert_eq!(cells(&stock.after[1]), ["2", "new", "[redacted]"]);
    assert_eq!((stock.before.len(), stock.after.len()), (2, 2));
    assert!(!stock.more && !stock.withheld);
    let count = "select count(*) from shop.stock where item = 'new'";
    assert_eq!(
        there(&server, count),
        "0",
        "it stays before anybody approved"
    );
    let seen = talk.decide(true);
    clean(&seen);
    assert_eq!(rows(&seen), 2, "{seen:?}");
    assert!(
        seen.iter().any(|line| line.contains("C UPDATE 2")),
        "{seen:?}"
    );
    assert_eq!(seen.last().map(String::as_str), Some("Z I"));
    assert_eq!(there(&server, count), "2");
    talk.asks = false;
    assert_eq!(rows(&talk.query("select 1")), 1);
}

#[test]
fn what_is_denied_leaves_nothing_and_the_session_goes_on() {
    let server = server("undone");
    let mut talk = Talk::open(&server);
    let effect =
        talk.shown("insert into shop.stock select g, 'x', 'y' from generate_series(100, 150) g");
    assert_eq!(effect.tag, "INSERT 0 51");
    let [stock] = effect.changed.as_slice() else {
        panic!("{effect:?}");
    };
    assert_eq!(
        (stock.before.len(), stock.after.len(), stock.more),
        (0, 20, true)
    );
    let seen = talk.decide(false);
    assert!(seen.iter().any(|line| line.contains("42501")), "{seen:?}");
    assert!(!seen.iter().any(|line| line.contains("INSERT")), "{seen:?}");
    assert_eq!(there(&server, "select count(*) from shop.stock"), "30");
    let open = "select count(*) from pg_stat_activity where state like 'idle in%'";
    assert_eq!(there(&server, open), "0", "a transaction was left open");
    assert_eq!(rows(&talk.query("select 1")), 1);
}

#[test]
fn within_a_transaction_of_the_agent_it_is_part_of_that() {
    let server = server("within");
    let mut talk = Talk::open(&server);
    talk.query("begin");
    talk.asks = false;
    talk.query("update shop.stock set item = 'first' where id = 1");
    let effect = talk.shown("update shop.stock set item = 'second' where id in (2, 3)");
    let [stock] = effect.changed.as_slice() else {
        panic!("{effect:?}");
    };
    // What an earlier statement did is not shown as this one's.
    assert_eq!((stock.before.len(), stock.after.len()), (2, 2), "{stock:?}");
    let seen = talk.decide(true);
    assert_eq!(seen.last().map(String::as_str), Some("Z T"), "{seen:?}");
    talk.query("commit");
    let changed = "select count(*) from shop.stock where item in ('first', 'second')";
    assert_eq!(there(&server, changed), "3");
    talk.query("begin");
    talk.shown("update shop.stock set item = 'third'");
    let seen = talk.decide(false);
    assert_eq!(seen.last().map(String::as_str), Some("Z E"), "{seen:?}");
    talk.query("commit");
    assert_eq!(there(&server, changed), "3", "a denied write stayed");
}

#[test]
fn what_cannot_be_undone_or_shown_is_refused_before_it_runs() {
    let server = server("unshown");
    let mut talk = Talk::open(&server);
    talk.asks = true;
    for (sql, why) in [
        ("insert into shop.watched values (1)", "trigger"),
        (
            "update shop.stock set item = lo_create(0)::text",
            "rollback",
        ),
        (
            "update shop.stock set item = pg_notify('a', 'b')::text",
            "rollback",
        ),
        ("update shop.stock set item = 'a'; commit", "one statement"),
        (
            "update shop.stock set item = 'a'; update shop.stock set item = 'b'",
            "one statement",
        ),
        ("update shop.parent set id = 2", "foreign key"),
    ] {
        talk.refused(sql, why);
    }
    let portions = frame(b'E', b"\0\0\0\0\x05");
    let update = parse("", "update shop.stock set item = 'a' returning id");
    let seen = talk.exchange(&[update, bind("", ""), portions, sync()].concat(), 1);
    assert!(
        seen.iter().any(|line| line.contains("portions")),
        "{seen:?}"
    );
    talk.refused("update shop.stock set item = ssn", "cannot be masked");
    assert_eq!(
        there(&server, "select count(*) from shop.stock where item = 'a'"),
        "0"
    );
    assert_eq!(
        there(&server, "select count(*) from pg_largeobject_metadata"),
        "0"
    );
}

#[test]
fn rows_that_the_agent_may_not_read_are_shown_to_nobody() {
    let server = server("withheld");
    let mut talk = Talk::open(&server);
    let effect = talk.shown("insert into shop.vault values (2, 'more')");
    let [vault] = effect.changed.as_slice() else {
        panic!("{effect:?}");
    };
    assert!(vault.withheld && vault.after.is_empty(), "{vault:?}");
    talk.decide(true);
    assert_eq!(there(&server, "select count(*) from shop.vault"), "2");
}

#[test]
fn a_statement_that_fails_is_the_servers_error_and_asks_nobody() {
    let server = server("fails");
    let mut talk = Talk::open(&server);
    talk.asks = true;
    talk.refused("insert into shop.stock values (1, 'twice', 'x')", "23505");
    talk.query("begin");
    talk.refused("insert into shop.stock values (1, 'twice', 'x')", "23505");
    talk.query("rollback");
    assert_eq!(rows(&talk.query("select 1")), 1);
    let open = "select count(*) from pg_stat_activity where state like 'idle in%'";
    assert_eq!(there(&server, open), "0");
}

#[test]
fn a_cancelled_wait_undoes_it() {
    let server = server("cancelled");
    let mut talk = Talk::open(&server);
    talk.shown("update shop.stock set item = 'gone'");
    let now = talk.now();
    talk.session.handle(Event::CancelAsked, now);
    let seen = talk.exchange(b"", 1);
    assert!(seen.iter().any(|line| line.contains("57014")), "{seen:?}");
    assert_eq!(
        there(
            &server,
            "select count(*) from shop.stock where item = 'gone'"
        ),
        "0"
    );
}

#[test]
fn a_prepared_write_is_shown_within_its_batch_and_commits_with_it() {
    let server = server("batch");
    let mut talk = Talk::open(&server);
    let update = "update shop.stock set item = $1 where id < 3 returning id, ssn";
    let begun = [parse("", update), bind_text("", "new"), execute(""), sync()].concat();
    let effect = talk.shown_in_batch(&begun);
    assert_eq!(effect.tag, "UPDATE 2");
    let [stock] = effect.changed.as_slice() else {
        panic!("{effect:?}");
    };
    assert_eq!(cells(&stock.before[0]), ["1", "item 1", "[redacted]"]);
    assert_eq!(cells(&stock.after[1]), ["2", "new", "[redacted]"]);
    let count = "select count(*) from shop.stock where item = 'new'";
    assert_eq!(there(&server, count), "0", "it stays before the decision");
    let seen = talk.decide(true);
    clean(&seen);
    assert_eq!(rows(&seen), 2, "{seen:?}");
    let tail: Vec<&str> = seen.iter().rev().take(2).map(String::as_str).collect();
    assert_eq!(tail, ["Z I", "C UPDATE 2."]);
    assert_eq!(there(&server, count), "2");
    // The unnamed statement is the agent's still, and nothing of ours is left.
    talk.shown_in_batch(&[bind_text("", "newer"), execute(""), sync()].concat());
    talk.decide(true);
    assert_eq!(there(&server, count), "0");
    talk.asks = false;
    let left = "select count(*) from pg_prepared_statements where name like 'weir%'";
    let seen = talk.query(left);
    assert!(
        seen.iter()
            .any(|line| line.starts_with("D ") && line.ends_with(".0")),
        "{seen:?}"
    );
}

#[test]
fn a_denied_portal_fails_its_batch_and_what_ran_before_in_it() {
    let server = server("batch_denied");
    let mut talk = Talk::open(&server);
    let write = |id: u32| {
        let sql = format!("update shop.stock set item = 'denied' where id = {id}");
        [parse("", &sql), bind("", ""), execute("")].concat()
    };
    talk.shown_in_batch(&[write(1), write(2), sync()].concat());
    let now = talk.now();
    talk.decided(true, now);
    let effect = talk.shown_in_batch_again();
    // What the one before did is not shown as this one's.
    assert_eq!(effect.changed[0].after.len(), 1, "{effect:?}");
    let seen = talk.decide(false);
    assert!(seen.iter().any(|line| line.contains("42501")), "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("Z I"));
    let count = "select count(*) from shop.stock where item = 'denied'";
    assert_eq!(there(&server, count), "0");
    // Within a transaction of the agent the denial fails that.
    talk.query("begin");
    talk.shown_in_batch(&[write(3), sync()].concat());
    let seen = talk.decide(false);
    assert_eq!(seen.last().map(String::as_str), Some("Z E"), "{seen:?}");
    talk.query("rollback");
    talk.shown_in_batch(&[write(4), sync()].concat());
    talk.decide(true);
    assert_eq!(there(&server, count), "1");
}

#[test]
fn a_portal_that_fails_is_the_servers_error_and_asks_nobody() {
    let server = server("batch_fails");
    let mut talk = Talk::open(&server);
    talk.asks = true;
    let insert = "insert into shop.stock values ($1::int, 'twice', 'x')";
    let value = |text: &str| [parse("", insert), bind_text("", text), execute(""), sync()].concat();
    for (text, code) in [("1", "23505"), ("one", "22P02")] {
        for round in 0..2 {
            let seen = talk.exchange(&value(text), 1);
            let said = seen.iter().any(|line| line.contains(code));
            assert!(said, "{text} {round}: {seen:?}");
            assert_eq!(seen.iter().filter(|line| line.starts_with('E')).count(), 1);
            assert_eq!(seen.last().map(String::as_str), Some("Z I"));
        }
    }
    assert_eq!(talk.holds, 0, "somebody was asked");
    // Something before it in the batch fails: it does not run either.
    let failing = [
        parse("", "select 1/(id - 1) from shop.stock"),
        bind("", ""),
        execute(""),
    ];
    let seen = talk.exchange(&[failing.concat(), value("77")].concat(), 1);
    assert!(seen.iter().any(|line| line.contains("22012")), "{seen:?}");
    assert_eq!(talk.holds, 0, "somebody was asked");
    talk.shown_in_batch(&value("78"));
    talk.decide(true);
    assert_eq!(there(&server, "select max(id) from shop.stock"), "78");
}

#[test]
fn a_cancelled_wait_fails_its_batch() {
    let server = server("batch_cancelled");
    let mut talk = Talk::open(&server);
    let update = parse("", "update shop.stock set item = 'gone'");
    talk.shown_in_batch(&[update, run("")].concat());
    let now = talk.now();
    talk.session.handle(Event::CancelAsked, now);
    let seen = talk.exchange(b"", 1);
    assert!(seen.iter().any(|line| line.contains("57014")), "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("Z I"));
    let count = "select count(*) from shop.stock where item = 'gone'";
    assert_eq!(there(&server, count), "0");
}
