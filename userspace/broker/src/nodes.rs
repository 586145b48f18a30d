//! The node processes at the broker's socket: one that serves, and around an upgrade others.
//!
//! A node joins, says that it serves, and from then on the one before it drains: it takes no new
//! flows, hands its sessions over or waits for their end, and leaves.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{SockFlag, accept4, getsockopt, sockopt};

use crate::message::{FromBroker, adopt_accepted, send};

/// Nodes at once: one that joins, one that serves, and predecessors that still drain.
const NODES_MAX: usize = 8;

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
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
    /// Its pulse, until it serves.
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
        if self.peers.len() >= NODES_MAX || self.peers.iter().any(|peer| peer.role == Role::Joining)
        {
            tracing::warn!("a node was turned away: another one is joining");
            return None;
        }
        self.last += 1;
        let (id, pid) = (NodeId(self.last), u32::try_from(peer.pid()).unwrap_or(0));
        self.peers.push(Peer {
            id,
            fd,
            pid,
            role: Role::Joining,
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
            .filter(|peer| peer.role != Role::Draining)
            .map(|peer| peer.id)
            .collect()
    }

    /// What a node says of itself at first: the version of snapshots that it reads; and the end of
    /// its pulse that we watch.
    pub(crate) fn introduced(&mut self, id: NodeId, snapshots: u32, pulse: OwnedFd) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) {
            peer.snapshots = snapshots;
            peer.pulse = Some(pulse);
        }
    }

    /// A node says that it serves. Those that did so far are to drain, which they are told by the
    /// returned version of snapshots that their successor reads.
    pub(crate) fn serves(&mut self, id: NodeId) -> Option<Succession> {
        let peer = self
            .peers
            .iter_mut()
            .find(|peer| peer.id == id && peer.role == Role::Joining)?;
        let (snapshots, pulse) = (peer.snapshots, peer.pulse.take()?);
        let mut before = Vec::new();
        for peer in &mut self.peers {
            if peer.id == id {
                peer.role = Role::Serving;
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
