//! The node processes at the broker's socket: one that serves, and around an upgrade others.
//!
//! A node joins, says that it serves, and from then on the one before it drains: it takes no new
//! flows, hands its sessions over or waits for their end, and leaves. Nodes that were there before
//! this broker come back as what they were.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{SockFlag, accept4, getsockopt, sockopt};

use crate::message::{Claim, FromBroker, adopt_accepted, send};

/// Nodes at once: one that joins, one that serves, and predecessors that still drain.
const NODES_MAX: usize = 16;

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Has said nothing yet.
    Arrived,
    /// Starting; the one before it still serves.
    Joining,
    /// Takes new flows; its heartbeat counts.
    Serving,
    /// Has a successor.
    Draining,
}

/// Names a connection, so that an answer never reaches the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(u64);

struct Peer {
    id: NodeId,
    fd: OwnedFd,
    pid: u32,
    role: Role,
    /// Since when it serves, `CLOCK_MONOTONIC`.
    since_ns: u64,
    /// Our end of its pulse, for as long as it is here: without it the node takes us for gone.
    pulse: Option<OwnedFd>,
    /// Version of the session snapshots that it reads and writes.
    snapshots: u32,
}

/// What a send came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Yes,
    /// Its socket is full: it is slow or stopped.
    Busy,
    Gone,
}

/// What becomes of a node that has said hello.
pub(crate) enum Placed {
    /// It starts.
    Joining,
    /// Another one is starting: it may come again.
    NotNow,
    /// It goes on serving.
    Serving(Succession),
    /// It has a successor, which reads snapshots of this version; `None` while that is not here.
    Draining(Option<u32>),
}

