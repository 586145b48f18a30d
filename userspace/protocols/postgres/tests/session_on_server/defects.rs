//! Defects that were seen in other products, by their numbers in the list, and what policy limits.

use super::*;

fn shows(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
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
fn detectors_look_through_what_has_no_label() {
    let server = server("detectors");
    let mut talk = Talk::open(&server);
    for sql in [
        "select note, n from other.many where n = 1",
        "select upper(note) from other.many where n = 1",
        "copy (select note from other.many where n < 3) to stdout",
    ] {
        let seen = talk.query(sql);
        assert!(!shows(&seen, "4111"), "{sql}: {seen:?}");
        assert!(shows(&seen, "payment-card"), "{sql}: {seen:?}");
    }
    let seen = talk.query("select number from other.many where n = 1");
    assert!(rows(&seen) == 1 && !shows(&seen, "4111"), "{seen:?}");
    let seen = talk.query("select number from other.many where n = 2");
    assert!(shows(&seen, "1234"), "{seen:?}");
}
