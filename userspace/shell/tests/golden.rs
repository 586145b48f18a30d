//! What is said of many command lines, as text that can be blessed (`WEIR_BLESS=1`).

use std::fmt::Write as _;

use weir_shell::{Command, Refused, Script, Word, parse};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden.expect");

fn word(word: &Word) -> String {
    match &word.text {
        Some(text) => format!("{text:?}"),
        None => format!("?{:?}", word.raw),
    }
}

fn command(at: usize, command: &Command) -> String {
    let mut text = format!("  {at}: {}", word(&command.program));
    for argument in &command.arguments {
        write!(text, " {}", word(argument)).expect("a string");
    }
    for (name, value) in &command.assignments {
        write!(text, " [{name}={}]", word(value)).expect("a string");
    }
    let context = &command.context;
    if let Some(pipe) = context.pipe {
        write!(text, " pipe {}/{}", pipe.index, pipe.of).expect("a string");
    }
    for (set, name) in [
        (context.background, "background"),
        (context.conditional, "conditional"),
        (command.calls_function, "FUNCTION"),
    ] {
        if set {
            write!(text, " {name}").expect("a string");
        }
    }
    if !context.within.is_empty() {
        write!(text, " in {:?}", context.within).expect("a string");
    }
    text
}

fn render(line: &str, result: &Result<Script, Refused>) -> String {
    let mut text = format!("> {line}\n");
    match result {
        Err(refused) => writeln!(text, "  refused: {refused}").expect("a string"),
        Ok(script) => {
            for (at, one) in script.commands.iter().enumerate() {
                writeln!(text, "{}", command(at, one)).expect("a string");
            }
            for one in &script.redirections {
                let fd = one.fd.map_or("&".to_owned(), |fd| fd.to_string());
                let owner = one.command.map_or("-".to_owned(), |at| at.to_string());
                let target = word(&one.target);
                writeln!(text, "  {:?} {fd} {target} of {owner}", one.direction).expect("a string");
            }
            for one in &script.unclear {
                writeln!(text, "  UNCLEAR {one:?}").expect("a string");
            }
        }
    }
    text.push('\n');
    text
}

#[test]
fn command_lines_are_understood_as_before() {
    let mut actual = String::new();
    let mut count = 0;
    let input = include_str!("golden.lines");
    for line in input.lines().filter(|line| !line.starts_with("-- ")) {
        count += 1;
        let text = line.replace("\\\\n", "\0").replace("\\n", "\n");
        let text = text.replace("\\t", "\t").replace('\0', "\\n");
        actual.push_str(&render(line, &parse(&text)));
    }
    assert!(count >= 120, "{count} lines");
    if std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::write(GOLDEN, &actual).expect("written");
    }
    let expected = std::fs::read_to_string(GOLDEN).unwrap_or_default();
    for (ours, theirs) in actual.split("\n\n").zip(expected.split("\n\n")) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(actual.len(), expected.len());
}
