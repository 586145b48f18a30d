//! `weir sessions`: what was recorded.

mod export;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use weir_model::ident::SessionId;
use weir_record::{StoreAddress, query, replay};

use super::ConfigArg;
use crate::config::Config;
use crate::daemon::prepare;
use crate::output;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  weir sessions ls\n  weir sessions ls --limit 5 --json\n  \
                        weir sessions show SESSION\n  weir sessions replay SESSION\n  \
                        weir sessions cast SESSION > session.cast\n  \
                        weir sessions export SESSION > session.jsonl\n  \
                        weir sessions export SESSION --format parquet --out session.parquet\n  \
                        weir sessions export SESSION --bundle session.weir   # see weir audit verify --bundle"
)]
pub(crate) struct SessionsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Args, Clone)]
pub(crate) struct Common {
    #[command(flatten)]
    config: ConfigArg,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Subcommand)]
enum Action {
    /// List sessions, newest first
    Ls {
        #[command(flatten)]
        common: Common,
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show every fact of one session
    Show {
        #[command(flatten)]
        common: Common,
        /// Session id
        session: String,
    },
    /// Print one session as a transcript with timing
    Replay {
        #[command(flatten)]
        common: Common,
        /// Session id
        session: String,
    },
    /// Print a recorded terminal as an asciicast, for any player of that format
    Cast {
        #[command(flatten)]
        common: Common,
        /// Session id
        session: String,
        /// The request that opened the terminal, if the session had several
        #[arg(long)]
        seq: Option<u64>,
    },
    /// Print every fact of one session, or put it into a bundle that proves itself
    Export(export::ExportArgs),
}

/// A client with the reader's rights.
pub(crate) fn reader(config: &Config) -> Result<clickhouse::Client> {
    let store = config
        .record
        .clickhouse
        .as_ref()
        .context("record.clickhouse is not configured: there is no store to ask")?;
    let token = match store
        .reader_token_file
        .as_ref()
        .or(store.token_file.as_ref())
    {
        Some(file) => Some(prepare::read_secret(file)?),
        None => None,
    };
    let address = StoreAddress {
        url: store.url.clone(),
        database: store.database.clone(),
        token,
    };
    Ok(address.client())
}

pub(crate) fn run(args: &SessionsArgs) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(ask(args))
}

async fn ask(args: &SessionsArgs) -> Result<ExitCode> {
    match &args.action {
        Action::Ls { common, limit } => {
            let client = reader(&output::load(&common.config.config)?)?;
            let rows = query::sessions(&client, *limit)
                .await
                .map_err(anyhow::Error::msg)?;
            if common.json {
                output::json(&rows)?
            } else {
                print_sessions(&rows)
            }
        }
        Action::Show { common, session } => {
            let facts = facts(common, session).await?;
            output::json(&facts)?;
        }
        Action::Replay { common, session } => {
            let facts = facts(common, session).await?;
            if common.json {
                output::json(&facts)?;
            } else {
                output::line(replay::render(&facts).trim_end());
            }
        }
        Action::Cast {
            common,
            session,
            seq,
        } => {
            let facts = facts(common, session).await?;
            output::data(cast(&facts, *seq)?.trim_end());
        }
        Action::Export(args) => export::run(args).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn facts(common: &Common, session: &str) -> Result<Vec<serde_json::Value>> {
    let id = SessionId::parse(session).context("that is not a session id")?;
    let client = reader(&output::load(&common.config.config)?)?;
    let facts = query::session_facts(&client, id.0)
        .await
        .map_err(anyhow::Error::msg)?;
    anyhow::ensure!(!facts.is_empty(), "no session {session} is recorded (yet)");
    Ok(facts)
}

fn cast(facts: &[serde_json::Value], seq: Option<u64>) -> Result<String> {
    let mut terminals = replay::terminals(facts);
    let numbers: Vec<_> = terminals.keys().map(u64::to_string).collect();
    match (seq, numbers.as_slice()) {
        (_, []) => anyhow::bail!("this session opened no terminal"),
        (None, [_, _, ..]) => anyhow::bail!(
            "this session opened several terminals: choose one with --seq, of {}",
            numbers.join(", ")
        ),
        (None, [_]) => Ok(terminals
            .pop_first()
            .map(|(_, cast)| cast)
            .unwrap_or_default()),
        (Some(seq), _) => terminals.remove(&seq).with_context(|| {
            format!(
                "request {seq} opened no terminal; these did: {}",
                numbers.join(", ")
            )
        }),
    }
}

fn print_sessions(sessions: &[query::SessionRow]) {
    let rows: Vec<Vec<String>> = sessions
        .iter()
        .map(|row| {
            vec![
                row.session.clone(),
                row.started.clone(),
                row.workload.clone(),
                row.target.clone(),
                row.exe.clone(),
                row.requests.to_string(),
                row.denied.to_string(),
                row.held.to_string(),
                row.rows.to_string(),
                row.masked.to_string(),
            ]
        })
        .collect();
    let header = [
        "SESSION", "STARTED", "WORKLOAD", "TARGET", "EXE", "REQUESTS", "DENIED", "HELD", "ROWS",
        "MASKED",
    ];
    output::table(&header, &rows);
}
