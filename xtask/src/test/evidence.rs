//! Tier `evidence`: spool, shipper, engine and audit by themselves, then the record of a whole node.
//!
//! Its long form is `cargo xtask bench record --facts 10000000`.

use anyhow::Result;

use super::Outcome;
use super::nextest::nextest;
use super::tiers::in_lab;
use crate::say::Step;

/// Parts; some mount a small file system, which needs root.
pub(super) const PARTS: &str = "package(weir-spool) | package(weir-record) | package(weir-store) \
    | (package(weir-enforcer) & test(/(^|::)backtest::/))";
/// In a lab.
pub(super) const WHOLE: &str = "package(weir-e2e) & (binary(evidence) | binary(audit))";

pub(super) fn tier(step: &Step) -> Result<Outcome> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Outcome::CannotRun("it needs root".to_owned()));
    }
    let parts = nextest(step, "evidence", PARTS, &[])?;
    let whole = in_lab(step, "evidence-lab", WHOLE)?;
    Ok(match (parts, whole) {
        (Outcome::Passed(parts), Outcome::Passed(whole)) => Outcome::Passed(parts + whole),
        (Outcome::Passed(_), other) | (other, _) => other,
    })
}
