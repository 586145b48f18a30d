//! `weir audit`: is the record whole?

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use ed25519_dalek::VerifyingKey;
use serde::Serialize;
use weir_record::{audit, bundle};

use super::{ConfigArg, sessions};
use crate::config::Config;
use crate::daemon::prepare::StatePaths;
use crate::output;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  weir audit verify\n  weir audit verify --json\n  weir audit key > node.pub\n  \
                        weir audit verify --bundle session.weir --key node.pub   # anywhere, without a node"
)]
pub(crate) struct AuditArgs {
    #[command(subcommand)]
    action: AuditAction,
}

#[derive(Subcommand)]
enum AuditAction {
    /// Verify the spool's chain and signatures, and what ClickHouse holds; exit 1 on any finding
    Verify {
        #[command(flatten)]
        config: ConfigArg,
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Only the spool's files
        #[arg(long)]
        offline: bool,
        /// A bundle of weir sessions export instead; needs nothing but the file and the key
        #[arg(
            long,
            value_name = "FILE",
            requires = "key",
            conflicts_with = "offline"
        )]
        bundle: Option<PathBuf>,
        /// Public key of the node that made the bundle, as weir audit key prints it
        #[arg(long, value_name = "FILE", requires = "bundle")]
        key: Option<PathBuf>,
    },
    /// Print this node's public key
    Key(ConfigArg),
}

#[derive(Serialize)]
struct Answer {
    verdict: audit::Verdict,
    /// Nothing wrong was found and all of it is proven.
    clean: bool,
    spool: audit::Report,
    /// Absent when ClickHouse was not asked.
    store: Option<audit::Report>,
}

pub(crate) fn run(args: &AuditArgs) -> Result<ExitCode> {
    match &args.action {
        AuditAction::Key(arg) => {
            let paths = StatePaths::of(&output::load(&arg.config)?);
            let key = node_key(&paths)?;
            let digits = key.as_bytes().iter().map(|byte| format!("{byte:02x}"));
            output::line(&digits.collect::<String>());
            Ok(ExitCode::SUCCESS)
        }
        AuditAction::Verify {
            bundle: Some(bundle),
            key: Some(key),
            json,
            ..
        } => verify_bundle(bundle, key, *json),
        AuditAction::Verify {
            config,
            json,
            offline,
            ..
        } => verify_node(config, *json, *offline),
    }
}

fn node_key(paths: &StatePaths) -> Result<VerifyingKey> {
    audit::verifying_key(&paths.node_key)
        .with_context(|| format!("reading {}", paths.node_key.display()))
}

fn code(verdict: audit::Verdict) -> ExitCode {
    if verdict == audit::Verdict::Findings {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn verify_node(arg: &ConfigArg, json: bool, offline: bool) -> Result<ExitCode> {
    let config = output::load(&arg.config)?;
    let paths = StatePaths::of(&config);
    let key = node_key(&paths)?;
    let spool = audit::verify_files(&paths.spool, &key)
        .with_context(|| format!("reading {}", paths.spool.display()))?;
    let store = if offline {
        None
    } else {
        Some(verify_store(&config, &paths.spool, &key)?)
    };
    let worst = store.as_ref().map(audit::Report::verdict);
    let verdict = worst.map_or(spool.verdict(), |store| store.max(spool.verdict()));
    let answer = Answer {
        verdict,
        clean: verdict == audit::Verdict::Clean,
        spool,
        store,
    };
    if json {
        output::json(&answer)?;
    } else {
        describe(&answer);
    }
    Ok(code(verdict))
}

#[derive(Serialize)]
struct BundleAnswer {
    verdict: audit::Verdict,
    clean: bool,
    bundle: bundle::Proof,
}

/// Characters of what somebody else's file says.
const FINDING_WIDTH: usize = 500;

fn verify_bundle(file: &Path, key: &Path, json: bool) -> Result<ExitCode> {
    let text = bundle::read(file).with_context(|| format!("reading {}", file.display()))?;
    let key = audit::public_key(key).with_context(|| format!("reading {}", key.display()))?;
    let bundle = bundle::verify(&text, &key);
    let verdict = bundle.verdict();
    let answer = BundleAnswer {
        verdict,
        clean: verdict == audit::Verdict::Clean,
        bundle,
    };
    if json {
        output::json(&answer)?;
        return Ok(code(verdict));
    }
    let proof = &answer.bundle;
    output::line(&format!(
        "session {} of node {}: {} facts",
        output::flat(&proof.session, 64),
        output::flat(&proof.node, 64),
        proof.facts
    ));
    for finding in &proof.findings {
        output::line(&format!(
            "  FINDING {}",
            output::flat(finding, FINDING_WIDTH)
        ));
    }
    let anchor = match proof.last_anchor.as_str() {
        "" => "none".to_owned(),
        name => format!("{name} at {} (seconds since 1970)", proof.last_anchor_s),
    };
    output::line(&format!(
        "  last signed end: {anchor}; {} facts are unproven",
        proof.unproven
    ));
    output::line(words(verdict));
    Ok(code(verdict))
}

fn verify_store(config: &Config, spool: &Path, key: &VerifyingKey) -> Result<audit::Report> {
    let client = sessions::reader(config)?;
    let scope = audit::Scope {
        node_id: audit::node_id(spool).context("reading the spool's node.id")?,
        node: &config.node.name,
        key,
        spool: Some(spool),
        now_s: weir_clock::now().unix_s(),
        on_its_way: std::time::Duration::from_secs(3),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime
        .block_on(audit::verify_store(&client, &scope))
        .map_err(anyhow::Error::msg)
}

fn describe(answer: &Answer) {
    part("spool", &answer.spool);
    match &answer.store {
        Some(store) => part("ClickHouse", store),
        None => output::line("ClickHouse was not asked"),
    }
    output::line(words(answer.verdict));
}

const fn words(verdict: audit::Verdict) -> &'static str {
    match verdict {
        audit::Verdict::Clean => "clean: nothing is missing or changed",
        audit::Verdict::Unproven => {
            "unproven: nothing wrong was found, but what lies after the last signed end cannot be \
             shown to be complete"
        }
        audit::Verdict::Findings => "NOT clean",
    }
}

fn part(name: &str, report: &audit::Report) {
    output::line(&format!(
        "{name}: {} segments, {} facts",
        report.segments, report.facts
    ));
    for finding in &report.findings {
        output::line(&format!("  FINDING {finding}"));
    }
    if report.more_findings > 0 {
        output::line(&format!("  and {} more findings", report.more_findings));
    }
    let anchor = match report.last_anchor.as_str() {
        "" => "none",
        anchor => anchor,
    };
    output::line(&format!(
        "  last signed end: {anchor}; {} facts are unproven",
        report.unproven
    ));
}
