//! The pinned toolchain's sources, bpf-linker and cargo-nextest.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::say::Step;
use crate::{place, run};

/// Must be built against the LLVM major version of the pinned Rust.
const LINKER: &str = "0.13.0";
const LLVM: &str = "/usr/lib/llvm-22";
const NEXTEST: &str = "0.9";

/// The channel of `rust-toolchain.toml`, the one place that names it.
fn channel() -> Result<String> {
    let file = place::root().join("rust-toolchain.toml");
    let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("channel"));
    let channel = line
        .and_then(|rest| rest.split('"').nth(1))
        .map(str::to_owned);
    channel.with_context(|| format!("{} names no channel", file.display()))
}

pub(super) fn src_missing() -> Result<Vec<String>> {
    let root = run::output(
        Command::new("rustc")
            .args(["--print", "sysroot"])
            .current_dir(place::root()),
    )?;
    let source = Path::new(root.trim()).join("lib/rustlib/src/rust/library/core/src/lib.rs");
    if source.exists() {
        Ok(Vec::new())
    } else {
        Ok(vec![format!("rust-src for {}", channel()?)])
    }
}

pub(super) fn add_src(_missing: &[String], step: &Step) -> Result<()> {
    let mut command = Command::new("rustup");
    command.args(["component", "add", "rust-src", "--toolchain", &channel()?]);
    run::logged(step, &super::log("rust-src"), &mut command)
}

/// The version that a cargo program prints, or `None` when it does not run.
fn version(program: &str) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(super) fn linker_missing() -> Result<Vec<String>> {
    let there = version("bpf-linker").is_some_and(|text| text.contains(LINKER));
    Ok(if there {
        Vec::new()
    } else {
        vec![format!("bpf-linker {LINKER}")]
    })
}

pub(super) fn install_linker(_missing: &[String], step: &Step) -> Result<()> {
    let mut command = run::cargo();
    command
        .args(["install", "bpf-linker", "--version", LINKER, "--force"])
        .args(["--no-default-features", "--features", "llvm-22"])
        .env("LLVM_PREFIX", LLVM)
        .env("LIBRARY_PATH", format!("{LLVM}/lib"));
    run::logged(step, &super::log("bpf-linker"), &mut command)
}

pub(super) fn nextest_missing() -> Result<Vec<String>> {
    let there = version("cargo-nextest").is_some();
    Ok(if there {
        Vec::new()
    } else {
        vec!["cargo-nextest".to_owned()]
    })
}

pub(super) fn install_nextest(_missing: &[String], step: &Step) -> Result<()> {
    let mut command = run::cargo();
    command.args([
        "install",
        "--locked",
        "cargo-nextest",
        "--version",
        &format!("^{NEXTEST}"),
    ]);
    run::logged(step, &super::log("nextest"), &mut command)
}
