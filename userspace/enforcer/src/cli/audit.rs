//! `weir audit`: is the record whole?

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use weir_record::keys::{self, Change, KeyHistory};
use weir_record::{audit, bundle};

use super::{ConfigArg, sessions};
use crate::admin::client::AdminClient;
use crate::config::Config;
use crate::daemon::prepare::StatePaths;
use crate::output;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  weir audit verify\n  weir audit verify --json\n  weir audit key > node.pub\n  \
                        weir audit verify --bundle session.weir --key node.pub   # anywhere, without a node\n  \
                        weir audit key rotate\n  weir audit key --history > node.keys"
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
        /// Only the spool's files (and what the witness has)
        #[arg(long)]
        offline: bool,
        /// What the witness was given, as a file of lines of JSON: nothing may contradict it
        #[arg(long, value_name = "FILE", conflicts_with = "bundle")]
        witness: Option<PathBuf>,
        /// A bundle of weir sessions export instead; needs nothing but the file and the key
        #[arg(
            long,
            value_name = "FILE",
            requires = "key",
            conflicts_with = "offline"
        )]
        bundle: Option<PathBuf>,
        /// A public key of the node that made the bundle, as weir audit key prints it, with or without --history
        #[arg(long, value_name = "FILE", requires = "bundle")]
        key: Option<PathBuf>,
    },
    /// Print this node's public key, or change the key
    #[command(args_conflicts_with_subcommands = true)]
    Key {
        #[command(flatten)]
        config: ConfigArg,
        /// Print every change of the key as well, one signed line each, the present key last
        #[arg(long)]
        history: bool,
        #[command(subcommand)]
        action: Option<KeyAction>,
    },
}

#[derive(Subcommand)]
enum KeyAction {
    /// Sign with a new key from now on; the old one stays good for the segments that it has signed
    Rotate {
        #[command(flatten)]
        config: ConfigArg,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
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
        AuditAction::Key {
            action: Some(KeyAction::Rotate { config, json }),
            ..
        } => rotate(config, *json),
        AuditAction::Key {
            config, history, ..
        } => print_key(config, *history),
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
            witness,
            ..
        } => verify_node(config, *json, *offline, witness.as_deref()),
    }
}

fn print_key(arg: &ConfigArg, history: bool) -> Result<ExitCode> {
    let paths = StatePaths::of(&output::load(&arg.config)?);
    let (keys, problems) = key_history(&paths)?;
    if let Some(problem) = problems.first() {
        bail!("{}: {problem}", paths.node_key.display());
    }
    if history {
        for change in keys.changes() {
            output::line(&change.line());
        }
    }
    let key = keys.newest().context("there is no key")?;
    let digits = key.as_bytes().iter().map(|byte| format!("{byte:02x}"));
    output::line(&digits.collect::<String>());
    Ok(ExitCode::SUCCESS)
}

/// The node does it itself where one runs; its lanes go on under the new key.
fn rotate(arg: &ConfigArg, json: bool) -> Result<ExitCode> {
    let config = output::load(&arg.config)?;
    let socket = config.node.run_dir.join("admin.sock");
    let change: Change = if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
        AdminClient::of(&config).post("/audit/key/rotate", &())?
    } else {
        let paths = StatePaths::of(&config);
        let now_s = weir_clock::now().unix_s();
        keys::rotate_at_rest(&paths.spool, &paths.node_key, now_s)?
    };
    if json {
        output::json(&change)?;
    } else {
        output::line(&format!(
            "key {} replaces {}; give the new public key to whoever verifies bundles",
            change.key, change.previous
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn key_history(paths: &StatePaths) -> Result<(KeyHistory, Vec<String>)> {
    // A spool without its number is named by `verify_files`.
    let node = audit::node_id(&paths.spool).unwrap_or_default();
    KeyHistory::beside(&paths.node_key, node)
        .with_context(|| format!("reading {}", paths.node_key.display()))
}

fn code(verdict: audit::Verdict) -> ExitCode {
    if verdict == audit::Verdict::Findings {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn verify_node(
    arg: &ConfigArg,
    json: bool,
    offline: bool,
    witness: Option<&Path>,
) -> Result<ExitCode> {
    let config = output::load(&arg.config)?;
    let paths = StatePaths::of(&config);
    let (keys, problems) = key_history(&paths)?;
    // Before the files: a live node goes on writing.
    let anchors = anchors(&config, &paths, (offline, witness))?;
    let mut spool = audit::verify_files_against(&paths.spool, &keys, &anchors)
        .with_context(|| format!("reading {}", paths.spool.display()))?;
    spool.findings.splice(0..0, problems);
    let store = if offline {
        None
    } else {
        Some(verify_store(&config, &paths.spool, &keys)?)
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

/// What has left the node, as far as it is at hand.
fn anchors(
    config: &Config,
    paths: &StatePaths,
    (offline, witness): (bool, Option<&Path>),
) -> Result<audit::Anchors> {
    let node_id = audit::node_id(&paths.spool).unwrap_or_default();
    let witnessed = match witness {
        Some(file) => audit::Anchors::of_witness(file, node_id)
            .with_context(|| format!("reading {}", file.display()))?,
        None => audit::Anchors::default(),
    };
    if offline {
        return Ok(witnessed);
    }
    let client = sessions::reader(config)?;
    let stored = runtime()?.block_on(audit::Anchors::newest(&client, node_id));
    Ok(stored.map_err(anyhow::Error::msg)?.and(witnessed))
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().context("starting a runtime")
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
    let (key, known) =
        KeyHistory::trusted_file(key).with_context(|| format!("reading {}", key.display()))?;
    let bundle = bundle::verify(&text, (&key, &known));
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
    if proof.key_replaced_s > 0 {
        output::line(&format!(
            "  its key was replaced at {} (seconds since 1970): whoever has that key may have made it since",
            proof.key_replaced_s
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

fn verify_store(config: &Config, spool: &Path, keys: &KeyHistory) -> Result<audit::Report> {
    let client = sessions::reader(config)?;
    let scope = audit::Scope {
        node_id: audit::node_id(spool).context("reading the spool's node.id")?,
        node: &config.node.name,
        keys,
        spool: Some(spool),
        now_s: weir_clock::now().unix_s(),
        on_its_way: std::time::Duration::from_secs(3),
    };
    runtime()?
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
            "unproven: nothing wrong was found, but what lies after the last signed end or anchor cannot \
             be shown to be complete"
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
    let anchor = match (report.last_anchor.as_str(), report.last_anchor_ms) {
        ("", _) => "none".to_owned(),
        (anchor, 0) => anchor.to_owned(),
        (anchor, at_ms) => format!("{anchor} at {} (seconds since 1970)", at_ms / 1000),
    };
    output::line(&format!(
        "  last signed end or anchor: {anchor}; {} facts are unproven",
        report.unproven
    ));
}
