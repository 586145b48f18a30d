//! Rules about one file.

use super::{Problem, Source};

const LINES_MAX: usize = 800;
/// `xtask`: one command per file, and short.
const XTASK_LINES_MAX: usize = 200;

/// File names that say nothing about what is inside.
const BANNED_NAMES: [&str; 9] = [
    "common", "utils", "util", "manager", "helper", "helpers", "handler", "misc", "tmp",
];

/// Never in production code nor in tests.
const BANNED_WORDS: [&str; 6] = [
    "todo!(",
    "dbg!(",
    "#[ignore",
    "#[should_panic",
    "#[allow(",
    "unbounded_channel(",
];

/// Crates in which a decision must be a function of its inputs.
const PURE: [&str; 9] = [
    "ebpf/abi/",
    "userspace/model/",
    "userspace/spool/",
    "userspace/decide/",
    "userspace/mask/",
    "userspace/govern/",
    "userspace/protocols/postgres/",
    "userspace/protocols/kubernetes/",
    "userspace/shell/",
];
const IMPURE: [&str; 11] = [
    "tokio::",
    "aya::",
    "std::fs",
    "std::env",
    "std::process",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Instant::",
    "SystemTime",
    "thread::spawn",
];

/// Witness of `decide::inherit`, and the files that may speak of it.
const INHERITS: &str = "from_predecessor(";
const INHERITING: [&str; 2] = [
    "userspace/decide/src/inherit.rs",
    "userspace/relay/src/moved.rs",
];

/// Tasks and channels belong where their limits are kept.
const TASKS: [&str; 4] = [
    "select! {",
    "tokio::spawn(",
    "mpsc::channel(",
    "spawn_local(",
];
const TASK_CRATES: [&str; 14] = [
    "userspace/relay/",
    "userspace/protocols/http/",
    "userspace/protocols/ssh/",
    "userspace/record/",
    "userspace/enforcer/",
    "userspace/store/",
    "userspace/state/",
    "userspace/broker/",
    "userspace/identify/",
    "userspace/discover/",
    "userspace/testkit/",
    "xtask/",
    "tests/",
    "bench/",
];

pub(super) fn check(source: &Source) -> Vec<Problem> {
    let mut found = Vec::new();
    if !source.text.starts_with("//!") && !source.text.starts_with("#!") {
        found.push(source.problem(1, "first line", "a file starts with a //! line"));
    }
    let limit = if source.path.starts_with("xtask/") {
        XTASK_LINES_MAX
    } else {
        LINES_MAX
    };
    if source.code.len() > limit && !source.is_test() {
        let message = format!("{} lines without tests, at most {limit}", source.code.len());
        found.push(source.problem(0, "file length", message));
    }
    let stem = source
        .path
        .rsplit('/')
        .next()
        .unwrap_or_default()
        .trim_end_matches(".rs");
    if BANNED_NAMES.contains(&stem) {
        found.push(source.problem(
            0,
            "file name",
            format!("'{stem}' does not say what is inside"),
        ));
    }
    if stem == "mod" {
        found.push(source.problem(0, "file name", "x.rs beside x/, no mod.rs"));
    }
    words(source, &mut found);
    found
}

fn words(source: &Source, found: &mut Vec<Problem>) {
    for (line, text) in source
        .text
        .lines()
        .enumerate()
        .map(|(index, text)| (index + 1, text))
    {
        if text.trim_start().starts_with("//") {
            continue;
        }
        for word in BANNED_WORDS.iter().filter(|word| text.contains(**word)) {
            found.push(source.problem(line, "banned word", *word));
        }
    }
    if source.is_test() {
        return;
    }
    let pure = PURE.iter().any(|folder| source.path.starts_with(folder))
        && !source.path.starts_with("ebpf/abi/src/user");
    let tasks = TASK_CRATES
        .iter()
        .any(|folder| source.path.starts_with(folder));
    for (line, text) in source
        .code
        .iter()
        .enumerate()
        .map(|(index, text)| (index + 1, text))
    {
        let text = text.split(" //").next().unwrap_or_default();
        if text.trim_start().starts_with("//") {
            continue;
        }
        // Permits are made from bytes in one place.
        let ours = source.path.starts_with("userspace/");
        if ours && text.contains(INHERITS) && !INHERITING.contains(&source.path.as_str()) {
            found.push(source.problem(line, "proof", "only what the broker passed is inherited"));
        }
        for word in IMPURE.iter().filter(|word| pure && text.contains(**word)) {
            found.push(source.problem(line, "pure crate", *word));
        }
        for word in TASKS.iter().filter(|word| !tasks && text.contains(**word)) {
            found.push(source.problem(line, "tasks and channels", *word));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        let source = Source::new(path.to_owned(), text.to_owned());
        check(&source)
            .into_iter()
            .map(|problem| problem.rule)
            .collect()
    }

    #[test]
    fn each_rule_finds_what_it_is_for() {
        let pure = "userspace/mask/src/plan.rs";
        assert_eq!(rules(pure, "fn a() {}"), ["first line"]);
        assert_eq!(rules(pure, "//! x\nuse std::fs;\n"), ["pure crate"]);
        assert_eq!(rules(pure, "//! x\n// use std::fs;\n"), Vec::<&str>::new());
        assert_eq!(
            rules("userspace/relay/src/utils.rs", "//! x\n"),
            ["file name"]
        );
        assert_eq!(
            rules("userspace/accept/src/a.rs", "//! x\n tokio::spawn(x)\n"),
            ["tasks and channels"]
        );
        let test = "//! x\n#[cfg(test)]\nmod tests {\n  use std::fs;\n}\n";
        assert_eq!(rules(pure, test), Vec::<&str>::new());
        assert_eq!(
            rules(pure, &format!("//! x\n{}", "\n".repeat(800))),
            ["file length"]
        );
    }
}
