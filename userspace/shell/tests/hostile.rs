//! No text may panic, overflow a small stack, or take long.

#![expect(
    clippy::disallowed_methods,
    reason = "a test measures that reading ends in time"
)]

use std::time::Instant;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use weir_shell::{
    COMMANDS_MAX, DEPTH_MAX, Refused, TEXT_BYTES_MAX, Unclear, join, parse, parse_argv,
};

/// Runs on a stack no larger than a worker thread of an async runtime has.
fn on_small_stack(check: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(check)
        .expect("a thread");
    thread.join().expect("no panic");
}

fn lines() -> Vec<String> {
    include_str!("golden.lines")
        .lines()
        .map(|line| line.replace("\\n", "\n"))
        .collect()
}

const PAIRS: &[(&str, &str)] = &[
    ("(", ")"),
    ("( ", " )"),
    ("((", "))"),
    ("$(", ")"),
    ("$((", "))"),
    ("$[", "]"),
    ("${x:-", "}"),
    ("\"$(", ")\""),
    ("a\"b$(echo \"", "\")c\""),
    ("\"${x:-", "}\""),
    ("{ ", ";}"),
    ("`", "`"),
    ("if ", ";then :;fi"),
    ("while ", ";do :;done"),
    ("for x in a;do ", ";done"),
    ("case a in b) ", " esac"),
    ("case a in b) ", ";; esac"),
    ("case x in (esac) ", ";; esac"),
    ("f() { ", ";}"),
    ("function f { ", ";}"),
    ("coproc ", ""),
    ("coproc x { ", ";}"),
    ("! ", ""),
    ("time ", ""),
    ("[[ ( ", " ) ]]"),
    ("[[ ! ", " ]]"),
    ("[[ a =~ (", ") ]]"),
    ("[[ a =~ ( ]] ", ")"),
    ("<(", ")"),
    ("a=(", ")"),
    ("sudo ", ""),
    ("eval ", ""),
    ("env -S ", ""),
    ("find -exec ", ";"),
    ("a&&", "a"),
    ("a|", "a"),
    ("a\n", ""),
    ("cat <<E\n", "\nE\n"),
    ("{a,", "b}"),
    ("\\", ""),
    ("[", "]"),
    ("$'\\x", "'"),
    ("echo fi done } esac;{ ", ";}"),
    ("if :; then case a in b) ", ";; esac; fi"),
    ("( ( case a in b) ", " esac ) )"),
    ("99999999999>", ""),
    ("a[", "]=1"),
    ("$(')'", ")"),
    ("${x#'}'", "}"),
    (">a ", ""),
    ("\t", "\n\n"),
    ("<<-A ", "\nA\n"),
];

#[test]
fn nesting_and_repetition_are_read_or_refused() {
    on_small_stack(|| {
        for (open, close) in PAIRS {
            for times in [1, 2, 7, 8, 9, 16, 31, 33, 100, 190, 210, 390, 1000, 30_000] {
                for middle in ["", ":", "a b", "'"] {
                    let closed = format!("{}{middle}{}", open.repeat(times), close.repeat(times));
                    let unclosed = format!("{}{middle}", open.repeat(times));
                    let half = format!("{unclosed}{}", close.repeat(times / 2));
                    for text in [closed, unclosed, half] {
                        let start = Instant::now();
                        parse(&text).ok();
                        let took = start.elapsed().as_millis();
                        assert!(took < 5_000, "{open} {times}: {took} ms");
                    }
                }
            }
        }
    });
}

#[test]
fn limits_refuse_with_their_name() {
    let long = "a".repeat(TEXT_BYTES_MAX + 1);
    assert_eq!(parse(&long), Err(Refused::TooLong));
    assert_eq!(parse_argv(&["echo", &long]), Err(Refused::TooLong));
    assert!(parse(&"a".repeat(TEXT_BYTES_MAX)).is_ok());
    assert_eq!(parse("a\0b"), Err(Refused::Nul));
    assert_eq!(parse_argv(&["a", "b\0"]), Err(Refused::Nul));
    assert_eq!(parse_argv(&[]), Err(Refused::Empty));
    assert_eq!(
        parse(&"a\n".repeat(COMMANDS_MAX + 1)),
        Err(Refused::TooMany)
    );
    assert!(parse(&"a\n".repeat(COMMANDS_MAX)).is_ok());
    let deep = |times| format!("{}:{}", "{ ".repeat(times), ";}".repeat(times));
    assert!(parse(&deep(DEPTH_MAX - 1)).is_ok());
    assert_eq!(parse(&deep(DEPTH_MAX + 1)), Err(Refused::TooDeep));
    let wrapped = parse(&format!("{}id", "sudo ".repeat(DEPTH_MAX + 5))).expect("read");
    assert_eq!(wrapped.unclear, [Unclear::TooDeep]);
    assert!(parse("").expect("read").commands.is_empty());
    assert!(parse("# nothing").expect("read").commands.is_empty());
}

