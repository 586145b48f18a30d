//! `cargo xtask conformance`: a foreign test suite through Weir, against the server it was written for.

mod build;
mod cluster;
mod debian;
mod groups;
mod outcome;
mod parts;
pub(crate) mod postgres;
mod suite;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use crate::lab::model::Lab;
use crate::lab::{self, up};
use crate::{place, say, setup};

#[derive(Subcommand)]
#[command(
    after_help = "Examples:\n  cargo xtask conformance kubernetes --build-only\n  \
    cargo xtask conformance kubernetes\n  \
    cargo xtask conformance kubernetes --groups run_secrets_test,run_crd_tests --keep\n  \
    cargo xtask conformance postgres\n  \
    cargo xtask conformance postgres --suites corpus,records --modes simple --keep"
)]
pub(crate) enum ConformanceCommand {
    /// kubectl's own command suite through Weir, against a real API server built from Debian's source
    ///
    /// The first run builds kube-apiserver, kube-controller-manager and kubectl, which takes about
    /// 20 minutes and 4 GB; the result is kept in ~/.cache/weir.
    Kubernetes(KubernetesArgs),
    /// Statements straight at PostgreSQL and through Weir: every message has to be the same
    Postgres(postgres::PostgresArgs),
}

#[derive(Args)]
pub(crate) struct KubernetesArgs {
    /// Name of the lab
    #[arg(long, default_value = "conformance")]
    name: String,
    /// Only these groups of the suite, as in `run_pod_tests`; without: all
    #[arg(long, value_delimiter = ',', value_name = "GROUP")]
    groups: Vec<String>,
    /// Build what is not in the cache, and stop
    #[arg(long)]
    build_only: bool,
    /// Leave the lab up
    #[arg(long)]
    keep: bool,
    /// Folder with Weir's binaries: nothing of Weir is built
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
}

pub(crate) fn run(command: &ConformanceCommand) -> Result<ExitCode> {
    match command {
        ConformanceCommand::Kubernetes(args) => kubernetes(args),
        ConformanceCommand::Postgres(args) => postgres::run(args),
    }
}

fn kubernetes(args: &KubernetesArgs) -> Result<ExitCode> {
    place::need_root("a lab")?;
    let built = build::build()?;
    if args.build_only {
        return Ok(ExitCode::SUCCESS);
    }
    // Before anything is started: a name that is wrong should not cost a minute.
    let groups = groups::choose(&built.suite, &args.groups)?;
    setup::also(&[("jq", "jq"), ("openssl", "openssl")])?;
    let mut up_args = up::default_args(&args.name);
    up_args.no_weir = true;
    up_args.config = Some(cluster::configuration()?);
    up_args.policies = Some(folder().join("policies"));
    up_args.binaries.clone_from(&args.binaries);
    let mut lab = up::up(&up_args)?;
    let outcome = through(&mut lab, &built, &groups);
    if args.keep {
        say::note(format!("cargo xtask lab down --name {}", lab.name));
    } else {
        lab::keep_logs(&lab);
        lab::down(&lab)?;
    }
    outcome
}

fn through(lab: &mut Lab, built: &build::Built, groups: &[groups::Group]) -> Result<ExitCode> {
    let governed = cluster::start(lab, built, cluster::GOVERNED)?;
    let direct = cluster::start(lab, built, cluster::DIRECT)?;
    let step = say::step("schema, broker and node");
    lab::weir::migrate(lab)?;
    lab::weir::start(lab)?;
    step.done("");
    let suite = suite::Suite::new(lab, built, &governed, &direct).context("preparing the suite")?;
    outcome::run(&suite, groups)
}

/// What the suite is told: policies, scripts, and where a difference is meant.
fn folder() -> PathBuf {
    place::root().join("tests/conformance/kubernetes")
}
