//! The origin of an accepted socket, read by descriptor.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use weir_abi::Origin;
use weir_model::addr::{CgroupId, ClientAddr, NetnsCookie, OrigDst, SocketCookie};
use weir_model::flow::FlowOrigin;

use crate::sys;

/// The map of accepted sockets' origins. Works in a process without capabilities: a look-up by
/// descriptor needs none.
pub struct Origins {
    map: OwnedFd,
}

impl Origins {
    /// From the descriptor that the broker passed.
    #[must_use]
    pub const fn new(map: OwnedFd) -> Self {
        Self { map }
    }

    /// `None` when the socket was not redirected by Weir.
    ///
    /// # Errors
    /// The kernel refused the look-up, or the record is not one of this version; `NotConnected` when
    /// there is an origin and the other end was reset.
    pub fn lookup(&self, socket: BorrowedFd<'_>) -> io::Result<Option<FlowOrigin>> {
        let Some(origin) = sys::socket_value::<Origin>(self.map.as_fd(), socket)? else {
            return Ok(None);
        };
        let client = nix_peer(socket)?;
        Ok(Some(convert(&origin, client)))
    }
}

/// The agent's end: the accepted socket's peer.
fn nix_peer(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let socket = socket.try_clone_to_owned()?;
    std::net::TcpStream::from(socket).peer_addr()
}

fn convert(origin: &Origin, client: SocketAddr) -> FlowOrigin {
    let mut bytes = [0; 16];
    for (to, word) in bytes.chunks_exact_mut(4).zip(origin.addr) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    let ip = IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical();
    let end = origin
        .comm
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(origin.comm.len());
    let comm = String::from_utf8_lossy(origin.comm.get(..end).unwrap_or_default()).into_owned();
    FlowOrigin {
        dst: OrigDst(SocketAddr::new(ip, u16::try_from(origin.port).unwrap_or(0))),
        client: ClientAddr(SocketAddr::new(client.ip().to_canonical(), client.port())),
        pid: origin.pid,
        tid: origin.tid,
        uid: origin.uid,
        cgroup: CgroupId(origin.cgroup_id),
        netns: NetnsCookie(origin.netns_cookie),
        cookie: SocketCookie(origin.socket_cookie),
        start_boottime_ns: origin.start_boottime_ns,
        connected_ktime_ns: origin.ktime_ns,
        comm,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_addresses_become_ipv4_and_names_end_at_their_zero() {
        let mut comm = [0; 16];
        comm[..4].copy_from_slice(b"psql");
        let origin = Origin {
            addr: [
                0,
                0,
                u32::from_ne_bytes([0, 0, 0xff, 0xff]),
                u32::from_ne_bytes([10, 77, 0, 10]),
            ],
            port: 5432,
            family: 2,
            pid: 1,
            tid: 2,
            uid: 3,
            class: 1,
            cgroup_id: 4,
            netns_cookie: 5,
            socket_cookie: 6,
            start_boottime_ns: 7,
            ktime_ns: 8,
            comm,
        };
        let flow = convert(&origin, "10.77.0.20:4000".parse().unwrap());
        assert_eq!(flow.dst.0, "10.77.0.10:5432".parse().unwrap());
        assert_eq!(flow.comm, "psql");
    }
}
