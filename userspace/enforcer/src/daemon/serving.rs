//! What a node runs while it serves, and the order in which that ends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use weir_relay::{Intake, Node, Workers};

use super::ledger::Kept;
use super::upgrade;

/// Flows are given this long to end on their own at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

pub(super) type Shipping = JoinHandle<()>;

/// Why a node stops serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Signalled,
    /// The one that is there does not work with this node.
    BrokerGone,
    /// A successor takes new flows; ours move there if it reads our snapshots.
    Succeeded {
        moves: bool,
    },
}

/// Everything that has to be ended in order.
pub(super) struct Serving {
    pub(super) node: Arc<Node>,
    pub(super) intake: Intake,
    pub(super) workers: Workers,
    pub(super) accepting: JoinHandle<()>,
    pub(super) administration: Vec<AbortHandle>,
    pub(super) shipping: (watch::Sender<bool>, Option<Shipping>),
    pub(super) books: Kept,
    pub(super) changes: watch::Receiver<Ending>,
    pub(super) drain_s: u32,
}

impl Serving {
    /// Serves until a signal, a successor, or a broker that does not work with this node.
    pub(super) async fn until_the_end(mut self) -> Result<()> {
        let ending = tokio::select! {
            signal = wait_for_signal() => signal.map(|()| Ending::Signalled)?,
            Ok(()) = self.changes.changed() => *self.changes.borrow(),
        };
        // Dropping the tasks closes our copies of the listeners; the broker keeps its own.
        self.accepting.abort();
        let (stop_shipper, shipping) = self.shipping;
        self.books.end(ending == Ending::Signalled, DRAIN).await;
        if let Ending::Succeeded { moves } = ending {
            self.administration.iter().for_each(AbortHandle::abort);
            // From here on the successor ships what we record.
            let _told = stop_shipper.send(true);
            upgrade::drain(&self.node, moves, self.drain_s).await;
        }
        let shipper = (&stop_shipper, shipping);
        stop(&self.node, self.intake, self.workers, shipper).await;
        // Its supervisor starts it again, as what that broker works with.
        anyhow::ensure!(
            ending != Ending::BrokerGone,
            "the broker does not work with this node: start both from the same version"
        );
        Ok(())
    }
}

/// No new flows, live ones are told, the rest of the record is shipped.
async fn stop(
    node: &Node,
    intake: Intake,
    workers: Workers,
    (stop_shipper, shipping): (&watch::Sender<bool>, Option<Shipping>),
) {
    tracing::info!("stopping: no new flows, live ones are told");
    node.kill_all();
    drop(intake);
    let ended = tokio::task::spawn_blocking(move || workers.join());
    if tokio::time::timeout(DRAIN, ended).await.is_err() {
        tracing::warn!("some flows did not end in time");
    }
    // Nobody waits for it: the shipper also watches this value.
    let _told = stop_shipper.send(true);
    if let Some(shipping) = shipping
        && tokio::time::timeout(DRAIN, shipping).await.is_err()
    {
        tracing::warn!("the rest of the record stays in the spool until the next start");
    }
}

async fn wait_for_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("signal handler")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signal handler")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
