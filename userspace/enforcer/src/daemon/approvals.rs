//! The state store of this node, and what keeps it in order.

use std::fs::File;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use rustls::pki_types::ServerName;
use weir_state::{ServerHost, ServerPlace, State};

use super::prepare::{self, StatePaths};
use crate::config::{Config, SharedState, StateHost, StatePlace};

/// A process that is silent for 20 s counts as gone.
const BEAT_EVERY: Duration = Duration::from_secs(5);

/// Reads what only root can read; `None` for the file of this node.
pub(super) fn place(config: &Config) -> Result<Option<ServerPlace>> {
    match &config.approvals.state {
        StatePlace::Sqlite => Ok(None),
        StatePlace::Postgres(shared) => server(shared).map(Some),
    }
}

fn server(shared: &SharedState) -> Result<ServerPlace> {
    let host = match &shared.host {
        StateHost::Socket(path) => ServerHost::Socket(path.clone()),
        StateHost::Tcp { host, port, tls } => ServerHost::Tcp {
            host: host.clone(),
            port: *port,
            tls: match tls {
                None => None,
                Some((ca_file, name)) => {
                    let ca = std::fs::read_to_string(ca_file)
                        .with_context(|| format!("reading {}", ca_file.display()))?;
                    let connector = weir_accept::tls::connector(&ca, &[])
                        .with_context(|| format!("the CA in {}", ca_file.display()))?;
                    let name = ServerName::try_from(name.clone())
                        .with_context(|| format!("the name {name}"))?;
                    Some((connector, name))
                }
            },
        },
    };
    Ok(ServerPlace {
        host,
        database: shared.database.clone(),
        user: shared.user.clone(),
        password: match &shared.password_file {
            Some(file) => Some(prepare::read_secret(file)?),
            None => None,
        },
    })
}

/// Opens the store and keeps it in order from then on.
pub(super) async fn open(
    place: Option<ServerPlace>,
    paths: &StatePaths,
    node: &str,
) -> Result<State> {
    let state = match place {
        None => State::open(&paths.database).context("opening the state database")?,
        Some(place) => {
            let news = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || State::open_server(place, &news))
                .await
                .context("opening the state server")?
                .context("opening the state server")?
        }
    };
    let present = Present::note(paths)?;
    drop(tokio::spawn(keep_in_order(
        state.clone(),
        node.to_owned(),
        present,
    )));
    Ok(state)
}

/// A lock that says as long as it is held that a process of this node is there. An upgrade has two.
struct Present {
    alone: bool,
    _lock: Flock<File>,
}

impl Present {
    fn note(paths: &StatePaths) -> Result<Self> {
        let path = paths.node_dir.join("state.present");
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        let (alone, lock) = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                lock.relock(FlockArg::LockSharedNonblock)
                    .context("sharing state.present")?;
                (true, lock)
            }
            Err((file, _held)) => {
                let lock = Flock::lock(file, FlockArg::LockSharedNonblock);
                (
                    false,
                    lock.map_err(|(_file, why)| why)
                        .context("locking state.present")?,
                )
            }
        };
        Ok(Self { alone, _lock: lock })
    }
}

/// Says that this process lives, and ends what nobody decided in time.
///
/// When no other process of this node is there, what one before it waited for is open at once to
/// whoever asks for the same again.
async fn keep_in_order(state: State, node: String, present: Present) {
    let mut alone = present.alone;
    let mut beats = tokio::time::interval(BEAT_EVERY);
    loop {
        beats.tick().await;
        match state.beat(node.clone(), alone).await {
            Ok(()) => alone = false,
            Err(error) => tracing::error!(%error, "the state store cannot be written"),
        }
        if let Err(error) = state.expire_due(weir_clock::now()).await {
            tracing::error!(%error, "held requests whose time is over stay listed");
        }
    }
}