/// A node serves from now on.
pub(crate) struct Succession {
    /// Those that did so far.
    pub(crate) before: Vec<NodeId>,
    /// Version of snapshots that it reads.
    pub(crate) snapshots: u32,
    pub(crate) pulse: OwnedFd,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Nodes {
    peers: Vec<Peer>,
    last: u64,
}

impl Nodes {
    /// Takes a connection in when its peer may be a node: root (before it drops), or the node's
    /// own user. Answers with its process id.
    pub(crate) fn arrives(&mut self, listener: BorrowedFd<'_>, uid: u32) -> Option<(NodeId, u32)> {
        // Not blocking: a stopped node with a full buffer must not stop the broker.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = match accept4(listener.as_raw_fd(), flags) {
            Ok(fd) => adopt_accepted(fd),
            Err(error) => {
                tracing::warn!(%error, "a node could not be accepted");
                return None;
            }
        };
        let peer = match getsockopt(&fd, sockopt::PeerCredentials) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::warn!(%error, "a peer cannot be looked at");
                return None;
            }
        };
        if peer.uid() != 0 && peer.uid() != uid {
            tracing::warn!(uid = peer.uid(), "a stranger at the broker's socket");
            return None;
        }
        if self.peers.len() >= NODES_MAX {
            tracing::warn!("a node was turned away: too many are here");
            return None;
        }
        self.last += 1;
        let (id, pid) = (NodeId(self.last), u32::try_from(peer.pid()).unwrap_or(0));
        self.peers.push(Peer {
            id,
            fd,
            pid,
            role: Role::Arrived,
            since_ns: 0,
            pulse: None,
            snapshots: 0,
        });
        Some((id, pid))
    }

    /// Every connection, for polling.
    pub(crate) fn fds(&self) -> impl Iterator<Item = (NodeId, BorrowedFd<'_>)> {
        self.peers.iter().map(|peer| (peer.id, peer.fd.as_fd()))
    }

    pub(crate) fn fd(&self, id: NodeId) -> Option<BorrowedFd<'_>> {
        self.peer(id).map(|peer| peer.fd.as_fd())
    }

    fn peer(&self, id: NodeId) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.id == id)
    }

    pub(crate) fn role(&self, id: NodeId) -> Option<Role> {
        self.peer(id).map(|peer| peer.role)
    }

    /// The one that takes new flows.
    pub(crate) fn serving(&self) -> Option<NodeId> {
        self.with(Role::Serving).next()
    }

    pub(crate) fn with(&self, role: Role) -> impl Iterator<Item = NodeId> + '_ {
        self.peers
            .iter()
            .filter(move |peer| peer.role == role)
            .map(|peer| peer.id)
    }

    /// Those that accept connections, or are about to.
    pub(crate) fn accepting(&self) -> Vec<NodeId> {
        self.peers
            .iter()
            .filter(|peer| matches!(peer.role, Role::Joining | Role::Serving))
            .map(|peer| peer.id)
            .collect()
    }

    /// What a node says of itself at first: the version of snapshots that it reads, and what it is;
    /// and the end of its pulse that we watch. Of two that served before, the later one does.
    pub(crate) fn introduced(
        &mut self,
        id: NodeId,
        (snapshots, claim): (u32, Claim),
        pulse: OwnedFd,
    ) -> Placed {
        let joins = |peer: &Peer| peer.role == Role::Joining;
        if claim == Claim::New && self.peers.iter().any(joins) {
            return Placed::NotNow;
        }
        let serves = |peer: &&Peer| peer.role == Role::Serving;
        let serving = self.peers.iter().find(serves);
        let serving = serving.map(|peer| (peer.since_ns, peer.snapshots));
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) else {
            return Placed::NotNow;
        };
        peer.snapshots = snapshots;
        peer.pulse = Some(pulse);
        match claim {
            Claim::New => {
                peer.role = Role::Joining;
                Placed::Joining
            }
            Claim::Serving { since_ns } if serving.is_none_or(|(other, _)| other < since_ns) => {
                // Only one that said hello may serve.
                peer.role = Role::Joining;
                let succession = self.serves(id, since_ns);
                succession.map_or(Placed::NotNow, Placed::Serving)
            }
            Claim::Serving { .. } | Claim::Draining => {
                peer.role = Role::Draining;
                Placed::Draining(serving.map(|(_, snapshots)| snapshots))
            }
        }
    }

    /// A node says that it serves. Those that did so far are to drain, which they are told by the
    /// returned version of snapshots that their successor reads.
    pub(crate) fn serves(&mut self, id: NodeId, since_ns: u64) -> Option<Succession> {
        let peer = self
            .peers
            .iter_mut()
            .find(|peer| peer.id == id && peer.role == Role::Joining)?;
        let (snapshots, pulse) = (peer.snapshots, peer.pulse.as_ref()?.try_clone().ok()?);
        let mut before = Vec::new();
        for peer in &mut self.peers {
            if peer.id == id {
                (peer.role, peer.since_ns) = (Role::Serving, since_ns);
                tracing::info!(pid = peer.pid, "a node serves");
            } else if peer.role == Role::Serving {
                peer.role = Role::Draining;
                before.push(peer.id);
                tracing::info!(pid = peer.pid, "a node drains: it has a successor");
            }
        }
        Some(Succession {
            before,
            snapshots,
            pulse,
        })
    }

    pub(crate) fn send(&self, id: NodeId, message: &FromBroker, fds: &[BorrowedFd<'_>]) -> Sent {
        let Some(peer) = self.peer(id) else {
            return Sent::Gone;
        };
        match send(peer.fd.as_fd(), message, fds) {
            Ok(()) => Sent::Yes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Busy,
            Err(_) => Sent::Gone,
        }
    }

    /// Forgets a connection; answers with the role that it had.
    pub(crate) fn leaves(&mut self, id: NodeId) -> Option<Role> {
        let at = self.peers.iter().position(|peer| peer.id == id)?;
        let peer = self.peers.swap_remove(at);
        tracing::info!(pid = peer.pid, role = ?peer.role, "a node has left");
        Some(peer.role)
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{AddressFamily, SockType, socketpair};

    use super::*;
    use crate::pulse::pair;

    /// Nodes that have connected; their ends.
    fn arrived(count: usize) -> (Nodes, Vec<NodeId>, Vec<OwnedFd>) {
        let (mut nodes, mut ends) = (Nodes::default(), Vec::new());
        for _ in 0..count {
            let (family, flags) = (AddressFamily::Unix, SockFlag::SOCK_CLOEXEC);
            let (ours, theirs) = socketpair(family, SockType::SeqPacket, None, flags).unwrap();
            nodes.last += 1;
            nodes.peers.push(Peer {
                id: NodeId(nodes.last),
                fd: ours,
                pid: 1,
                role: Role::Arrived,
                since_ns: 0,
                pulse: None,
                snapshots: 0,
            });
            ends.push(theirs);
        }
        let ids = nodes.peers.iter().map(|peer| peer.id).collect();
        (nodes, ids, ends)
    }

    fn say(nodes: &mut Nodes, id: NodeId, snapshots: u32, claim: Claim) -> Placed {
        nodes.introduced(id, (snapshots, claim), pair().unwrap().0)
    }

    const fn since(since_ns: u64) -> Claim {
        Claim::Serving { since_ns }
    }

    #[test]
    fn of_two_that_served_the_later_one_does_in_whatever_order_they_come() {
        for order in [[0, 1], [1, 0]] {
            let (mut nodes, ids, _ends) = arrived(2);
            let mut drained = Vec::new();
            for index in order {
                // The second one began later.
                let (id, began) = (ids[index], 10 + index as u64);
                match say(&mut nodes, id, began as u32, since(began)) {
                    Placed::Serving(succession) => drained.extend(succession.before),
                    Placed::Draining(successor) => {
                        assert_eq!(successor, Some(11));
                        drained.push(id);
                    }
                    Placed::Joining | Placed::NotNow => panic!("it served before"),
                }
            }
            assert_eq!(nodes.serving(), Some(ids[1]));
            assert_eq!(drained, [ids[0]]);
            assert_eq!(nodes.role(ids[0]), Some(Role::Draining));
        }
    }

    #[test]
    fn one_that_drained_never_serves_again_and_a_new_one_comes_after_whoever_served() {
        let (mut nodes, ids, _ends) = arrived(3);
        let drains = say(&mut nodes, ids[0], 1, Claim::Draining);
        assert!(matches!(drains, Placed::Draining(None)));
        assert!(nodes.serves(ids[0], 99).is_none());
        let joins = say(&mut nodes, ids[1], 1, Claim::New);
        assert!(matches!(joins, Placed::Joining));
        let again = say(&mut nodes, ids[2], 1, Claim::New);
        assert!(matches!(again, Placed::NotNow), "one after the other");
        // One that served comes back at any time.
        let back = say(&mut nodes, ids[2], 1, since(5));
        assert!(matches!(back, Placed::Serving(_)));
        let succession = nodes.serves(ids[1], 6).unwrap();
        assert_eq!(succession.before, [ids[2]]);
        assert_eq!(nodes.accepting(), [ids[1]]);
    }

    #[test]
    fn nobody_serves_without_a_hello() {
        let (mut nodes, ids, _ends) = arrived(1);
        assert!(nodes.serves(ids[0], 1).is_none());
        assert_eq!(nodes.accepting(), []);
    }
}
