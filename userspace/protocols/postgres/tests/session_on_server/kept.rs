//! What the record keeps: of replies head, tail or all, and a digest of what the client was sent; large statements and
//! parameters apart.

use sha2::{Digest, Sha256};

use super::*;

fn shows(lines: &[String], text: &str) -> bool {
    lines.iter().any(|line| line.contains(text))
}

/// The newest reply, as it is recorded.
fn reply(talk: &Talk<'_>) -> Fact {
    let replies = talk.facts.iter().rev();
    let mut replies = replies.filter(|fact| fact.kind == FactKind::Reply);
    replies.next().expect("a reply").clone()
}

/// How `sha256sum` of the client's messages with rows begins.
fn digest_of_rows(seen: &[u8]) -> u128 {
    let mut digest = Sha256::new();
    let mut rest = seen;
    while let Some(header) = rest.first_chunk::<5>() {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if matches!(header[0], b'D' | b'd') {
            digest.update(&rest[..=length]);
        }
        rest = &rest[length + 1..];
    }
    let first = digest.finalize().first_chunk::<16>().copied();
    u128::from_be_bytes(first.expect("32 bytes"))
}

#[test]
fn head_and_tail_are_kept_where_policy_asks_for_them() {
    let server = server("kept-ends");
    let mut talk = Talk::open(&server);
    talk.query("select n from kept.ends order by n");
    let fact = reply(&talk);
    // Ten rows are the usual head.
    let head: String = (1..=10).map(|n| format!("[\"{n}\"]\n")).collect();
    let tail = "{\"left_out\":37}\n[\"48\"]\n[\"49\"]\n[\"50\"]\n";
    assert_eq!(fact.response_masked, format!("{head}{tail}"));
    assert!(fact.truncated && fact.rows == 50);
    assert_eq!(fact.reply_digest, digest_of_rows(&talk.seen));
    // The same in the extended protocol, in portions: each has a record of its own.
    talk.query("select n from kept.ends where n > 45 order by n");
    let fact = reply(&talk);
    assert!(!fact.truncated && fact.response_masked.ends_with("[\"50\"]\n"));
}

#[test]
fn all_of_a_reply_is_kept_and_its_digest_is_of_what_was_masked() {
    let server = server("kept-whole");
    let mut talk = Talk::open(&server);
    talk.query("select n, ssn from kept.whole order by n");
    clean(&lines(&talk.seen));
    let fact = reply(&talk);
    assert_eq!(fact.response_masked.lines().count(), 300);
    assert!(!fact.truncated && !fact.response_masked.contains(SECRET));
    assert_eq!(
        fact.response_masked.lines().last(),
        Some("[\"300\",\"[redacted]\"]")
    );
    assert_eq!(fact.reply_digest, digest_of_rows(&talk.seen));
    assert_ne!(fact.reply_digest, 0);
    talk.query("select repeat('x', 10000) from kept.whole");
    let fact = reply(&talk);
    assert!(fact.truncated && fact.rows == 300);
    assert!((500_000..2_000_000).contains(&fact.response_masked.len()));
    assert_eq!(fact.reply_digest, digest_of_rows(&talk.seen));
}

#[test]
fn rows_that_nobody_keeps_are_in_the_digest() {
    let server = server("kept-digest");
    let mut talk = Talk::without_detectors(&server);
    talk.query("select n from generate_series(1, 5000) n");
    let fact = reply(&talk);
    assert!(fact.truncated && fact.response_masked.lines().count() == 10);
    assert_eq!(fact.reply_digest, digest_of_rows(&talk.seen));
    let bytes: usize = lines(&talk.seen)
        .iter()
        .filter(|line| line.starts_with('D'))
        .count();
    assert_eq!((bytes, fact.rows), (5000, 5000));
    // Rows that are copied are kept as they were copied.
    talk.query("copy (select n, ssn from kept.whole order by n limit 3) to stdout");
    let fact = reply(&talk);
    let kept = "[\"1\\u0009[redacted]\"]\n[\"2\\u0009[redacted]\"]\n[\"3\\u0009[redacted]\"]\n";
    assert_eq!(fact.response_masked, kept);
    assert!(!fact.truncated);
    assert_eq!(fact.reply_digest, digest_of_rows(&talk.seen));
    // Nothing was sent, so there is no digest.
    talk.query("select n from kept.ends where n > 100");
    assert_eq!(reply(&talk).reply_digest, 0);
}

