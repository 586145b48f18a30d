//! `weir db`: the tables in ClickHouse.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use weir_record::migrate::{self, Layout};
use weir_record::{StoreAddress, tables};

use super::{ConfigArg, sessions};
use crate::config::Config;
use crate::daemon::prepare;
use crate::output;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  weir db migrate --dry-run\n  weir db migrate\n  \
                        weir db migrate --layout cluster --roles\n  weir db check\n  \
                        weir db schema --layout cluster"
)]
pub(crate) struct DbArgs {
    #[command(subcommand)]
    action: DbAction,
}

#[derive(Clone, Copy, ValueEnum)]
enum LayoutArg {
    /// One server, or weir-store
    Local,
    /// Replicated and distributed tables
    Cluster,
}

impl From<LayoutArg> for Layout {
    fn from(layout: LayoutArg) -> Self {
        match layout {
            LayoutArg::Local => Self::Local,
            LayoutArg::Cluster => Self::Cluster,
        }
    }
}

#[derive(Subcommand)]
enum DbAction {
    /// Create or update the tables in ClickHouse
    Migrate {
        #[command(flatten)]
        config: ConfigArg,
        /// Print what would be run, and change nothing
        #[arg(long)]
        dry_run: bool,
        #[arg(long, value_enum, default_value_t = LayoutArg::Local)]
        layout: LayoutArg,
        /// Also create roles, row policies and quotas (not with weir-store)
        #[arg(long)]
        roles: bool,
    },
    /// Check that the tables are what the node needs; exit 1 if not
    Check(ConfigArg),
    /// Print the schema
    Schema {
        #[arg(long, value_enum, default_value_t = LayoutArg::Local)]
        layout: LayoutArg,
    },
}

pub(crate) fn run(args: &DbArgs) -> Result<ExitCode> {
    match &args.action {
        DbAction::Schema { layout } => {
            for (name, text) in Layout::from(*layout).files() {
                output::line(&format!("-- {name}\n{text}"));
            }
            Ok(ExitCode::SUCCESS)
        }
        DbAction::Migrate {
            config,
            dry_run,
            layout,
            roles,
        } => {
            let config = output::load(&config.config)?;
            wait(apply(&config, (*layout).into(), *dry_run, *roles))
        }
        DbAction::Check(arg) => {
            let config = output::load(&arg.config)?;
            let client = sessions::reader(&config)?;
            let problems =
                wait(async { tables::check(&client).await.map_err(anyhow::Error::msg) })?;
            for problem in &problems {
                output::line(problem);
            }
            if problems.is_empty() {
                output::line("the tables are what the node needs");
                return Ok(ExitCode::SUCCESS);
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

fn wait<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(work)
}

async fn apply(config: &Config, layout: Layout, dry_run: bool, roles: bool) -> Result<ExitCode> {
    let store = config
        .record
        .clickhouse
        .as_ref()
        .context("record.clickhouse is not configured")?;
    let file = store.migrator_token_file.as_ref();
    let token = match file.or(store.token_file.as_ref()) {
        Some(file) => Some(prepare::read_secret(file)?),
        None => None,
    };
    let address = StoreAddress {
        url: store.url.clone(),
        database: store.database.clone(),
        token,
    };
    let (client, database) = (address.client(), store.database.as_str());
    if dry_run {
        let pending = migrate::pending(&client, database, layout)
            .await
            .map_err(anyhow::Error::msg)?;
        for (name, text) in pending {
            output::line(&format!("-- {name}\n{text}"));
        }
        if roles {
            for statement in migrate::role_statements(layout) {
                output::line(&format!("{statement};"));
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let applied = migrate::migrate(&client, database, layout)
        .await
        .map_err(anyhow::Error::msg)?;
    for name in applied {
        output::line(&format!("applied {name}"));
    }
    if roles {
        migrate::roles(&client, database, layout)
            .await
            .map_err(anyhow::Error::msg)?;
        output::line("roles, row policies and quotas are in place");
    }
    output::line(&format!("schema of {database} is up to date"));
    Ok(ExitCode::SUCCESS)
}
