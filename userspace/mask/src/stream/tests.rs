//! The matcher under any chunking, its limits, and examples of every detector.

mod examples;

use std::fmt::Write as _;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::*;

fn everything() -> Arc<Patterns> {
    Arc::new(Patterns::new(&Detector::ALL, &[]).expect("compiled"))
}

fn own(list: &[(&str, &str)]) -> Arc<Patterns> {
    let list: Vec<_> = list
        .iter()
        .map(|(name, expression)| ((*name).to_owned(), (*expression).to_owned()))
        .collect();
    Arc::new(Patterns::new(&[], &list).expect("compiled"))
}

fn streamed(patterns: &Arc<Patterns>, input: &[u8], mut next: impl FnMut() -> usize) -> Vec<u8> {
    let mut masker = OutputMasker::new(Arc::clone(patterns));
    let mut out = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        let (chunk, more) = rest.split_at(next().clamp(1, rest.len()));
        out.extend_from_slice(masker.push(chunk).bytes());
        assert!(masker.held_bytes() <= HELD_BYTES_MAX + 128);
        rest = more;
    }
    out.extend_from_slice(masker.finish().bytes());
    out
}

fn once(patterns: &Patterns, input: &[u8]) -> String {
    String::from_utf8_lossy(text(patterns, input).bytes()).into_owned()
}

#[test]
fn any_split_gives_the_same_and_no_byte_of_a_secret() {
    let patterns = everything();
    let mut random = StdRng::seed_from_u64(3);
    let secrets = examples::secrets();
    let plain = [
        "hello",
        " ",
        "\n",
        "=",
        "4111 ",
        "DE89 ",
        "a@",
        "eyJ",
        "-----BEGIN ",
        "ghp_",
        "\u{e9}",
        ": ",
        "password=",
        "://",
        "+49 ",
        "\x1b",
        "\x1b[",
        "\x1b[1;31m",
        "\x1b[0m",
        "\x1b]0;t\x07",
        "-",
        ".",
        "the quick brown fox",
        "12:30:45 ",
        "\r\n",
        "sig=",
        "AKIA",
        "\t",
        "'",
        "\"",
        "0",
        "x",
    ];
    for _ in 0..1_500 {
        let mut input = String::new();
        for _ in 0..random.random_range(1..20) {
            if random.random_range(0..5) == 0 {
                let (_, secret) = secrets.choose(&mut random).expect("not empty");
                let coloured = random.random_bool(0.3);
                for c in secret.chars() {
                    input.push(c);
                    if coloured && random.random_range(0..4) == 0 {
                        input.push_str("\x1b[01;32m");
                    }
                }
            } else {
                input.push_str(plain.choose(&mut random).expect("not empty"));
            }
        }
        let whole = text(&patterns, input.as_bytes());
        let bytes = streamed(&patterns, input.as_bytes(), || 1);
        assert_eq!(bytes, whole.bytes().as_ref(), "{input:?}");
        for _ in 0..3 {
            let split = streamed(&patterns, input.as_bytes(), || random.random_range(1..40));
            assert_eq!(split, whole.bytes().as_ref(), "{input:?}");
        }
    }
}

#[test]
fn random_bytes_are_the_same_under_any_split() {
    let patterns = own(&[
        ("ab", "(?:ab+a|b[ab]{3}c|a+c)"),
        ("x", "[x-z]+y"),
        ("half", r"\bq\w*q\b"),
    ]);
    let mut random = StdRng::seed_from_u64(5);
    for _ in 0..3_000 {
        let input: Vec<u8> = (0..random.random_range(0..80))
            .map(|_| *b"aabbcxyzq \x1b[m1".choose(&mut random).expect("not empty"))
            .collect();
        let whole = text(&patterns, &input);
        assert_eq!(streamed(&patterns, &input, || 1), whole.bytes().as_ref());
        let split = streamed(&patterns, &input, || random.random_range(1..9));
        assert_eq!(split, whole.bytes().as_ref());
    }
}

