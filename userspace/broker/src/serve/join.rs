//! Nodes come, come back, follow one another and leave.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{Broker, monotonic_ns};
use crate::cgroup;
use crate::config::{BrokerError, system};
use crate::listeners::PlaceId;
use crate::message::{Answer, Claim, FromBroker, MESSAGES_VERSION, Passed};
use crate::nodes::{NodeId, Placed, Role, Sent, Succession};
use crate::pulse;

impl Broker {
    pub(super) fn tell_listeners(&mut self, id: NodeId, place: PlaceId) {
        self.tell_last_listeners(id, place, usize::MAX);
    }

    /// Of a place only so many of the newest.
    pub(super) fn tell_last_listeners(&mut self, id: NodeId, place: PlaceId, count: usize) {
        let mut failed = false;
        if let Some(known) = self.places.by_id.get(&place) {
            let old = known.sockets.len().saturating_sub(count);
            for socket in known.sockets.iter().skip(old) {
                let message = FromBroker::Listener {
                    workload: known.workload.clone(),
                    netns: known.cookie,
                    addr: socket.addr,
                };
                failed |= self.nodes.send(id, &message, &[socket.fd.as_fd()]) != Sent::Yes;
            }
        }
        if failed {
            self.node_leaves(id);
        } else {
            self.places.has_listeners(place, &mut self.system);
        }
    }

    /// What a node does not take, it will never catch up with: it is let go, and may come again.
    pub(super) fn tell(&mut self, id: NodeId, message: &FromBroker, fds: &[BorrowedFd<'_>]) {
        if self.nodes.send(id, message, fds) != Sent::Yes {
            self.node_leaves(id);
        }
    }

    pub(super) fn node_arrives(&mut self, listener: BorrowedFd<'_>) {
        let Some((id, pid)) = self.nodes.arrives(listener, self.config.node_uid) else {
            return;
        };
        if let Err(error) = cgroup::enter(&self.own_cgroup, pid) {
            tracing::warn!(%error, "the node left before it was let in");
            self.nodes.leaves(id);
            return;
        }
        tracing::info!(pid, "a node is here");
    }

    pub(super) fn node_leaves(&mut self, id: NodeId) {
        if self.nodes.leaves(id) != Some(Role::Serving) {
            return;
        }
        tracing::warn!("the node is gone: protected connects are refused");
        self.pulse.stop();
    }

    /// Answers before anything else is done: a node that went meanwhile must change nothing.
    pub(super) fn hello(
        &mut self,
        (node, id): (NodeId, u64),
        abi: u32,
        (snapshots, claim): (u32, Claim),
    ) -> Result<(), BrokerError> {
        if abi != MESSAGES_VERSION {
            let text = format!("the node speaks version {abi}, the broker {MESSAGES_VERSION}");
            self.reply(node, id, Answer::Refused(text), &[]);
            return Ok(());
        }
        if claim == Claim::New && self.nodes.with(Role::Joining).next().is_some() {
            tracing::warn!("a node was turned away: another one is joining");
            self.nodes.leaves(node);
            return Ok(());
        }
        let (watched, pulse) = pulse::pair().map_err(|source| system("a pulse", source))?;
        let map = self.system.accepted_map()?;
        let heartbeat = self.system.heartbeat_map()?;
        let admin = self
            .admin
            .try_clone()
            .map_err(|source| system("admin socket", source))?;
        let speakers = self.speakers.as_ref().and_then(|fd| fd.try_clone().ok());
        let mut fds = vec![map.as_fd(), admin.as_fd(), pulse.as_fd(), heartbeat.as_fd()];
        fds.extend(speakers.as_ref().map(AsFd::as_fd));
        let birth = self.system.birth();
        self.reply(node, id, Answer::Hello { birth }, &fds);
        match self.nodes.introduced(node, (snapshots, claim), watched) {
            Placed::NotNow => {}
            Placed::Joining => self.tell_all_listeners(node),
            Placed::Serving(succession) => {
                self.tell_all_listeners(node);
                // It may have left over that.
                if self.nodes.role(node) == Some(Role::Serving) {
                    self.succeeds(succession);
                }
            }
            Placed::Draining(successor) => {
                if let (Some(snapshots), Claim::Serving { .. }) = (successor, claim) {
                    // It has not heard of it.
                    self.tell(node, &FromBroker::Drain { snapshots }, &[]);
                }
            }
        }
        Ok(())
    }

    fn tell_all_listeners(&mut self, node: NodeId) {
        let places: Vec<PlaceId> = self.places.by_id.keys().copied().collect();
        for place in places {
            self.tell_listeners(node, place);
        }
    }

    /// From here on new flows are this node's.
    pub(super) fn serves(&mut self, node: NodeId, id: u64) -> Result<(), BrokerError> {
        let Some(succession) = self.nodes.serves(node, monotonic_ns()) else {
            let text = "a node says once that it serves, and after its hello".to_owned();
            self.reply(node, id, Answer::Refused(text), &[]);
            return Ok(());
        };
        self.reply(node, id, Answer::Done, &[]);
        self.succeeds(succession);
        Ok(())
    }

    fn succeeds(&mut self, succession: Succession) {
        self.members.begin();
        self.pulse.follow(succession.pulse);
        let snapshots = succession.snapshots;
        for predecessor in succession.before {
            self.tell(predecessor, &FromBroker::Drain { snapshots }, &[]);
        }
    }

    /// Passes a session from a node that drains to the one that serves; nothing of it is read.
    pub(super) fn hand_over(&mut self, node: NodeId, id: u64, fds: &[OwnedFd]) {
        let refused = |text: &str| Answer::Refused(text.to_owned());
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let answer = match (self.nodes.role(node), self.nodes.serving()) {
            (Some(Role::Draining), Some(to)) => {
                match self.nodes.send(to, &FromBroker::Session, &fds) {
                    Sent::Yes => Answer::Done,
                    Sent::Busy | Sent::Gone => refused("the successor does not take it now"),
                }
            }
            _ => refused("only a node that drains hands over, and to one that serves"),
        };
        self.reply(node, id, answer, &[]);
    }

    pub(super) fn pass(&mut self, node: NodeId, id: u64, passed: &Passed) {
        let draining: Vec<NodeId> = self.nodes.with(Role::Draining).collect();
        if draining.is_empty() {
            let nobody = Answer::Refused("no other node drains".to_owned());
            self.reply(node, id, nobody, &[]);
            return;
        }
        for to in draining {
            self.tell(to, &FromBroker::Passed(passed.clone()), &[]);
        }
        self.reply(node, id, Answer::Done, &[]);
    }
}
