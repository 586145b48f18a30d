//! The web console on this node: its secrets, its listener, and the node as it sees it.

mod explain;
pub(crate) mod hooks;
mod house;
mod sign_in;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use tokio::task::AbortHandle;
use weir_console::{ConsoleConfig, Parts, Tls, listen, router};
use weir_identify::{Identify, Secret};
use weir_record::StoreAddress;
use weir_relay::Node;
use weir_state::State;

use self::house::NodeHouse;
use self::sign_in::EntraSignIn;
use crate::config::{self, Config};
use crate::daemon::prepare;

/// An address that is taken is tried again after this: the node before us lets go of it.
const TAKEN_AGAIN: Duration = Duration::from_millis(200);

/// What only root can read, read before privileges are dropped.
pub(crate) struct ConsoleSecrets {
    tls: Option<Tls>,
    client_secret: Option<Secret>,
    reader: Option<StoreAddress>,
}

impl ConsoleSecrets {
    /// `None` without a console.
    pub(crate) fn read(config: &Config) -> Result<Option<Self>> {
        let Some(console) = &config.console else {
            return Ok(None);
        };
        let tls = match &console.tls {
            None => None,
            Some((chain, key)) => {
                let chain = std::fs::read_to_string(chain)
                    .with_context(|| format!("reading {}", chain.display()))?;
                let key = prepare::read_key(key)?;
                let tls = Tls::parse(&chain, &key).map_err(anyhow::Error::msg);
                Some(tls.context("console.tls")?)
            }
        };
        let client_secret = match &console.client_secret_file {
            Some(file) => Some(Secret::new(prepare::read_secret(file)?.as_str())),
            None => None,
        };
        Ok(Some(Self {
            tls,
            client_secret,
            reader: reader(config)?,
        }))
    }
}

fn reader(config: &Config) -> Result<Option<StoreAddress>> {
    let Some(store) = &config.record.clickhouse else {
        return Ok(None);
    };
    let token = match &store.reader_token_file {
        Some(file) => Some(prepare::read_secret(file)?),
        None => None,
    };
    Ok(Some(StoreAddress {
        url: store.url.clone(),
        database: store.database.clone(),
        token,
    }))
}

/// What the console needs of a running node.
pub(crate) struct Running {
    pub(crate) node: Arc<Node>,
    pub(crate) state: State,
    pub(crate) identify: Arc<Identify>,
    pub(crate) hooks: Router,
}

/// Serves the console until it is aborted.
pub(crate) fn start(
    config: &Config,
    console: &config::Console,
    secrets: ConsoleSecrets,
    running: Running,
) -> AbortHandle {
    let sign_in = EntraSignIn::new(running.identify, console, secrets.client_secret);
    let house = NodeHouse::new(config, running.node, running.state.clone(), secrets.reader);
    let routes = router(Parts {
        config: ConsoleConfig {
            origin: console.url.clone(),
            secure: console.tls.is_some(),
            lifetimes: console.lifetimes,
            roles: console.roles.clone(),
            node: config.node.name.clone(),
        },
        state: running.state,
        house: Arc::new(house),
        sign_in: Arc::new(sign_in),
        now: weir_clock::now,
        hooks: running.hooks,
    });
    let (addr, url) = (console.listen, console.url.clone());
    let task = tokio::spawn(async move {
        let tls = secrets.tls;
        let listening = loop {
            match listen(addr, tls.as_ref()).await {
                Ok(listening) => break listening,
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                    tracing::debug!(%addr, "console.listen is still taken");
                    tokio::time::sleep(TAKEN_AGAIN).await;
                }
                Err(error) => {
                    tracing::error!(%error, %addr, "console.listen: there is no console");
                    return;
                }
            }
        };
        tracing::info!(%url, "the console answers");
        listening.serve(routes).await;
    });
    task.abort_handle()
}
