//! Tier `sets`: pods, names and Services come from servers of the tests, containers from real
//! runtimes.

use anyhow::Result;

use super::Outcome;
use super::tiers::{SETS, in_lab_of};
use crate::lab::UpArgs;
use crate::say::Step;
use crate::{place, setup};

/// Package and program; most commands never need them.
const RUNTIMES: [(&str, &str); 3] = [
    ("docker.io", "dockerd"),
    ("podman", "podman"),
    ("runc", "runc"),
];

pub(super) fn run(step: &Step) -> Result<Outcome> {
    setup::also(&RUNTIMES)?;
    let config = place::root().join("tests/e2e/config/sets.yaml");
    in_lab_of(step, "sets", SETS, &[], |args| UpArgs {
        config: Some(config),
        ..args
    })
}