#[test]
fn lines_cut_anywhere_are_no_panic() {
    on_small_stack(|| {
        for line in lines() {
            for (cut, _) in line.char_indices() {
                let (head, tail) = line.split_at(cut);
                parse(head).ok();
                parse(tail).ok();
            }
        }
    });
}

#[test]
fn random_texts_are_no_panic() {
    on_small_stack(|| {
        let mut random = StdRng::seed_from_u64(7);
        let lines = lines();
        let special = b"\\'\"`$(){}[]<>|&;#!~*?=-+,.: \t\nab1\xc3\xa9\xff\x00";
        for _ in 0..20_000 {
            let length = random.random_range(0..60);
            let bytes: Vec<u8> = (0..length)
                .map(|_| *special.choose(&mut random).expect("not empty"))
                .collect();
            parse(&String::from_utf8_lossy(&bytes)).ok();
        }
        for _ in 0..10_000 {
            let mut text = String::new();
            for _ in 0..random.random_range(1..40) {
                let (open, close) = PAIRS.choose(&mut random).expect("not empty");
                text = match random.random_range(0..4) {
                    0 => format!("{open}{text}{close}"),
                    1 => format!("{text}{open}"),
                    2 => format!("{}; {text}", lines.choose(&mut random).expect("not empty")),
                    _ => format!("{open}{close}{text}{close}"),
                };
            }
            let start = Instant::now();
            parse(&text).ok();
            let took = start.elapsed().as_millis();
            assert!(took < 5_000, "{took} ms: {text}");
        }
    });
}

#[test]
fn an_argument_vector_is_the_same_joined_or_not() {
    let mut random = StdRng::seed_from_u64(11);
    let pieces = [
        "a", "'", "\"", "$x", " ", "\n", "\\", "*", "~", "#", "{a,b}", "é", "-c", "",
    ];
    for _ in 0..2_000 {
        let words: Vec<String> = (0..random.random_range(0..5))
            .map(|_| {
                (0..random.random_range(0..4))
                    .map(|_| *pieces.choose(&mut random).expect("not empty"))
                    .collect()
            })
            .collect();
        let mut argv = vec!["printf"];
        argv.extend(words.iter().map(String::as_str));
        let texts = |script: &weir_shell::Script| -> Vec<Option<String>> {
            let command = &script.commands[0];
            command
                .arguments
                .iter()
                .map(|word| word.text.clone())
                .collect()
        };
        let split = parse(&join(&argv)).expect("read");
        let whole = parse_argv(&argv).expect("read");
        assert_eq!(texts(&split), texts(&whole), "{argv:?}");
    }
    let seen = parse_argv(&["/usr/bin/sudo", "sh", "-c", "rm -rf /tmp/x | sh"]).expect("read");
    let names: Vec<_> = seen.commands.iter().map(|command| command.name()).collect();
    assert_eq!(names, [Some("sudo"), Some("sh"), Some("rm"), Some("sh")]);
}

#[test]
fn a_here_document_without_an_end_uses_up_no_memory() {
    for text in [
        "cat <<'' ",
        "cat <<\"\" x",
        "cat <<-''",
        "cat <<\u{c}\u{c} ",
        "cat <<\\\n",
        "cat <<\\\n'' ",
        "cat <<$'' ",
        "cat <<a <<'' ",
        "echo $(cat <<'' )",
        "cat <<\u{a0} ",
        "echo \\<<<'' ",
    ] {
        assert_eq!(parse(text), Err(Refused::TooComplex), "{text:?}");
    }
    for text in [
        "cat <<< ''",
        "cat <<'a'\nx\na\n",
        "echo $((1<<2))",
        "cat <<-a\n\ta\n",
    ] {
        assert!(parse(text).is_ok(), "{text:?}");
    }
}
