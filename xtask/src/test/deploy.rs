//! Tier `deploy`: what `deploy/` ships, checked by the tools that will read it.

use std::fs;
use std::process::Command;

use anyhow::Result;

use super::Outcome;
use super::nextest::log;
use crate::say::Step;
use crate::{place, run, setup};

pub(super) fn run(step: &Step) -> Result<Outcome> {
    setup::also(&[("prometheus", "promtool")])?;
    let mut command = Command::new(setup::python_binary()?);
    command
        .arg("-B")
        .arg(place::root().join("tests/deploy/check.py"));
    run::logged(step, &log("deploy"), &mut command)?;
    let text = fs::read_to_string(log("deploy")).unwrap_or_default();
    Ok(Outcome::Passed(
        text.lines().filter(|line| line.starts_with("ok ")).count(),
    ))
}
