//! One run of cargo nextest with a filter.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use super::Outcome;
use crate::say::Step;
use crate::{place, run};

/// One set of packages in every tier, so that cargo builds once.
pub(crate) const PACKAGES: [&str; 5] = [
    "--workspace",
    "--exclude",
    "weir-programs",
    "--exclude",
    "weir-lineage",
];

pub(super) fn log(name: &str) -> PathBuf {
    place::target().join(format!("xtask-logs/test-{name}.log"))
}

/// nextest's own exit code for a filter that selects nothing.
const NO_TESTS: i32 = 4;

/// Runs the tests that a filter selects.
pub(super) fn nextest(
    step: &Step,
    name: &str,
    filter: &str,
    envs: &[(&str, &str)],
) -> Result<Outcome> {
    let path = log(name);
    fs::create_dir_all(path.parent().context("a folder for logs")?).context("making logs")?;
    let file = fs::File::create(&path).with_context(|| format!("making {}", path.display()))?;
    let second = file.try_clone().context("a second descriptor")?;
    step.at("building and running");
    let status = run::cargo()
        .args([
            "nextest",
            "run",
            "--color",
            "never",
            "--no-fail-fast",
            "--no-tests",
            "fail",
        ])
        .args(PACKAGES)
        .args(["-E", filter])
        .envs(envs.iter().copied())
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(second)
        .status()
        .context("starting cargo nextest")?;
    let text = fs::read_to_string(&path).unwrap_or_default();
    match status.code() {
        Some(0) => Ok(Outcome::Passed(count(&text))),
        Some(NO_TESTS) => Ok(Outcome::CannotRun("it has no tests".to_owned())),
        _ => bail!("{status}; log {}\n{}", path.display(), run::tail(&text)),
    }
}

/// `Summary [ 0.2s] 8 tests run: 8 passed, 0 skipped`
fn count(text: &str) -> usize {
    text.lines()
        .filter(|line| line.trim_start().starts_with("Summary ["))
        .filter_map(|line| {
            line.split("] ")
                .nth(1)?
                .trim_start()
                .split(' ')
                .next()?
                .parse::<usize>()
                .ok()
        })
        .sum()
}

/// Examples in documentation, which nextest does not run.
pub(super) fn doc(step: &Step) -> Result<Outcome> {
    let mut command = run::cargo();
    command
        .args(["test", "--doc", "--color", "never"])
        .args(PACKAGES);
    run::logged(step, &log("doc"), &mut command)?;
    let text = fs::read_to_string(log("doc")).unwrap_or_default();
    let passed = text
        .lines()
        .filter_map(|line| {
            line.strip_prefix("test result: ok. ")?
                .split(' ')
                .next()?
                .parse::<usize>()
                .ok()
        })
        .sum::<usize>();
    Ok(Outcome::Passed(passed))
}
