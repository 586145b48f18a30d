//! The tiers, in the order in which they run: cheap ones first.

use anyhow::{Context, Result, bail};

use super::Outcome;
use super::console::{self, CONSOLE};
use super::evidence;
use super::leak::{LEAK, leak};
use super::live;
use super::nextest::{self, PACKAGES, log, nextest};
use super::policy::{self, POLICY};
use crate::lab::{self, Lab, UpArgs, up};
use crate::say::Step;
use crate::{conformance, place, run, setup, tidy};

pub(super) struct Tier {
    pub(super) name: &'static str,
    pub(super) run: fn(&Step) -> Result<Outcome>,
    pub(super) needs_setup: bool,
}

const fn check(name: &'static str, run: fn(&Step) -> Result<Outcome>) -> Tier {
    Tier {
        name,
        run,
        needs_setup: false,
    }
}

const fn tests(name: &'static str, run: fn(&Step) -> Result<Outcome>) -> Tier {
    Tier {
        name,
        run,
        needs_setup: true,
    }
}

pub(super) const ALL: &[Tier] = &[
    check("fmt", fmt),
    check("tidy", tidied),
    tests("clippy", clippy),
    tests("unit", |step| {
        nextest(step, "unit", &format!("not ({})", elsewhere()), &[])
    }),
    tests("golden", |step| nextest(step, "golden", GOLDEN, &[])),
    tests("sim", |step| nextest(step, "sim", SIM, &[])),
    tests("doc", nextest::doc),
    tests("kernel", |step| as_root(step, "kernel", KERNEL)),
    tests("identity", live::test_entra),
    check("live", live::tenant),
    tests("policy", policy::tier),
    tests("evidence", evidence::tier),
    tests("deploy", super::deploy::run),
    tests("kubernetes", |step| in_lab(step, "kubernetes", KUBERNETES)),
    tests("ssh", |step| in_lab(step, "ssh", SSH)),
    tests("console", console::tier),
    tests("e2e", |step| in_lab(step, "e2e", E2E)),
    tests("sets", super::sets::run),
    tests("upgrade", |step| upgrade(step, "upgrade", UPGRADE)),
    tests("brokers", |step| upgrade(step, "brokers", BROKERS)),
    tests("leak", leak),
    tests("postgres", conformance::postgres::tier),
];

const GOLDEN: &str = "binary(/golden/) | test(/golden/)";
const SIM: &str = "binary(/^sim/) | test(/(^|::)sim(_|::|ulat)/)";
const KERNEL: &str = "package(/^weir-(kernel|kernel-tests|broker)$/)";
pub(super) const IDENTITY: &str =
    "(package(weir-identify) - binary(live)) | (package(weir-e2e) & binary(/^identity/))";
const KUBERNETES: &str =
    "(package(weir-e2e) & binary(/^kubernetes/)) | package(weir-test-apiserver)";
const SSH: &str = "(package(weir-e2e) & binary(ssh)) | package(weir-ssh)";
const E2E: &str = "package(weir-e2e) - binary(/^kubernetes/) - binary(ssh) - binary(/^(upgrade|sets|containers|pods|leak|console|policy|holds|evidence|audit)$/) - binary(/^identity/)";
const UPGRADE: &str = "package(weir-e2e) & binary(upgrade) - test(outlive_brokers)";
const BROKERS: &str = "package(weir-e2e) & binary(upgrade) & test(outlive_brokers)";
pub(super) const SETS: &str = "package(weir-e2e) & binary(/^(sets|containers|pods)$/)";

/// What is not `unit`.
fn elsewhere() -> String {
    [
        GOLDEN,
        SIM,
        KERNEL,
        IDENTITY,
        POLICY,
        evidence::PARTS,
        evidence::WHOLE,
        KUBERNETES,
        SSH,
        CONSOLE,
        E2E,
        UPGRADE,
        BROKERS,
        SETS,
        LEAK,
    ]
    .join(" | ")
        + " | "
        + live::FILTER
}

fn fmt(step: &Step) -> Result<Outcome> {
    run::logged(
        step,
        &log("fmt"),
        run::cargo().args(["fmt", "--all", "--check"]),
    )?;
    Ok(Outcome::Passed(0))
}

fn tidied(_step: &Step) -> Result<Outcome> {
    let problems = tidy::problems()?;
    if !problems.is_empty() {
        bail!("{} problems:\n{}", problems.len(), problems.join("\n"));
    }
    Ok(Outcome::Passed(0))
}

fn clippy(step: &Step) -> Result<Outcome> {
    let mut command = run::cargo();
    command
        .arg("clippy")
        .args(PACKAGES)
        .args(["--all-targets", "--no-deps", "--color", "never"]);
    run::logged(step, &log("clippy"), command.args(["--", "-D", "warnings"]))?;
    // The fuzz targets are a workspace of their own, which nothing else builds.
    let mut command = run::cargo();
    command
        .args(["check", "--color", "never", "--manifest-path"])
        .arg(place::root().join("tests/fuzz/Cargo.toml"))
        .env("CARGO_TARGET_DIR", place::target());
    run::logged(step, &log("fuzz-check"), &mut command)?;
    Ok(Outcome::Passed(0))
}

fn as_root(step: &Step, name: &str, filter: &str) -> Result<Outcome> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Outcome::CannotRun("it needs root".to_owned()));
    }
    nextest(step, name, filter, &[])
}

pub(super) fn in_lab(step: &Step, tier: &str, filter: &str) -> Result<Outcome> {
    in_lab_of(step, tier, filter, &[], |args| args)
}

/// Only what is not encrypted moves.
fn upgrade(step: &Step, tier: &str, filter: &str) -> Result<Outcome> {
    let policies = place::root().join("tests/e2e/policies/upgrade");
    in_lab_of(step, tier, filter, &[], |args| UpArgs {
        plain_database: true,
        policies: Some(policies),
        ..args
    })
}

/// One lab for the whole tier; its tests run one after the other, because some kill the node.
pub(super) fn in_lab_of(
    step: &Step,
    tier: &str,
    filter: &str,
    more: &[(&str, &str)],
    changed: impl FnOnce(UpArgs) -> UpArgs,
) -> Result<Outcome> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Outcome::CannotRun("it needs root".to_owned()));
    }
    let name = format!("{tier}-{}", std::process::id());
    let lab: Lab = up::up(&changed(up::default_args(&name)))?;
    let xtask = std::env::current_exe().context("finding this program")?;
    let python = setup::python_binary()?;
    let mut envs = vec![
        ("WEIR_LAB", name.as_str()),
        ("WEIR_XTASK", xtask.to_str().context("a path of text")?),
        ("WEIR_PYTHON", python.to_str().context("a path of text")?),
        ("NEXTEST_TEST_THREADS", "1"),
        ("RUST_LIB_BACKTRACE", "0"),
    ];
    envs.extend(more);
    let outcome = nextest(step, tier, filter, &envs);
    if outcome.is_err() {
        lab::keep_logs(&lab);
    }
    lab::down(&lab)?;
    outcome
}
