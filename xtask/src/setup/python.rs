//! A Python environment for tests: a PostgreSQL driver and Helm's own engine.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::say::Step;
use crate::{place, run};

fn requirements() -> PathBuf {
    place::root().join("tests/python/requirements.txt")
}

/// One folder per list of requirements.
fn folder() -> Result<PathBuf> {
    let text = fs::read(requirements()).context("reading tests/python/requirements.txt")?;
    let digest: String = Sha256::digest(&text)
        .iter()
        .take(8)
        .map(|b| format!("{b:02x}"))
        .collect();
    Ok(place::cache()?.join(format!("python-{digest}")))
}

/// The interpreter with the required packages.
pub(crate) fn binary() -> Result<PathBuf> {
    Ok(folder()?.join("bin/python"))
}

/// The mark is written last, after pip has succeeded.
pub(super) fn missing() -> Result<Vec<String>> {
    let there = folder()?.join("complete").exists() && binary()?.exists();
    Ok(if there {
        Vec::new()
    } else {
        vec!["tests/python/requirements.txt".to_owned()]
    })
}

pub(super) fn install(_missing: &[String], step: &Step) -> Result<()> {
    let folder = folder()?;
    let log = super::log("python");
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    run::logged(step, &log, &mut make)?;
    let mut pip = Command::new(binary()?);
    pip.args([
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--requirement",
    ]);
    run::logged(step, &log, pip.arg(requirements()))?;
    fs::write(folder.join("complete"), "").context("marking the environment complete")
}
