//! Accepting on the listeners that the broker made.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use weir_accept::origin::with_origin;
use weir_accept::{Listener, OriginSource, Refused};
use weir_model::addr::NetnsCookie;
use weir_model::fault::Fault;
use weir_relay::Intake;

use super::ledger::Taken;

/// Announcements that may wait.
const QUEUE_MAX: usize = 1024;
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_millis(50);
/// Listeners of a broker that is gone are kept for this long. The next one sends connects to its own
/// as soon as it knows a workload, which takes it half of this at most.
const OLD_KEPT: std::time::Duration = std::time::Duration::from_secs(60);

pub(crate) enum Change {
    Opened(Listener),
    /// Workload and namespace.
    Gone(Arc<str>, u64),
    /// Another broker is there, whose listeners follow.
    Renewed,
}

/// The sending end, used from the broker link's thread.
pub(crate) struct Incoming(mpsc::Sender<Change>);

pub(crate) fn channel() -> (Incoming, mpsc::Receiver<Change>) {
    let (sender, receiver) = mpsc::channel(QUEUE_MAX);
    (Incoming(sender), receiver)
}

impl Incoming {
    pub(crate) fn opened(&self, workload: String, netns: u64, addr: SocketAddr, socket: OwnedFd) {
        let listener = Listener {
            workload: Arc::from(workload),
            netns: NetnsCookie(netns),
            addr,
            socket,
        };
        self.send(Change::Opened(listener));
    }

    pub(crate) fn gone(&self, workload: &str, netns: u64) {
        self.send(Change::Gone(Arc::from(workload), netns));
    }

    pub(crate) fn renewed(&self) {
        self.send(Change::Renewed);
    }

    fn send(&self, change: Change) {
        if self.0.blocking_send(change).is_err() {
            tracing::debug!("a listener came while stopping");
        }
    }
}

/// Follows the listeners until the sending end is gone.
pub(crate) async fn accept_all(
    mut changes: mpsc::Receiver<Change>,
    origins: Arc<dyn OriginSource>,
    intake: Intake,
    taken: Arc<Taken>,
) {
    // Dropped with this future, which ends every task in it.
    let mut accepting = JoinSet::new();
    let mut tasks: HashMap<(Arc<str>, u64), Vec<AbortHandle>> = HashMap::new();
    while let Some(change) = changes.recv().await {
        match change {
            Change::Opened(listener) => {
                let key = (Arc::clone(&listener.workload), listener.netns.0);
                let work = accept(
                    listener,
                    Arc::clone(&origins),
                    intake.clone(),
                    Arc::clone(&taken),
                );
                tasks.entry(key).or_default().push(accepting.spawn(work));
            }
            Change::Gone(workload, cookie) => {
                for task in tasks.remove(&(workload, cookie)).unwrap_or_default() {
                    task.abort();
                }
            }
            Change::Renewed => {
                let old: Vec<AbortHandle> = tasks.drain().flat_map(|(_, tasks)| tasks).collect();
                accepting.spawn(async move {
                    tokio::time::sleep(OLD_KEPT).await;
                    old.iter().for_each(AbortHandle::abort);
                });
            }
        }
    }
}

async fn accept(
    listener: Listener,
    origins: Arc<dyn OriginSource>,
    intake: Intake,
    taken: Arc<Taken>,
) {
    let socket = listener
        .socket
        .try_clone()
        .map(std::net::TcpListener::from)
        .and_then(tokio::net::TcpListener::from_std);
    let socket = match socket {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%error, "a listener cannot be used");
            return;
        }
    };
    loop {
        match socket
            .accept()
            .await
            .and_then(|(stream, _peer)| stream.into_std())
        {
            Ok(stream) => take(stream, &listener, &*origins, (&intake, &taken)),
            Err(error) => {
                // Out of descriptors or the like: not a reason to spin.
                tracing::warn!(%error, "accept");
                tokio::time::sleep(RETRY_AFTER).await;
            }
        }
    }
}

fn take(
    stream: std::net::TcpStream,
    listener: &Listener,
    origins: &dyn OriginSource,
    (intake, taken): (&Intake, &Taken),
) {
    match with_origin(stream, listener, origins) {
        Ok(accepted) => {
            taken.note(&listener.workload);
            if !intake.offer(accepted) {
                tracing::warn!("a flow was closed: the workers are full");
            }
        }
        Err(refused) => {
            if matches!(refused, Refused::Left) {
                taken.left(&listener.workload);
            }
            tracing::warn!(
                workload = %listener.workload, fault = refused.kind().label(), %refused,
                "a connection to the listener was closed"
            );
        }
    }
}
