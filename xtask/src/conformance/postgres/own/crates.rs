//! Tests of crates: cargo has their sources and builds them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::super::folder;
use super::suites;
use crate::{place, run, say};

/// One crate's tests.
pub(super) struct Crate {
    /// Where they run: some read files of the package.
    pub(super) folder: PathBuf,
    pub(super) programs: Vec<PathBuf>,
    /// What they want of a database, where the crate says so.
    pub(super) setup: Option<PathBuf>,
}

/// The versions are those that the drivers' scripts are built with.
pub(super) fn all() -> Result<BTreeMap<&'static str, Crate>> {
    let mut metadata = run::cargo();
    metadata
        .args(["metadata", "--locked", "--format-version=1"])
        .arg("--manifest-path")
        .arg(folder().join("rust/Cargo.toml"));
    let metadata = run::output(&mut metadata)?;
    let source = |name| found(&metadata, name).with_context(|| format!("no crate {name}"));
    Ok(BTreeMap::from([
        ("tokio-postgres", tokio_postgres(source("tokio-postgres")?)?),
        ("sqlx", sqlx(&source("sqlx")?)?),
    ]))
}

/// It is built where cargo has it, by its own lock file.
fn tokio_postgres(folder: PathBuf) -> Result<Crate> {
    Ok(Crate {
        programs: built(
            "tokio-postgres",
            &folder,
            &["--test=test", "--all-features"],
        )?,
        folder,
        setup: None,
    })
}

/// Its tests lack a crate that was never published, so they are built in a package that has one.
fn sqlx(source: &Path) -> Result<Crate> {
    let folder = place::target().join("conformance/own/sqlx-tests");
    let _absent = fs::remove_dir_all(&folder);
    copied(&suites().join("sqlx"), &folder)?;
    copied(&source.join("tests"), &folder.join("tests"))?;
    Ok(Crate {
        programs: built("sqlx", &folder, &["--tests"])?,
        setup: Some(folder.join("tests/postgres/setup.sql")),
        folder,
    })
}

/// With the times of the files, by which cargo knows what is new.
fn copied(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    let mut copy = std::process::Command::new("cp");
    copy.args([
        "--recursive",
        "--preserve=timestamps",
        "--no-target-directory",
    ]);
    run::quiet(copy.arg(from).arg(to))
}

fn built(name: &str, folder: &Path, what: &[&str]) -> Result<Vec<PathBuf>> {
    let step = say::step(format!("build the tests of {name}"));
    let mut cargo = run::cargo();
    cargo
        .args(["test", "--locked", "--no-run", "--message-format=json"])
        .args(what)
        .arg("--manifest-path")
        .arg(folder.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(place::target().join("conformance/own"));
    let programs = programs(&run::output(&mut cargo)?);
    anyhow::ensure!(!programs.is_empty(), "cargo made no program of {name}");
    step.done("");
    Ok(programs)
}

/// The folder of that crate.
fn found(metadata: &str, name: &str) -> Option<PathBuf> {
    let metadata: Value = serde_json::from_str(metadata).ok()?;
    let packages = metadata.get("packages")?.as_array()?;
    let named = |package: &&Value| package.get("name").and_then(Value::as_str) == Some(name);
    let manifest = packages
        .iter()
        .find(named)?
        .get("manifest_path")?
        .as_str()?;
    Path::new(manifest).parent().map(Path::to_path_buf)
}

/// What cargo says that it built.
fn programs(messages: &str) -> Vec<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_where_crate_and_programs_are() {
        let metadata = r#"{"packages": [{"name": "tokio", "manifest_path": "/a/Cargo.toml"},
            {"name": "tokio-postgres", "manifest_path": "/b/Cargo.toml"}]}"#;
        let folder = found(metadata, "tokio-postgres");
        assert_eq!(folder, Some(PathBuf::from("/b")));
        assert_eq!(found(metadata, "sqlx"), None);
        let messages = "{\"reason\": \"x\", \"executable\": null}\n\
                        {\"reason\": \"x\", \"executable\": \"/c/test\"}\n{\"success\": true}\n";
        assert_eq!(programs(messages), [PathBuf::from("/c/test")]);
    }
}
