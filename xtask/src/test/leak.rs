//! Tier `leak`: statements that show masked values, in two worlds, directly and through Weir.

use std::fs;

use anyhow::{Context, Result};

use super::Outcome;
use super::tiers::in_lab_of;
use crate::lab::UpArgs;
use crate::say::Step;
use crate::{place, say};

pub(super) const LEAK: &str = "package(weir-e2e) & binary(leak)";
/// By which the test says what it counted.
const REPORT: &str = "WEIR_LEAK_REPORT";

/// Everything is permitted there, so that only masking keeps values back.
pub(super) fn leak(step: &Step) -> Result<Outcome> {
    let policies = place::root().join("tests/e2e/policies/leak");
    let report = place::target().join("xtask-logs/leak.txt");
    let report = report.to_str().context("a path of text")?;
    if fs::exists(report).context("an earlier report")? {
        fs::remove_file(report).context("an earlier report")?;
    }
    let more = [(REPORT, report)];
    let outcome = in_lab_of(step, "leak", LEAK, &more, |args| UpArgs {
        plain_database: true,
        policies: Some(policies),
        ..args
    });
    // What was counted is shown whatever came of it.
    if let Ok(text) = fs::read_to_string(report) {
        text.lines().for_each(say::note);
    }
    outcome
}
