//! What the broker says of its own accord, and how the node follows it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::{Context, Result};
use prometheus::{IntGauge, Registry};
use tokio::sync::{mpsc, watch};
use weir_broker::client::{NodeLink, Told};
use weir_relay::{Intake, Node, SNAPSHOT_VERSION, WeakIntake};

use super::intake::Incoming;
use super::serving::Ending;
use super::upgrade;

/// Admin sockets of brokers that came in quick succession.
const ADMIN_SOCKETS_MAX: usize = 4;

/// What follows from it.
pub(super) struct Heard {
    pub(super) changes: watch::Receiver<Ending>,
    /// One by each broker; the newest is the one that its path leads to.
    pub(super) admin_sockets: mpsc::Receiver<OwnedFd>,
}

/// Whether a broker is there, as a metric.
fn there(registry: &Registry) -> prometheus::Result<IntGauge> {
    let there = IntGauge::new("weir_broker_up", "Whether the broker is there: 0 or 1")?;
    registry.register(Box::new(there.clone()))?;
    there.set(1);
    Ok(there)
}

/// Does what the broker says of its own accord.
pub(super) struct Follower {
    node: Arc<Node>,
    intake: WeakIntake,
    there: IntGauge,
    ending: watch::Sender<Ending>,
    /// Each broker has one of its own.
    admin_sockets: mpsc::Sender<OwnedFd>,
}

impl Follower {
    pub(super) fn new(
        (node, intake): (&Arc<Node>, &Intake),
        registry: &Registry,
        admin: OwnedFd,
    ) -> Result<(Self, Heard)> {
        let (ending, changes) = watch::channel(Ending::Signalled);
        let (sender, admin_sockets) = mpsc::channel(ADMIN_SOCKETS_MAX);
        sender.try_send(admin).context("the admin socket")?;
        let follower = Self {
            node: Arc::clone(node),
            intake: intake.downgrade(),
            there: there(registry).context("metrics")?,
            ending,
            admin_sockets: sender,
        };
        let heard = Heard {
            changes,
            admin_sockets,
        };
        Ok((follower, heard))
    }

    /// What keeps the node from being ready.
    pub(super) fn readiness(&self) -> Box<dyn Fn() -> Vec<String> + Send + Sync> {
        let there = self.there.clone();
        Box::new(move || {
            let gone = there.get() == 0;
            gone.then(|| "broker".to_owned()).into_iter().collect()
        })
    }

    pub(super) fn follow(self, link: &NodeLink, told: Vec<Told>, incoming: Incoming) -> Result<()> {
        link.listen(told, move |told| self.told(told, &incoming))
            .context("following the broker")
    }

    fn told(&self, told: Told, incoming: &Incoming) {
        match told {
            Told::Listener {
                workload,
                netns,
                addr,
                socket,
            } => incoming.opened(workload, netns, addr, socket),
            Told::ListenerGone { workload, netns } => incoming.gone(&workload, netns),
            Told::Session(session) => upgrade::take_up(*session, &self.intake),
            Told::Passed(passed) => upgrade::passed(&self.node, &passed),
            Told::Drain { snapshots } => {
                let moves = snapshots == SNAPSHOT_VERSION;
                self.ending.send_replace(Ending::Succeeded { moves });
            }
            Told::Away => {
                tracing::warn!("the broker is gone: another one is waited for");
                self.there.set(0);
            }
            Told::Back { admin } => {
                tracing::info!("a broker is there again");
                self.there.set(1);
                incoming.renewed();
                // A node that drains has nobody who takes it.
                let _unused = self.admin_sockets.try_send(admin);
            }
            Told::Gone(why) => {
                tracing::error!(why, "the broker does not work with this node, which ends");
                self.there.set(0);
                self.ending.send_replace(Ending::BrokerGone);
            }
        }
    }
}
