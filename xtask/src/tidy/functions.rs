//! The budget of a function's body. rustfmt's layout makes it a matter of indentation.

use super::{Problem, Source};

const LINES_MAX: usize = 70;

pub(super) fn check(source: &Source) -> Vec<Problem> {
    if source.is_test() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (index, line) in source.code.iter().enumerate() {
        let Some(name) = function(line).filter(|_| !line.ends_with('}')) else {
            continue;
        };
        let indent: String = line.chars().take_while(|c| *c == ' ').collect();
        let end = format!("{indent}}}");
        let rest = &source.code[index..];
        let opened = rest.iter().position(|line| line.ends_with('{'));
        let closed = rest.iter().position(|line| *line == end);
        // A signature without a body ends before any such brace.
        let declared = rest
            .iter()
            .take(opened.unwrap_or(0))
            .any(|line| line.ends_with(';'));
        let length = opened
            .zip(closed)
            .map(|(from, to)| to.saturating_sub(from + 1));
        if let Some(length) = length.filter(|length| *length > LINES_MAX && !declared) {
            let message = format!("{name} has {length} lines, at most {LINES_MAX}");
            found.push(source.problem(index + 1, "function length", message));
        }
    }
    found
}

/// The name of the function that starts on this line.
fn function(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    for word in [
        "pub(crate) ",
        "pub(super) ",
        "pub ",
        "const ",
        "async ",
        "unsafe ",
    ] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let rest = rest.strip_prefix("fn ")?;
    rest.split(['(', '<']).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_body_is_a_problem() {
        let long = |lines: usize| {
            let body = "    x();\n".repeat(lines);
            format!("//! x\npub(crate) async fn f(\n    a: u8,\n) {{\n{body}}}\n\nfn g() {{}}\n")
        };
        let check = |text: String| check(&Source::new("userspace/a/src/b.rs".to_owned(), text));
        assert!(check(long(60)).is_empty());
        assert_eq!(check(long(80)).len(), 1);
    }
}
