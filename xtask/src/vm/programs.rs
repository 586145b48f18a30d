//! The test binaries and what they start, as cargo builds them for the tier `kernel`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::binaries::{self, Profile};
use crate::{run, say};

/// As the tier `kernel`.
const PACKAGES: [&str; 3] = ["weir-kernel", "weir-kernel-tests", "weir-broker"];

/// One test of one binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Test {
    /// Name of the binary's target, as in `bypass`.
    pub(super) binary: String,
    pub(super) name: String,
    pub(super) path: PathBuf,
}

/// All that a guest runs, by the paths that it has here.
pub(super) struct Programs {
    pub(super) tests: Vec<Test>,
    /// Binaries that tests start by the path that was compiled into them.
    pub(super) beside: Vec<PathBuf>,
    pub(super) weir: PathBuf,
}

/// Builds, and asks each test binary what it holds.
pub(super) fn build(only: Option<&str>) -> Result<Programs> {
    let weir = binaries::packages(&["weir-enforcer"], Profile::Dev)?.join("weir");
    let step = say::step("build the kernel tests");
    let mut command = run::cargo();
    command.args(["test", "--no-run", "--lib", "--bins", "--tests"]);
    command.args(["--message-format", "json", "--quiet"]);
    for name in PACKAGES {
        command.args(["--package", name]);
    }
    let text = run::output(&mut command)?;
    let (mut tests, mut beside) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let Some((name, path, is_test)) = artifact(line) else {
            continue;
        };
        if !is_test {
            beside.push(path);
            continue;
        }
        let listed =
            run::output(std::process::Command::new(&path).args(["--list", "--format", "terse"]))?;
        tests.extend(listed_tests(&listed, &name, &path));
    }
    for (name, why) in NOT_HERE {
        let before = tests.len();
        tests.retain(|test| !test.name.starts_with(name));
        if tests.len() != before {
            say::note(format!("not run in guests: {name} ({why})"));
        }
    }
    tests.retain(|test| only.is_none_or(|text| label(test).contains(text)));
    if tests.is_empty() {
        bail!("no test has such a name");
    }
    step.done(format!("{} tests", tests.len()));
    Ok(Programs {
        tests,
        beside,
        weir,
    })
}

/// Tests that say nothing in a guest, by how their names begin, and why.
const NOT_HERE: [(&str, &str); 2] = [
    (
        "plugins::",
        "what a shell does with a secret is no matter of the kernel, and the guest's is another",
    ),
    (
        "a_container_that_starts_is_guarded_within_a_moment",
        "it measures time, and an emulated processor is some twenty times slower",
    ),
];

/// `bypass::no_recipe_reaches_the_server`
pub(super) fn label(test: &Test) -> String {
    format!("{}::{}", test.binary, test.name)
}

/// Name, path, and whether it is a test binary.
fn artifact(line: &str) -> Option<(String, PathBuf, bool)> {
    let value: Value = serde_json::from_str(line).ok()?;
    let path = value.get("executable")?.as_str()?;
    let name = value.pointer("/target/name")?.as_str()?;
    let is_test = value.pointer("/profile/test")?.as_bool()?;
    Some((name.to_owned(), PathBuf::from(path), is_test))
}

fn listed_tests(text: &str, binary: &str, path: &Path) -> Vec<Test> {
    text.lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(|name| Test {
            binary: binary.to_owned(),
            name: name.to_owned(),
            path: path.to_owned(),
        })
        .collect()
}

/// Shared libraries of a program, and its loader; none for a static one.
pub(super) fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = std::process::Command::new("ldd")
        .arg(program)
        .output()
        .context("starting ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("not found") {
        bail!("{} lacks libraries:\n{text}", program.display());
    }
    Ok(text
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_and_libtest_are_read() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"bypass"},
            "profile":{"test":true},"executable":"/t/bypass-1"}"#
            .replace('\n', "");
        let (name, path, is_test) = artifact(&line).unwrap();
        assert!(is_test && name == "bypass");
        let tests = listed_tests("one: test\ntwo: benchmark\n", &name, &path);
        assert_eq!(tests.len(), 1);
        assert_eq!(label(&tests[0]), "bypass::one");
        assert!(artifact(r#"{"reason":"compiler-artifact","executable":null}"#).is_none());
    }
}
