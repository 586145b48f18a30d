//! Defects that were seen in other products, by number, and what policy limits. The list, with tests
//! elsewhere:
//!
//! 1. A statement behind much padding was forwarded with no verdict.
//! 2. What cannot be decoded, or is not whole yet, was forwarded.
//! 3. COPY, aliases, transformed and split columns were not masked.
//! 4. Statements described once lost their masks; binary cells were broken by masks for text.
//! 5. Only Parse was recorded: no execution, no parameter.
//! 6. FunctionCall (also in `own_names`), `U&"…"` and COPY … TO PROGRAM were not seen.
//! 7. A denial ended the connection and the transaction.
//! 8. Data passed when the masking service was down: `mask/tests/kinds.rs`, and here.
//! 9. What a grant let begin outlived it: `state/tests/grants.rs`, and here.
//! 10. No cancel; no rows in the record; records cut without a mark.

use super::*;

fn shows(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

/// Bytes of the protocol that went to the server since the last look, but for a good-bye.
fn forwarded(talk: &mut Talk<'_>) -> Vec<u8> {
    let mut sent = std::mem::take(&mut talk.sent);
    if sent.ends_with(&frame(b'X', b"")) {
        sent.truncate(sent.len() - 5);
    }
    sent
}

#[test]
fn defect_1_padding_hides_no_statement() {
    let server = server("defect-one");
    let mut talk = Talk::open(&server);
    talk.query("select 1");
    let padding = format!("/* {} */", "x".repeat(9 << 20));
    let padded = format!("{padding} truncate customers");
    for message in [
        frame(b'Q', &[padded.as_bytes(), b"\0"].concat()),
        [parse("", &padded), run("")].concat(),
    ] {
        forwarded(&mut talk);
        let seen = talk.exchange(&message, 1);
        assert!(
            shows(&seen, "42501") && shows(&seen, "no-truncate"),
            "{seen:?}"
        );
        let sent = forwarded(&mut talk);
        assert!(sent.len() < 1024, "{} bytes were forwarded", sent.len());
        let denied = talk.facts.last().expect("a record");
        assert_eq!(&*denied.rule, "no-truncate");
        assert!(denied.statement.ends_with("truncate customers"));
    }
    // One that is permitted runs, however long it is.
    let seen = talk.query(&format!("{padding} select name from customers"));
    assert_eq!(rows(&seen), 2);
    // Beyond the limit there is no verdict, so nothing is forwarded, and that is in the record.
    forwarded(&mut talk);
    let longer = format!("/* {} */ truncate customers", "x".repeat(16 << 20));
    let seen = talk.until(
        &frame(b'Q', &[longer.as_bytes(), b"\0"].concat()),
        |_lines| false,
    );
    assert!(shows(&seen, "54000") && talk.closed, "{seen:?}");
    assert_eq!(forwarded(&mut talk), b"");
    assert!(
        talk.facts
            .iter()
            .any(|fact| &*fact.rule == "weir:too-large")
    );
    let mut talk = Talk::open(&server);
    assert_eq!(rows(&talk.query("select name from customers")), 2);
}

#[test]
fn defect_2_what_is_not_whole_or_not_understood_is_not_forwarded() {
    let server = server("defect-two");
    // Cut anywhere, nothing leaves before the last byte and the verdict.
    let mut talk = Talk::open(&server);
    talk.query("select 1");
    forwarded(&mut talk);
    let whole = frame(b'Q', b"select name from customers\0");
    let (last, head) = whole.split_last().expect("bytes");
    for byte in head {
        talk.client_in.put_u8(*byte);
        talk.step();
        assert_eq!(forwarded(&mut talk), b"");
    }
    let seen = talk.exchange(&[*last], 1);
    assert_eq!(rows(&seen), 2, "{seen:?}");
    assert_eq!(forwarded(&mut talk), whole);
    let mut long = frame(b'Q', b"select 1\0");
    long[1..5].copy_from_slice(&0x7fff_ffff_u32.to_be_bytes());
    let mut short = frame(b'Q', b"select 1\0");
    short[1..5].copy_from_slice(&3_u32.to_be_bytes());
    for (bytes, code) in [
        (frame(b'Q', b"truncate customers"), "08P01"),
        (frame(b'Q', b"truncate customers\0\0"), "08P01"),
        (frame(b'Q', b"truncate customers -- \xff\0"), "22021"),
        (frame(b'?', b"truncate customers\0"), "08P01"),
        (frame(b'P', b"\0truncate customers\0\0\x05"), "08P01"),
        (frame(b'B', b"\0\0\0\x01\0\x01"), "08P01"),
        (frame(b'E', b"\0\0"), "08P01"),
        (long, "54000"),
        (short, "08P01"),
    ] {
        let mut talk = Talk::open(&server);
        talk.query("select 1");
        forwarded(&mut talk);
        let seen = talk.until(&bytes, |_lines| false);
        assert!(shows(&seen, code) && talk.closed, "{bytes:?}: {seen:?}");
        assert_eq!(forwarded(&mut talk), b"", "{bytes:?}");
        let refused = ["weir:malformed", "weir:too-large"];
        assert!(
            (talk.facts.iter()).any(|fact| refused.contains(&&*fact.rule)),
            "{bytes:?}"
        );
    }
}

#[test]
fn defect_3_copy_aliases_and_transformed_columns_are_masked() {
    let server = server("defect-three");
    let mut talk = Talk::open(&server);
    for (sql, tag) in [
        ("copy customers to stdout", "d "),
        ("copy customers (ssn, name) to stdout (format csv)", "d "),
        ("copy customers to stdout (format binary)", "d "),
        (
            "copy (select ssn as id, name from customers) to stdout",
            "d ",
        ),
        ("select name, ssn as id from customers", "D "),
    ] {
        let seen = talk.query(sql);
        clean(&seen);
        assert!(
            shows(&seen, "[redacted]") && shows(&seen, "Ann"),
            "{sql}: {seen:?}"
        );
        assert!(
            seen.iter().filter(|line| line.starts_with(tag)).count() >= 2,
            "{sql}: {seen:?}"
        );
    }
    for sql in [
        "select name, reverse(ssn) from customers",
        "select name, encode(ssn::bytea, 'base64') from customers",
        "select name, substr(ssn, 1, 6), substr(ssn, 7) from customers",
    ] {
        let seen = talk.query(sql);
        for part in [SECRET, "2222-11-009", "OTAwLTEx", "900-11", "-2222"] {
            assert!(!shows(&seen, part), "{sql}: {seen:?}");
        }
        assert!(rows(&seen) == 2 && shows(&seen, "Ann"), "{sql}: {seen:?}");
    }
}

#[test]
fn defect_4_a_statement_described_once_keeps_its_masks_in_binary() {
    let server = server("defect-four");
    let mut talk = Talk::open(&server);
    let describe = frame(b'D', b"Sp\0");
    let sql = "select id, ssn, name from customers where id = 1";
    talk.exchange(&[parse("p", sql), describe, sync()].concat(), 1);
    let binary = frame(b'B', b"\0p\0\0\0\0\0\0\x01\0\x01");
    for _ in 0..100 {
        let seen = talk.exchange(&[binary.clone(), execute(""), sync()].concat(), 1);
        clean(&seen);
        // 3 columns; 4 bytes of int4, then the masked text, then the name.
        let expected = "D ..............[redacted]....Ann";
        assert!(seen.iter().any(|line| line == expected), "{seen:?}");
    }
}

#[test]
fn defect_5_every_execution_is_a_record_with_its_parameters() {
    const EXECUTIONS: usize = 2000;
    let server = server("defect-five");
    let mut talk = Talk::open(&server);
    talk.exchange(&[parse("p", "select $1::text"), sync()].concat(), 1);
    let prepared = talk.submitted("select $1");
    for batch in (0..EXECUTIONS).collect::<Vec<_>>().chunks(100) {
        let each = |number: &usize| [bind_text("p", &format!("value-{number}")), execute("")];
        let messages: Vec<_> = batch.iter().flat_map(each).collect();
        let seen = talk.exchange(&[messages.concat(), sync()].concat(), 1);
        assert_eq!(rows(&seen), batch.len());
    }
    assert_eq!(talk.submitted("select $1") - prepared, EXECUTIONS);
    for number in 0..EXECUTIONS {
        let value = format!("\"value-{number}\"");
        let with =
            |fact: &&Fact| fact.kind == FactKind::Request && fact.parameters.contains(&value);
        assert_eq!(talk.facts.iter().filter(with).count(), 1, "{value}");
    }
    // Each has its answer, with the row that came back.
    let answers = (talk.facts.iter())
        .filter(|fact| fact.kind == FactKind::Reply && fact.response_masked.contains("value-"));
    assert_eq!(answers.count(), EXECUTIONS);
}

#[test]
fn defect_6_other_spellings_and_programs_are_seen() {
    let server = server("defect-six");
    let mut talk = Talk::open(&server);
    for sql in [
        r#"select name, ssn from U&"cust\006Fmers""#,
        r#"select name, U&"s\0073n" from U&"c!0075stomers" UESCAPE '!'"#,
        r#"select name, ssn from "customers""#,
        "SELECT NAME, SSN FROM PUBLIC.CUSTOMERS",
    ] {
        let seen = talk.query(sql);
        clean(&seen);
        assert!(
            rows(&seen) == 2 && shows(&seen, "[redacted]"),
            "{sql}: {seen:?}"
        );
    }
    let seen = talk.query(r#"truncate U&"cust\006Fmers""#);
    assert!(shows(&seen, "no-truncate"), "{seen:?}");
    let out = server.directory.join("out");
    let program = format!("cat > {}", out.display());
    for sql in [
        format!("copy other.customers to program '{program}'"),
        format!("copy (select 1) to program '{program}'"),
    ] {
        let seen = talk.query(&sql);
        assert!(shows(&seen, "42501"), "{sql}: {seen:?}");
        let denied = talk.facts.last().expect("a record");
        assert_eq!(&*denied.rule, "no-program");
        assert!(
            denied
                .effects
                .iter()
                .any(|effect| &**effect == "runProgram"),
            "{:?}",
            denied.effects
        );
    }
    assert!(!out.exists());
}

#[test]
fn defect_7_a_denial_keeps_connection_and_savepoint() {
    let server = server("defect-seven");
    let mut talk = Talk::open(&server);
    // Outside a transaction nothing is lost.
    let seen = talk.query("truncate customers");
    assert!(shows(&seen, "42501"), "{seen:?}");
    assert_eq!(seen.last().map(String::as_str), Some("Z I"));
    // Inside, it is what an error is: the savepoint before it brings everything back.
    for denied in [
        frame(b'Q', b"truncate customers\0"),
        [parse("", "truncate customers"), run("")].concat(),
    ] {
        talk.query("begin");
        talk.query("insert into other.customers values (2, 'kept', '')");
        talk.query("savepoint s");
        let seen = talk.exchange(&denied, 1);
        assert!(shows(&seen, "no-truncate"), "{seen:?}");
        assert_eq!(seen.last().map(String::as_str), Some("Z E"));
        let seen = talk.query("select 1");
        assert!(shows(&seen, "25P02"), "{seen:?}");
        talk.query("rollback to s");
        let seen = talk.query("select name from other.customers where id = 2");
        assert!(shows(&seen, "kept"), "{seen:?}");
        let seen = talk.query("rollback");
        assert_eq!(seen.last().map(String::as_str), Some("Z I"));
    }
    assert!(!talk.closed);
}

#[test]
fn defect_8_without_detectors_the_values_are_withheld() {
    let server = server("defect-eight");
    let mut talk = Talk::without_detectors(&server);
    let seen = talk.query("select note, n from other.many where n = 1");
    assert!(!shows(&seen, "4111") && rows(&seen) == 1, "{seen:?}");
}

#[test]
fn defect_9_what_runs_under_a_grant_ends_with_it() {
    let server = server("defect-nine");
    let mut talk = Talk::open(&server);
    talk.query("select 1");
    // A reviewer's word lets the DELETE begin; it is still running when that word is over.
    let slow = "delete from customers where pg_sleep(60) is not null";
    talk.client_in
        .extend_from_slice(&frame(b'Q', &[slow.as_bytes(), b"\0"].concat()));
    while talk.holds == 0 {
        talk.step();
    }
    talk.step();
    let grant = ApprovalId(talk.holds as u128);
    assert_eq!(talk.session.under(), [grant]);
    let now = talk.now();
    talk.session
        .handle(Event::GrantEnded { approval: grant }, now);
    let seen = talk.until(b"", |_lines| false);
    assert!(shows(&seen, "57P01") && talk.closed, "{seen:?}");
    // Another one's end is none of this session's business.
    let mut talk = Talk::open(&server);
    talk.query("select 1");
    let now = talk.now();
    talk.session
        .handle(Event::GrantEnded { approval: grant }, now);
    assert_eq!(rows(&talk.query("select name from customers")), 2);
}

#[test]
fn defect_10_a_cancel_reaches_the_server() {
    let server = server("defect-ten");
    let mut talk = Talk::open(&server);
    talk.query("select 1");
    talk.client_in
        .extend_from_slice(&frame(b'Q', b"select pg_sleep(600)\0"));
    for _step in 0..20 {
        talk.step();
    }
    let now = talk.now();
    talk.session.handle(Event::CancelAsked, now);
    let seen = talk.exchange(b"", 1);
    assert!(shows(&seen, "57014"), "{seen:?}");
    assert_eq!(rows(&talk.query("select name from customers")), 2);
}

#[test]
fn defect_10_the_record_has_rows_and_says_when_it_lacks_some() {
    let server = server("defect-ten-record");
    let mut talk = Talk::open(&server);
    talk.query("select name, ssn from customers");
    let last = talk.facts.last().expect("a record");
    assert_eq!((last.kind, last.rows), (FactKind::Reply, 2));
    assert!(last.response_masked.contains("Ann"));
    assert!(!last.response_masked.contains(SECRET) && !last.truncated);
    talk.query("select n from generate_series(1, 100) n");
    let last = talk.facts.last().expect("a record");
    assert_eq!((last.kind, last.rows), (FactKind::Reply, 100));
    assert!(last.truncated);
    // A statement is recorded whole, however long: a large one apart.
    for (length, kind) in [(50_000, FactKind::Request), (100_000, FactKind::Value)] {
        let long = format!("select '{}' as long, 'the end'", "x".repeat(length));
        talk.query(&long);
        let whole = |fact: &&Fact| fact.kind == kind && *fact.statement == *long;
        assert_eq!(talk.facts.iter().filter(whole).count(), 1);
    }
}

#[test]
fn a_result_that_is_cut_off_leaves_a_usable_session() {
    let server = server("cut-off");
    let mut talk = Talk::open(&server);
    let many = "select n from other.many order by n";
    let seen = talk.query(many);
    assert_eq!(rows(&seen), 3, "{seen:?}");
    assert!(
        shows(&seen, "54000") && !shows(&seen, "SELECT 10"),
        "{seen:?}"
    );
    let seen = talk.query("select 41 + 1");
    assert!(shows(&seen, "42"), "{seen:?}");
    // In a transaction the server fails as well.
    talk.query("begin");
    let seen = talk.query(many);
    assert!(seen.last().is_some_and(|line| line == "Z E"), "{seen:?}");
    let seen = talk.query("select 1");
    assert!(shows(&seen, "25P02"), "{seen:?}");
    let seen = talk.query("rollback");
    assert!(seen.last().is_some_and(|line| line == "Z I"), "{seen:?}");
    // Extended, and COPY.
    let seen = talk.exchange(&[parse("m", many), run("m")].concat(), 1);
    assert!(rows(&seen) == 3 && shows(&seen, "54000"), "{seen:?}");
    let seen = talk.query("copy (select n from other.many order by n) to stdout");
    assert!(
        shows(&seen, "54000") && !shows(&seen, "COPY 10"),
        "{seen:?}"
    );
    assert_eq!(
        seen.iter().filter(|line| line.starts_with("d ")).count(),
        3,
        "{seen:?}"
    );
    let seen = talk.query("select 41 + 1");
    assert!(shows(&seen, "42"), "{seen:?}");
}

#[test]
fn a_budget_counts_over_statements_and_ends_a_result_midway() {
    let server = server("budget");
    let mut talk = Talk::open(&server);
    let four = "select n from other.budgeted limit 4";
    assert_eq!(rows(&talk.query(four)), 4);
    let seen = talk.exchange(&[parse("b", four), run("b")].concat(), 1);
    assert!(
        rows(&seen) == 2 && shows(&seen, "54000") && shows(&seen, "few-here"),
        "{seen:?}"
    );
    for again in [
        frame(b'Q', &[four.as_bytes(), b"\0"].concat()),
        run("b"),
        frame(b'Q', b"copy other.budgeted to stdout\0"),
    ] {
        let seen = talk.exchange(&again, 1);
        assert!(
            shows(&seen, "42501") && shows(&seen, "few-here"),
            "{seen:?}"
        );
        assert!(!seen.iter().any(|line| line.starts_with(['D', 'd'])));
        let denied = talk.facts.last().expect("a record");
        assert_eq!(&*denied.rule, "few-here");
    }
    assert_eq!(rows(&talk.query("select name from customers")), 2);
    // Another session has one of its own.
    let mut talk = Talk::open(&server);
    assert_eq!(rows(&talk.query(four)), 4);
}

#[test]
fn time_at_work_is_a_budget() {
    let server = server("time");
    let mut talk = Talk::open(&server);
    talk.query("select n from other.slow");
    let slow = "select pg_sleep(600) from other.slow";
    talk.client_in
        .extend_from_slice(&frame(b'Q', &[slow.as_bytes(), b"\0"].concat()));
    for _step in 0..20 {
        talk.step();
    }
    let (due_us, _why) = talk.session.poll_timeout().expect("a deadline");
    let before = Now {
        mono_us: due_us - 1,
        wall_us: 1_800_000_000_000_000,
    };
    talk.session.handle(Event::Timeout, before);
    talk.settle();
    assert!(!talk.closed);
    let due = Now {
        mono_us: due_us,
        ..before
    };
    talk.session.handle(Event::Timeout, due);
    let seen = talk.until(b"", |_lines| false);
    assert!(shows(&seen, "54000") && talk.closed, "{seen:?}");
    // The server has stopped as well.
    let busy = "select count(*) from pg_stat_activity where state = 'active' and query like '%pg_sleep(600)%' \
                and pid <> pg_backend_pid()";
    let stopped = Server::runtime().block_on(async {
        let client = server.client().await;
        for _look in 0..1000 {
            let row = client.query_one(busy, &[]).await.expect("a count");
            if row.get::<_, i64>(0) == 0 {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    });
    assert!(stopped);
}
