//! A Python environment for tests: a PostgreSQL driver and Helm's own engine.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::say::Step;
use crate::{place, run};

fn requirements() -> PathBuf {
    place::root().join("tests/python/requirements.txt")
}

/// One folder per list of requirements.
fn folder(requirements: &Path) -> Result<PathBuf> {
    let text =
        fs::read(requirements).with_context(|| format!("reading {}", requirements.display()))?;
    let digest: String = Sha256::digest(&text)
        .iter()
        .take(8)
        .map(|b| format!("{b:02x}"))
        .collect();
    Ok(place::cache()?.join(format!("python-{digest}")))
}

/// The interpreter with the required packages.
pub(crate) fn binary() -> Result<PathBuf> {
    Ok(folder(&requirements())?.join("bin/python"))
}

/// An interpreter with other packages, installed unless it is there.
pub(crate) fn binary_with(requirements: &Path) -> Result<PathBuf> {
    let folder = folder(requirements)?;
    if !folder.join("complete").exists() {
        let step = crate::say::step(format!("install {}", requirements.display()));
        make(requirements, &folder, &step)?;
        step.done("");
    }
    Ok(folder.join("bin/python"))
}

/// The mark is written last, after pip has succeeded.
pub(super) fn missing() -> Result<Vec<String>> {
    let there = folder(&requirements())?.join("complete").exists() && binary()?.exists();
    Ok(if there {
        Vec::new()
    } else {
        vec!["tests/python/requirements.txt".to_owned()]
    })
}

pub(super) fn install(_missing: &[String], step: &Step) -> Result<()> {
    let requirements = requirements();
    make(&requirements, &folder(&requirements)?, step)
}

fn make(requirements: &Path, folder: &Path, step: &Step) -> Result<()> {
    let log = super::log("python");
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(folder);
    run::logged(step, &log, &mut make)?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--requirement",
    ]);
    run::logged(step, &log, pip.arg(requirements))?;
    fs::write(folder.join("complete"), "").context("marking the environment complete")
}
