//! Who may only read has read-only transactions at the server, and no way out of them.

use super::*;

const READS: &str = r#"
@id("reads") permit (principal, action in [Postgres::Action::"select", Postgres::Action::"readColumn",
    Postgres::Action::"usePredicate", Postgres::Action::"set", Postgres::Action::"show",
    Postgres::Action::"session", Postgres::Action::"transaction", Postgres::Action::"parse"],
    resource in Weir::Target::"t");
@id("pools") permit (principal, action == Postgres::Action::"call",
    resource == Postgres::Function::"t/postgres/pg_catalog/pg_advisory_unlock_all");
"#;

impl Talk<'_> {
    /// Another policy is in force from here on.
    fn under(&mut self, policies: &str) {
        let now = self.now();
        let bound = Box::new(bound(&compiled(policies)));
        self.session.handle(Event::Policy(bound), now);
    }

    #[track_caller]
    fn shows(&mut self, setting: &str, value: &str) {
        let seen = self.query(&format!("show {setting}"));
        let row = seen.iter().find(|line| line.starts_with("D "));
        assert!(
            row.is_some_and(|row| row.ends_with(&format!(".{value}"))),
            "{setting}: {seen:?}"
        );
    }

    #[track_caller]
    fn answers(&mut self, sql: &str, code: &str) {
        let seen = self.query(sql);
        assert!(
            seen.iter().any(|line| line.contains(code)),
            "{sql}: {seen:?}"
        );
    }
}

#[test]
fn who_only_reads_has_read_only_transactions() {
    let server = server("only-reads");
    let mut talk = Talk::open(&server);
    talk.shows("default_transaction_read_only", "off");
    talk.under(READS);
    talk.shows("default_transaction_read_only", "on");
    talk.shows("transaction_read_only", "on");
    talk.query("begin");
    talk.shows("transaction_read_only", "on");
    talk.query("commit");
    for sql in [
        "begin read write",
        "start transaction isolation level serializable, read write",
        "set transaction read write",
        "set session characteristics as transaction read write",
        "set default_transaction_read_only = off",
        "set local transaction_read_only to 'false'",
        "reset default_transaction_read_only",
        "reset transaction_read_only",
        "select set_config('transaction_read_only', 'off', true)",
        "select set_config(name, 'off', false) from pg_settings where name = 'default_transaction_read_only'",
        "reset all; commit; select 1",
        "reset all; begin; select 1",
    ] {
        talk.answers(sql, "25006");
        talk.shows("default_transaction_read_only", "on");
        talk.shows("transaction_read_only", "on");
    }
    // What pools and drivers say goes on to work, and changes nothing.
    for sql in [
        "begin read only",
        "commit",
        "set default_transaction_read_only = on",
        "set session characteristics as transaction read only",
        "select pg_advisory_unlock_all(); close all; unlisten *; reset all",
        "discard all",
    ] {
        let seen = talk.query(sql);
        assert!(
            !seen
                .iter()
                .any(|line| line.starts_with("E ") && line.contains("25006")),
            "{sql}: {seen:?}"
        );
        talk.shows("transaction_read_only", "on");
    }
}

#[test]
fn a_reset_in_a_batch_or_transaction_opens_nothing() {
    let server = server("only-reads-reset");
    let mut talk = Talk::open(&server);
    talk.under(READS);
    talk.query("begin");
    talk.query("reset all");
    talk.answers("commit; select 1", "25006");
    talk.query("rollback");
    talk.shows("transaction_read_only", "on");
    // Everything behind the reset is refused up to the end of the batch.
    let batch = [
        parse("a", "reset all"),
        bind("", "a"),
        execute(""),
        parse("b", "commit"),
        bind("", "b"),
        execute(""),
        sync(),
    ];
    let seen = talk.exchange(&batch.concat(), 1);
    assert!(seen.iter().any(|line| line.contains("25006")), "{seen:?}");
    talk.shows("transaction_read_only", "on");
}

#[test]
fn another_policy_lets_the_session_write_again() {
    let server = server("reads-then-writes");
    let mut talk = Talk::open(&server);
    talk.under(READS);
    talk.shows("transaction_read_only", "on");
    let seen = talk.exchange(&[parse("w", "begin"), sync()].concat(), 1);
    assert!(seen[0].starts_with('1'), "{seen:?}");
    talk.under(POLICIES);
    talk.answers("insert into other.slow values (2)", "INSERT 0 1");
    talk.shows("default_transaction_read_only", "off");
    // Within a transaction nothing changes any more.
    talk.query("begin");
    talk.answers("insert into other.slow values (3)", "INSERT 0 1");
    talk.under(READS);
    talk.answers("insert into other.slow values (4)", "42501");
    talk.query("rollback");
    talk.shows("transaction_read_only", "on");
}
