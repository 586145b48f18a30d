//! Quote removal against a real bash: the same words for literal command lines.

use std::process::Command;

use weir_shell::parse;

const LINES: &[&str] = &[
    r"a b c",
    r"'a b' c",
    r#""a b" c"#,
    r"a\ b",
    r"\a\b\c",
    r"'a'\''b'",
    r#""a\"b""#,
    r#""a\\b""#,
    r#""a\b""#,
    r#""a\$b""#,
    r#""a\`b""#,
    r#""it's""#,
    r#"'say "x"'"#,
    r"$'a\nb'",
    r"$'a\tb\\c'",
    r"$'\x41\x42'",
    r"$'\101\60'",
    r"$'\u00e9'",
    r"$'\U0001F600'",
    r"$'\e[0m'",
    r"$'\cA'",
    r"$'\q'",
    r"$'it\'s'",
    r#"$'a\"b'"#,
    r"$'\?'",
    r"$'\x4'",
    r"$'\1'",
    r"$'\0101'",
    r"''",
    r#""""#,
    r"'' '' x",
    r#"a''b"""#,
    r"a'b'c",
    r#"a"b"c'd'\e"#,
    r"#not",
    r"x #comment",
    r"a#b",
    r"-- -x --y=z",
    r"a=b",
    r"if then fi",
    r"{ }",
    r"{}",
    r"{a}",
    r"]",
    r"a]b",
    r"!",
    r"a!b",
    r"%s %d",
    r"@x +y :z",
    r"a,b",
    r"$",
    r"a$",
    r#""$""#,
    r#""a$ b""#,
    r"$'a'$'b'",
    "a\\\nb",
    "'a\nb'",
    "\"a\\\nb\"",
    "a\tb",
    r"é ü '日本'",
    r"\é",
    r"\'x\'",
    r"\\",
    r"'\'",
    r"a~ b~c",
    r"x=~y",
    r#""~""#,
    r"'*' \* \?",
    r"\{a,b\}",
    r"'{a,b}'",
    r"a..b",
    r"\#x",
    r"1 2 3",
];

#[test]
fn literal_words_are_what_bash_makes_of_them() {
    for line in LINES {
        let text = format!("printf '%s\\0' {line}");
        let output = Command::new("bash")
            .args(["--norc", "-c", &text])
            .env("LC_ALL", "C.UTF-8")
            .output()
            .expect("bash runs");
        assert!(output.status.success(), "{line}");
        let theirs = String::from_utf8(output.stdout).expect("UTF-8");
        let script = parse(&text).expect(line);
        let ours: String = script.commands[0].arguments[1..]
            .iter()
            .map(|word| {
                format!(
                    "{}\0",
                    word.text.as_deref().unwrap_or_else(|| panic!("{line}"))
                )
            })
            .collect();
        // Without words printf prints one empty one.
        let ours = if ours.is_empty() {
            "\0".to_owned()
        } else {
            ours
        };
        assert_eq!(ours, theirs, "{line}");
    }
}

#[test]
fn words_that_a_shell_expands_are_not_literal() {
    for word in [
        "$x", "${x}", "$1", "$@", "$(a)", "`a`", "$((1))", "~", "~/x", "~root/x", "*", "a?",
        "[ab]", "{a,b}", "{1..3}", "\"$x\"", "\"`a`\"", "a$x'b'", "$\"x\"", "x'y'*", "$'\\xff'",
        "<(a)",
    ] {
        let script = parse(&format!("echo {word}")).expect(word);
        let echo = script.commands.last().expect(word);
        assert_eq!(echo.arguments[0].text, None, "{word}");
    }
}