#[test]
fn each_detector_finds_and_leaves_its_examples() {
    let patterns = everything();
    for (detector, trues, falses) in examples::all() {
        assert!(trues.len() >= 5 && falses.len() >= 5, "{detector:?}");
        let alone = Patterns::new(&[detector], &[]).expect("compiled");
        let mark = format!("[masked:{}]", detector.name());
        for (prefix, secret, suffix) in trues {
            let input = format!("{prefix}{secret}{suffix}");
            assert_eq!(
                once(&alone, input.as_bytes()),
                format!("{prefix}{mark}{suffix}"),
                "{input}"
            );
            for around in [("", ""), ("see ", " there\n"), ("(", ")"), ("\"", "\",")] {
                let input = format!("{}{input}{}", around.0, around.1);
                let out = text(&patterns, input.as_bytes());
                assert!(out.masked_values() >= 1, "{input}");
                assert!(
                    !String::from_utf8_lossy(out.bytes()).contains(&secret),
                    "{input}"
                );
            }
            let coloured: String = secret.chars().fold(String::new(), |mut text, c| {
                write!(text, "{c}\x1b[32m").expect("a string");
                text
            });
            let input = format!("{prefix}{coloured}{suffix}");
            let out = once(&alone, input.as_bytes());
            assert_eq!(out, format!("{prefix}{mark}\x1b[32m{suffix}"), "{input:?}");
        }
        for input in falses {
            let input = format!("{input} ");
            assert_eq!(once(&alone, input.as_bytes()), input, "{detector:?}");
        }
        assert_eq!(Detector::parse(detector.name()), Some(detector));
    }
    assert_eq!(examples::all().len(), Detector::ALL.len());
    assert_eq!(Detector::parse("nothing"), None);
}

#[test]
fn a_long_candidate_is_withheld_and_memory_stays_bounded() {
    let patterns = own(&[("long", "S[a-z]+E"), ("open", "O[a-z]*")]);
    for (start, end) in [("S", "E"), ("S", "!"), ("O", " "), ("S", "")] {
        for size in [
            HELD_BYTES_MAX - 2,
            HELD_BYTES_MAX - 1,
            HELD_BYTES_MAX,
            HELD_BYTES_MAX + 1,
            200_000,
        ] {
            let input = format!("a {start}{}{end} z", "k".repeat(size));
            let whole = once(&patterns, input.as_bytes());
            let split = streamed(&patterns, input.as_bytes(), || 1_000);
            assert_eq!(String::from_utf8_lossy(&split), whole);
            if size >= HELD_BYTES_MAX || end == "E" {
                assert!(!whole.contains("kk"), "{start}{end} {size}");
                assert!(whole.starts_with("a [masked:"), "{start}{end} {size}");
                assert!(whole.ends_with('z'), "{start}{end} {size}");
            }
        }
    }
}

#[test]
fn a_pause_shows_a_short_head_and_the_rest_is_masked() {
    let patterns = own(&[("key", "key-[0-9]+")]);
    let mut masker = OutputMasker::new(patterns);
    assert_eq!(masker.push(b"a key").bytes().as_ref(), b"a ");
    assert_eq!(masker.pause().bytes().as_ref(), b"key");
    assert!(masker.pause().is_empty());
    assert!(masker.push(b"-1").is_empty());
    assert!(masker.pause().is_empty());
    assert_eq!(masker.push(b"23 x").bytes().as_ref(), b"[masked:key] x");
    assert!(masker.push(b"ke").is_empty());
    assert_eq!(masker.pause().bytes().as_ref(), b"ke");
    assert_eq!(masker.push(b"ttle").bytes().as_ref(), b"ttle");
    assert!(masker.finish().is_empty());
}

#[test]
fn hostile_repetition_costs_bounded_work() {
    let patterns = own(&[("quadratic", "[a-z]+[0-9]"), ("key", "K[0-9]+K")]);
    let input = format!("{} K12K", "a".repeat(1 << 20));
    let whole = once(&patterns, input.as_bytes());
    assert!(whole.ends_with(" [masked:key]"));
    let split = streamed(&patterns, input.as_bytes(), || 4_096);
    assert_eq!(String::from_utf8_lossy(&split), whole);
    let all = everything();
    for piece in [
        "a.",
        "a-",
        "1 ",
        "eyJ-",
        "+1 ",
        "A1 ",
        "-----BEGIN ",
        "a+b://",
        "\x1b[1m",
        "\x1b[",
    ] {
        let input = piece.repeat(300_000 / piece.len());
        assert!(!text(&all, input.as_bytes()).is_empty());
    }
}

#[test]
fn problems_are_named() {
    let problem = |name: &str, expression: &str| {
        Patterns::new(&[], &[(name.to_owned(), expression.to_owned())]).expect_err("refused")
    };
    assert_eq!(problem("x", "a*"), PatternProblem::Empty("x".to_owned()));
    assert_eq!(problem("X]", "a"), PatternProblem::Name("X]".to_owned()));
    assert!(matches!(problem("x", "("), PatternProblem::Syntax { .. }));
    assert!(matches!(
        problem("x", "[ab]*a[ab]{30}"),
        PatternProblem::Syntax { .. }
    ));
    let many = vec![("x".to_owned(), "a".to_owned()); 65];
    assert_eq!(
        Patterns::new(&[], &many).expect_err("refused"),
        PatternProblem::TooMany
    );
    let none = Patterns::new(&[], &[]).expect("nothing to look for");
    assert_eq!(once(&none, b"anything \x1b[1m"), "anything \x1b[1m");
}
