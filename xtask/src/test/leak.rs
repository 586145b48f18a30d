//! Tier `leak`: statements that show masked values, in two worlds, directly and through Weir.

use std::fs;

use anyhow::{Context, Result};

use super::Outcome;
use super::tiers::in_lab_of;
use crate::lab::UpArgs;
use crate::say::Step;
use crate::{place, say};

pub(super) const LEAK: &str = "package(weir-e2e) & binary(leak)";
const MADE: &str = "package(weir-e2e) & binary(leak) & test(seed)";
/// By which the tests say what they counted: the corpus, and what a seed makes.
const REPORTS: [(&str, &str); 2] = [
    ("WEIR_LEAK_REPORT", "leak.txt"),
    ("WEIR_LEAK_MADE_REPORT", "leak-made.txt"),
];

/// Statements that a seed makes, and how many.
#[derive(Clone, Copy)]
pub(crate) struct Made {
    pub(crate) seed: u64,
    /// Number of the first one.
    pub(crate) from: u64,
    pub(crate) count: u64,
}

pub(super) fn leak(step: &Step) -> Result<Outcome> {
    run(step, LEAK, &[])
}

/// Only what a seed makes.
pub(crate) fn made(step: &Step, made: Made) -> Result<Outcome> {
    let numbers = [made.seed, made.from, made.count].map(|number| number.to_string());
    let names = ["WEIR_LEAK_SEED", "WEIR_LEAK_FROM", "WEIR_LEAK_MADE"];
    let more: Vec<_> = names
        .into_iter()
        .zip(numbers.iter().map(String::as_str))
        .collect();
    run(step, MADE, &more)
}

/// Everything is permitted there, so that only masking keeps values back.
fn run(step: &Step, filter: &str, more: &[(&str, &str)]) -> Result<Outcome> {
    let policies = place::root().join("tests/e2e/policies/leak");
    let mut envs = more.to_vec();
    let paths = REPORTS.map(|(_, file)| place::target().join("xtask-logs").join(file));
    for ((name, _), path) in REPORTS.iter().zip(&paths) {
        if path.exists() {
            fs::remove_file(path).context("an earlier report")?;
        }
        envs.push((name, path.to_str().context("a path of text")?));
    }
    let outcome = in_lab_of(step, "leak", filter, &envs, |args| UpArgs {
        plain_database: true,
        policies: Some(policies),
        ..args
    });
    // What was counted is shown whatever came of it; what stands behind is for who looks closer.
    for path in &paths {
        if let Ok(text) = fs::read_to_string(path) {
            text.lines()
                .take_while(|line| !line.is_empty())
                .for_each(say::note);
        }
    }
    outcome
}
