//! What the record keeps of replies: head, tail or all, and a digest of what the client was sent.

use sha2::{Digest, Sha256};

use super::*;

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