/// Facts that hold pieces of large texts.
fn values<'a>(talk: &'a Talk<'_>) -> Vec<&'a Fact> {
    let all = talk.facts.iter();
    all.filter(|fact| fact.kind == FactKind::Value).collect()
}

fn label<'a>(fact: &'a Fact, name: &str) -> &'a str {
    let label = fact.labels.iter().find(|label| label.0 == name);
    &label.expect("a label").1
}

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// As `bind_text`, in binary.
fn bind_binary(name: &str, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).expect("short").to_be_bytes();
    let head = [b"\0", name.as_bytes(), b"\0\0\x01\0\x01\0\x01"].concat();
    frame(b'B', &[&head, length.as_slice(), value, &[0, 0]].concat())
}

#[test]
fn a_large_statement_stands_apart_and_once() {
    let server = server("kept-statement");
    let mut talk = Talk::open(&server);
    let long = format!("select length('{}')", "ü".repeat(1_000_000));
    assert!(shows(&talk.query(&long), "1000000"));
    let pieces: Vec<Fact> = values(&talk).into_iter().cloned().collect();
    assert_eq!(pieces.len(), 2);
    let whole: String = pieces.iter().map(|fact| &*fact.statement).collect();
    assert_eq!(whole, long);
    let request = talk
        .facts
        .iter()
        .find(|fact| fact.kind == FactKind::Request && fact.seq > pieces[1].seq);
    let request = request.expect("the request behind its pieces");
    assert_eq!(request.seq, pieces[1].seq + 1);
    let mark = format!(
        "…({} bytes, sha256 {})",
        long.len(),
        sha256(long.as_bytes())
    );
    assert!(
        request.statement.starts_with("select length('üü") && request.statement.ends_with(&mark)
    );
    assert!(request.statement.len() < 5000);
    for (index, piece) in pieces.iter().enumerate() {
        assert_eq!(label(piece, "sha256"), sha256(long.as_bytes()));
        let place = (label(piece, "part"), label(piece, "parts"));
        assert_eq!(place, ((index + 1).to_string().as_str(), "2"));
    }
    // The same again is named, and not recorded again.
    talk.query(&long);
    assert_eq!(values(&talk).len(), 2);
    let named = |fact: &&Fact| fact.statement.ends_with(&mark);
    assert_eq!(talk.facts.iter().filter(named).count(), 2);
}

#[test]
fn a_large_parameter_stands_apart_and_once() {
    let server = server("kept-parameter");
    let mut talk = Talk::open(&server);
    talk.exchange(&[parse("p", "select length($1::text)"), sync()].concat(), 1);
    let value = format!("{}end", "y".repeat(30_000));
    for _twice in 0..2 {
        let seen = talk.exchange(&[bind_text("p", &value), execute(""), sync()].concat(), 1);
        assert!(shows(&seen, "30003"), "{seen:?}");
    }
    let pieces = values(&talk);
    assert_eq!(pieces.len(), 1);
    assert_eq!(
        (&*pieces[0].statement, &*pieces[0].parameters),
        ("", value.as_str())
    );
    assert_eq!(label(pieces[0], "sha256"), sha256(value.as_bytes()));
    let mark = format!("y…(30003 bytes, sha256 {})\"]", sha256(value.as_bytes()));
    let named = |fact: &&Fact| fact.kind == FactKind::Request && fact.parameters.ends_with(&mark);
    assert_eq!(talk.facts.iter().filter(named).count(), 2);
    // Binary values are kept in hexadecimal, and named by the digest of their bytes.
    talk.exchange(
        &[parse("b", "select length($1::bytea)"), sync()].concat(),
        1,
    );
    let bytes = vec![0xfe; 600_000];
    let seen = talk.exchange(&[bind_binary("b", &bytes), execute(""), sync()].concat(), 1);
    assert!(shows(&seen, "600000"), "{seen:?}");
    let pieces = values(&talk).split_off(1);
    let text: String = pieces.iter().map(|fact| fact.parameters.as_str()).collect();
    assert_eq!(
        (pieces.len(), text),
        (2, format!("0x{}", "fe".repeat(600_000)))
    );
    assert_eq!(label(pieces[0], "sha256"), sha256(&bytes));
}
