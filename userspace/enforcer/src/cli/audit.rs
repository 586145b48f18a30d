//! `weir audit` and `weir db`: the record itself.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde::Serialize;
use weir_record::{StoreAddress, audit, migrate};

use super::{ConfigArg, sessions};
use crate::daemon::prepare::{self, StatePaths};
use crate::output;

#[derive(Args)]
#[command(after_help = "Examples:\n  weir audit verify\n  weir audit verify --json")]
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
    },
}

#[derive(Args)]
pub(crate) struct DbArgs {
    #[command(subcommand)]
    action: DbAction,
}

#[derive(Subcommand)]
enum DbAction {
    /// Create or update the tables in ClickHouse
    Migrate(ConfigArg),
    /// Print the schema
    Schema,
}

#[derive(Serialize)]
struct Verdict {
    clean: bool,
    spool: audit::Report,
    store_findings: Vec<String>,
    store_checked: bool,
}

pub(crate) fn run(args: &AuditArgs) -> Result<ExitCode> {
    let AuditAction::Verify {
        config: arg,
        json,
        offline,
    } = &args.action;
    let config = output::load(&arg.config)?;
    let paths = StatePaths::of(&config);
    let key = audit::verifying_key(&paths.node_key)
        .with_context(|| format!("reading {}", paths.node_key.display()))?;
    let spool = audit::verify_files(&paths.spool, &key)
        .with_context(|| format!("reading {}", paths.spool.display()))?;
    let store_findings = if *offline {
        Vec::new()
    } else {
        let client = sessions::reader(&config)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime
            .block_on(audit::verify_store(&client))
            .map_err(anyhow::Error::msg)?
    };
    let clean = spool.findings.is_empty() && store_findings.is_empty();
    let verdict = Verdict {
        clean,
        spool,
        store_findings,
        store_checked: !offline,
    };
    if *json {
        output::json(&verdict)?;
    } else {
        describe(&verdict);
    }
    Ok(if clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn describe(verdict: &Verdict) {
    let spool = &verdict.spool;
    output::line(&format!(
        "spool: {} segments, {} facts",
        spool.segments, spool.facts
    ));
    for finding in spool.findings.iter().chain(&verdict.store_findings) {
        output::line(&format!("  FINDING {finding}"));
    }
    if !verdict.store_checked {
        output::line("ClickHouse was not asked");
    }
    let anchor = if spool.last_anchor.is_empty() {
        "none"
    } else {
        spool.last_anchor.as_str()
    };
    output::line(&format!(
        "last signed end: {anchor}; {} facts after it are unproven",
        spool.unproven
    ));
    output::line(if verdict.clean {
        "nothing is missing or changed"
    } else {
        "NOT clean"
    });
}

pub(crate) fn db(args: &DbArgs) -> Result<ExitCode> {
    match &args.action {
        DbAction::Schema => {
            for (name, text) in migrate::MIGRATIONS {
                output::line(&format!("-- {name}\n{text}"));
            }
        }
        DbAction::Migrate(arg) => {
            let config = output::load(&arg.config)?;
            let store = config
                .record
                .clickhouse
                .as_ref()
                .context("record.clickhouse is not configured")?;
            let token = match store
                .migrator_token_file
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
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime
                .block_on(migrate::migrate(&address.client(), &store.database))
                .map_err(anyhow::Error::msg)?;
            output::line(&format!("schema of {} is up to date", store.database));
        }
    }
    Ok(ExitCode::SUCCESS)
}
