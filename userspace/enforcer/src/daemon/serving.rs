//! What a node runs while it serves, and the order in which that ends.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
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
    pub(super) life: Life,
}

/// How this process comes and goes, for its supervisor.
pub(super) struct Life {
    /// Has a line in it from when new flows are ours until they are not.
    ready_file: Option<File>,
    /// Once succeeded and drained, wait for a signal: whoever started us would start us again, and
    /// that would succeed the successor.
    stay: bool,
    signals: Signals,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Life {
    /// `ready_file` was opened while that was allowed.
    pub(super) fn new(ready_file: Option<File>, stay: bool) -> Result<Self> {
        // From here on a signal is noted, whenever it is asked for.
        let signals = Signals {
            terminate: signal(SignalKind::terminate()).context("signal handler")?,
            interrupt: signal(SignalKind::interrupt()).context("signal handler")?,
        };
        Ok(Self {
            ready_file,
            stay,
            signals,
        })
    }

    pub(super) fn ready(&mut self) -> Result<()> {
        match &mut self.ready_file {
            Some(file) => writeln!(file, "{}", std::process::id()).context("the ready file"),
            None => Ok(()),
        }
    }

    fn not_ready(&mut self) {
        if let Some(file) = &self.ready_file
            && let Err(error) = file.set_len(0)
        {
            tracing::warn!(%error, "the ready file still says that this node serves");
        }
    }
}

impl Signals {
    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Serving {
    /// Serves until a signal, a successor, or a broker that does not work with this node.
    pub(super) async fn until_the_end(mut self) -> Result<()> {
        let ending = tokio::select! {
            () = self.life.signals.any() => Ending::Signalled,
            Ok(()) = self.changes.changed() => *self.changes.borrow(),
        };
        self.life.not_ready();
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
        if self.life.stay && matches!(ending, Ending::Succeeded { .. }) {
            tracing::info!("everything has ended: waiting to be told to leave");
            self.life.signals.any().await;
        }
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
