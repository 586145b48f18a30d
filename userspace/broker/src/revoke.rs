//! Revocation that needs no node: an administrator's word at a socket of the broker's own, after
//! which live connections are reset by the kernel, also when the node is stopped or hangs.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, accept4, connect, getsockopt, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

use crate::listeners::Places;
use crate::message::{FlowNote, adopt_accepted, receive, send};
use crate::reset::{End, reset_here};

/// Flows that are known at once; beyond it a flow is only reset with its workload.
const FLOWS_MAX: usize = 200_000;
/// A peer that does not say what it wants holds the broker up for this long.
const ASK_WITHIN_MS: i64 = 100;
/// The broker answers once all is reset.
const ANSWER_WITHIN_S: i64 = 5;

/// Whose connections end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoked {
    /// Id as 32 hexadecimal digits.
    Session(String),
    /// `oid`.
    Principal(String),
    /// Every connection of the workload through Weir, known or not.
    Workload(String),
    /// The agent's end.
    Flow(SocketAddr),
}

#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    /// Ends of connections that were reset.
    Reset(usize),
    Refused(String),
}

/// What nodes said of their flows.
#[derive(Default)]
pub(crate) struct Flows(HashMap<String, FlowNote>);

impl Flows {
    pub(crate) fn note(&mut self, note: FlowNote) {
        if self.0.len() < FLOWS_MAX || self.0.contains_key(&note.session) {
            self.0.insert(note.session.clone(), note);
        } else {
            tracing::warn!("too many flows: one will only be reset with its workload");
        }
    }

    pub(crate) fn forget(&mut self, session: &str) {
        self.0.remove(session);
    }

    fn of<'a>(&'a self, whose: &'a Revoked) -> impl Iterator<Item = &'a FlowNote> {
        self.0.values().filter(move |flow| match whose {
            Revoked::Session(id) => flow.session == *id,
            Revoked::Principal(oid) => flow.principal == *oid,
            Revoked::Workload(name) => flow.workload == *name,
            Revoked::Flow(client) => flow.client == *client,
        })
    }

    /// Resets what is meant; the number of ends.
    fn reset(&self, whose: &Revoked, places: &Places) -> io::Result<usize> {
        let mut ended = 0;
        for place in places.by_id.values() {
            let (clients, upstreams): (Vec<_>, Vec<_>) = self
                .of(whose)
                .filter(|flow| flow.netns == place.cookie)
                .map(|flow| (flow.client, flow.upstream))
                .unzip();
            let all = matches!(whose, Revoked::Workload(name) if *name == place.workload);
            if !all && clients.is_empty() {
                continue;
            }
            // Of flows that were accepted by listeners of an earlier broker, the notes tell.
            let ports: Vec<u16> = place.sockets.iter().map(|one| one.addr.port()).collect();
            let Some(namespace) = places.namespace(place.cookie) else {
                continue;
            };
            ended += namespace.visit(|| {
                reset_here(&|end: End| {
                    let ours =
                        ports.contains(&end.local.port()) || ports.contains(&end.peer.port());
                    let named = clients.contains(&end.local) || clients.contains(&end.peer);
                    (ours && all) || named || upstreams.contains(&Some(end.local))
                })
            })?;
        }
        Ok(ended)
    }
}

/// The socket at which it is asked for.
pub(crate) struct Desk {
    listener: OwnedFd,
    governed: Vec<String>,
}

impl Desk {
    pub(crate) const fn new(listener: OwnedFd, governed: Vec<String>) -> Self {
        Self { listener, governed }
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Serves one peer.
    pub(crate) fn serve(&self, flows: &Flows, places: &Places) {
        if let Err(error) = self.serve_one(flows, places) {
            tracing::warn!(%error, "a revocation was not understood");
        }
    }

    fn serve_one(&self, flows: &Flows, places: &Places) -> io::Result<()> {
        let peer = adopt_accepted(accept4(self.listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?);
        let wait = TimeVal::new(0, ASK_WITHIN_MS * 1000);
        setsockopt(&peer, sockopt::ReceiveTimeout, &wait)?;
        setsockopt(&peer, sockopt::SendTimeout, &wait)?;
        let credentials = getsockopt(&peer, sockopt::PeerCredentials)?;
        if let Some(why) = self.refused(credentials.uid(), credentials.pid()) {
            return send(peer.as_fd(), &Outcome::Refused(why.to_owned()), &[]);
        }
        let Some((whose, _)) = receive::<Revoked>(peer.as_fd())? else {
            return Ok(());
        };
        let outcome = match flows.reset(&whose, places) {
            Ok(ended) => {
                tracing::warn!(?whose, ended, by = credentials.pid(), "revoked");
                Outcome::Reset(ended)
            }
            Err(error) => Outcome::Refused(error.to_string()),
        };
        send(peer.as_fd(), &outcome, &[])
    }

    /// Root outside the governed cgroups may; what cannot be read is refused.
    fn refused(&self, uid: u32, pid: i32) -> Option<&'static str> {
        if uid != 0 {
            return Some("revoking is for root");
        }
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let Some(cgroup) = text.lines().find_map(|line| line.strip_prefix("0::")) else {
            return Some("this process cannot be identified");
        };
        let governed = self.governed.iter().any(|root| {
            cgroup
                .strip_prefix(root.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        // `..` means another cgroup namespace than ours: the path says nothing then.
        (governed || cgroup.contains("..")).then_some("a governed process may not revoke")
    }
}

/// Asks the broker at `RUN_DIR/revoke.sock` to reset live connections; the number of their ends.
///
/// # Errors
/// No broker, or its refusal in words.
pub fn revoke(path: &Path, whose: &Revoked) -> io::Result<usize> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let broker = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    let wait = TimeVal::new(ANSWER_WITHIN_S, 0);
    setsockopt(&broker, sockopt::ReceiveTimeout, &wait)?;
    connect(broker.as_raw_fd(), &UnixAddr::new(path)?)?;
    send(broker.as_fd(), whose, &[])?;
    match receive::<Outcome>(broker.as_fd())? {
        Some((Outcome::Reset(ended), _)) => Ok(ended),
        Some((Outcome::Refused(why), _)) => Err(io::Error::other(why)),
        None => Err(io::Error::other("the broker closed without an answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(session: &str, principal: &str, port: u16) -> FlowNote {
        FlowNote {
            session: session.to_owned(),
            netns: 1,
            client: SocketAddr::from(([10, 0, 0, 1], port)),
            upstream: None,
            workload: "analyst".to_owned(),
            principal: principal.to_owned(),
        }
    }

    #[test]
    fn flows_are_found_by_whom_they_belong_to() {
        let mut flows = Flows::default();
        flows.note(note("a", "p", 1));
        flows.note(note("b", "p", 2));
        flows.note(note("c", "q", 3));
        let count = |flows: &Flows, whose: &Revoked| flows.of(whose).count();
        assert_eq!(count(&flows, &Revoked::Principal("p".to_owned())), 2);
        assert_eq!(count(&flows, &Revoked::Session("c".to_owned())), 1);
        assert_eq!(count(&flows, &Revoked::Workload("analyst".to_owned())), 3);
        let client = SocketAddr::from(([10, 0, 0, 1], 2));
        assert_eq!(count(&flows, &Revoked::Flow(client)), 1);
        flows.forget("a");
        assert_eq!(count(&flows, &Revoked::Principal("p".to_owned())), 1);
    }
}
