//! `weir sessions export`: one session for other programs, or as a signed bundle.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use weir_model::ident::SessionId;
use weir_record::keys::KeyHistory;
use weir_record::{audit, bundle, export, ocsf};

use crate::config::Config;
use crate::daemon::prepare::StatePaths;
use crate::output;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A JSON object for each fact
    Jsonl,
    /// With names of columns
    Csv,
    /// A binary file: name one with --out
    Parquet,
    /// Events of the Open Cybersecurity Schema Framework, one for each request
    Ocsf,
    /// The recorded terminal, as weir sessions cast
    Asciicast,
}

#[derive(Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    common: super::Common,
    /// Session id
    session: String,
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    format: Format,
    /// Where it goes; without, it is printed
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write a bundle, signed with the node's key (root): facts, digests, signed ends of the spool's segments
    #[arg(long, value_name = "FILE", conflicts_with_all = ["format", "out"])]
    bundle: Option<PathBuf>,
}

pub(crate) async fn run(args: &ExportArgs) -> Result<()> {
    let id = SessionId::parse(&args.session).context("that is not a session id")?;
    let config = output::load(&args.common.config.config)?;
    let client = super::reader(&config)?;
    if let Some(file) = &args.bundle {
        return bundled(&client, &config, id, file).await;
    }
    let format = match args.format {
        Format::Csv => export::Format::Csv,
        Format::Parquet => export::Format::Parquet,
        Format::Jsonl | Format::Ocsf | Format::Asciicast => export::Format::Jsonl,
    };
    ensure!(
        format != export::Format::Parquet || args.out.is_some(),
        "Parquet is a binary file: name one with --out"
    );
    let bytes = session(&client, id, format).await?;
    let bytes = match args.format {
        Format::Jsonl | Format::Csv | Format::Parquet => bytes,
        Format::Ocsf => (ocsf::events(&parsed(&bytes)?).join("\n") + "\n").into_bytes(),
        Format::Asciicast => super::cast(&parsed(&bytes)?, None)?.into_bytes(),
    };
    match &args.out {
        Some(out) => write(out, &bytes),
        None => {
            let text = String::from_utf8(bytes).context("the export")?;
            output::data(text.trim_end());
            Ok(())
        }
    }
}

async fn session(
    client: &clickhouse::Client,
    id: SessionId,
    format: export::Format,
) -> Result<Vec<u8>> {
    let bytes = export::session(client, id.0, export::Format::Jsonl).await;
    let bytes = bytes.map_err(anyhow::Error::msg)?;
    ensure!(!bytes.is_empty(), "no session {id} is recorded (yet)");
    if format == export::Format::Jsonl {
        return Ok(bytes);
    }
    let bytes = export::session(client, id.0, format).await;
    bytes.map_err(anyhow::Error::msg)
}

fn parsed(bytes: &[u8]) -> Result<Vec<serde_json::Value>> {
    let lines = bytes.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).context("a fact"))
        .collect()
}

/// Readable by nobody else: it holds what was answered.
fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut out| out.write_all(bytes))
        .with_context(|| format!("writing {}", file.display()))
}

async fn bundled(
    client: &clickhouse::Client,
    config: &Config,
    id: SessionId,
    file: &Path,
) -> Result<()> {
    let paths = StatePaths::of(config);
    let key = audit::signing_key(&paths.node_key)
        .with_context(|| format!("reading {}", paths.node_key.display()))?;
    let node_id = audit::node_id(&paths.spool).context("reading the spool's node.id")?;
    let (keys, problems) = KeyHistory::beside(&paths.node_key, node_id)
        .with_context(|| format!("reading {}", paths.node_key.display()))?;
    if let Some(problem) = problems.first() {
        bail!("{}: {problem}", paths.node_key.display());
    }
    let scope = audit::Scope {
        node_id,
        node: &config.node.name,
        keys: &keys,
        spool: Some(&paths.spool),
        now_s: weir_clock::now().unix_s(),
        on_its_way: Duration::ZERO,
    };
    let lines = session(client, id, export::Format::Jsonl).await?;
    let text = String::from_utf8(lines).context("the facts")?;
    let facts: Vec<String> = text.lines().map(str::to_owned).collect();
    let node = parsed(text.as_bytes())?
        .first()
        .and_then(|fact| Some(fact.get("node")?.as_str()?.to_owned()));
    if node.as_deref() != Some(scope.node) {
        bail!(
            "session {id} was recorded by node {}: make the bundle there, with its key",
            node.unwrap_or_default()
        );
    }
    let proof = audit::verify_session(client, &scope, id.0).await;
    let proof = proof.map_err(anyhow::Error::msg)?;
    let session = id.to_string();
    let origin = bundle::Origin {
        session: &session,
        node: scope.node,
        node_id: scope.node_id,
        made_s: scope.now_s,
        keys: keys.changes(),
    };
    let bundle = bundle::make(&origin, &facts, (&proof.report, proof.anchors), &key);
    write(file, bundle.map_err(anyhow::Error::msg)?.as_bytes())?;
    output::note(&format!(
        "{} facts in {}; `weir audit key` prints the public key that verifies it",
        facts.len(),
        file.display()
    ));
    Ok(())
}
