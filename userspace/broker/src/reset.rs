//! Ending live TCP connections of a network namespace from outside: `SOCK_DESTROY`
//! (`sock_diag(7)`, kernel commit 64be0aed59ad), which answers even when their owner is stopped.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const IPPROTO_TCP: u8 = 6;
/// Every state but LISTEN (10) and TIME_WAIT (6), which carry nothing.
const STATES: u32 = !(1 << 10 | 1 << 6);
const HEADER_BYTES: usize = 16;
/// `struct inet_diag_sockid`.
const ID_BYTES: usize = 48;
/// `struct inet_diag_msg` begins with four bytes, then the id.
const ID_AT: usize = 4;
const ANSWER_BYTES: usize = 32 * 1024;
/// The kernel answers at once; this is for a kernel that does not.
const ANSWER_WITHIN_S: i64 = 1;

/// One end of a connection, as the kernel lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
}

struct Found {
    family: u8,
    id: [u8; ID_BYTES],
}

/// Ends every connection of the calling thread's namespace that `which` picks; the number of ends
/// that were there.
pub(crate) fn reset_here(which: &dyn Fn(End) -> bool) -> io::Result<usize> {
    let netlink = open()?;
    let mut ended = 0;
    for family in [libc_family(false), libc_family(true)] {
        for found in list(&netlink, family)? {
            if found.end().is_some_and(which) && destroy(&netlink, &found)? {
                ended += 1;
            }
        }
    }
    Ok(ended)
}

const fn libc_family(ipv6: bool) -> u8 {
    // AF_INET6 and AF_INET.
    if ipv6 { 10 } else { 2 }
}

fn open() -> io::Result<OwnedFd> {
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    setsockopt(
        &netlink,
        sockopt::ReceiveTimeout,
        &TimeVal::new(ANSWER_WITHIN_S, 0),
    )?;
    Ok(netlink)
}

/// `struct inet_diag_req_v2` behind a header.
fn request(kind: u16, flags: u16, family: u8, id: &[u8; ID_BYTES]) -> Vec<u8> {
    let length = HEADER_BYTES + 8 + ID_BYTES;
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(&u32::try_from(length).unwrap_or(0).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(&flags.to_ne_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&[family, IPPROTO_TCP, 0, 0]);
    out.extend_from_slice(&STATES.to_ne_bytes());
    out.extend_from_slice(id);
    out
}

fn list(netlink: &OwnedFd, family: u8) -> io::Result<Vec<Found>> {
    let ask = request(SOCK_DIAG_BY_FAMILY, REQUEST | DUMP, family, &[0; ID_BYTES]);
    send(netlink.as_raw_fd(), &ask, MsgFlags::empty())?;
    let mut found = Vec::new();
    let mut buffer = vec![0; ANSWER_BYTES];
    loop {
        let count = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        for (kind, body) in messages(buffer.get(..count).unwrap_or_default()) {
            match kind {
                NLMSG_DONE => return Ok(found),
                NLMSG_ERROR => return Err(error(body).unwrap_or_else(malformed)),
                SOCK_DIAG_BY_FAMILY => found.extend(Found::read(body)),
                _ => {}
            }
        }
    }
}

/// False when it had ended by itself.
fn destroy(netlink: &OwnedFd, found: &Found) -> io::Result<bool> {
    let ask = request(SOCK_DESTROY, REQUEST | ACK, found.family, &found.id);
    send(netlink.as_raw_fd(), &ask, MsgFlags::empty())?;
    let mut buffer = vec![0; ANSWER_BYTES];
    let count = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
    let answer = messages(buffer.get(..count).unwrap_or_default()).next();
    match answer {
        Some((NLMSG_ERROR, body)) => match error(body) {
            None => Ok(true),
            Some(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(false),
            Some(error) => Err(error),
        },
        Some(_) | None => Err(malformed()),
    }
}

fn malformed() -> io::Error {
    io::Error::other("sock_diag answered with something else")
}

/// Of an `NLMSG_ERROR`; `None` is an acknowledgement.
fn error(body: &[u8]) -> Option<io::Error> {
    let code = body
        .first_chunk::<4>()
        .map(|code| i32::from_ne_bytes(*code));
    match code {
        Some(0) => None,
        Some(code) => Some(io::Error::from_raw_os_error(-code)),
        None => Some(malformed()),
    }
}

/// Kinds and bodies of the messages in one datagram.
fn messages(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*bytes.first_chunk::<4>()?);
        let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk::<2>()?);
        let length = usize::try_from(length).ok()?;
        let body = bytes.get(HEADER_BYTES..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

impl Found {
    fn read(body: &[u8]) -> Option<Self> {
        Some(Self {
            family: *body.first()?,
            id: *body.get(ID_AT..)?.first_chunk::<ID_BYTES>()?,
        })
    }

    fn end(&self) -> Option<End> {
        let port = |at: usize| -> Option<u16> {
            Some(u16::from_be_bytes(*self.id.get(at..)?.first_chunk::<2>()?))
        };
        let address = |at: usize| -> Option<IpAddr> {
            let bytes = self.id.get(at..)?;
            if self.family == libc_family(true) {
                let octets = *bytes.first_chunk::<16>()?;
                return Some(IpAddr::from(Ipv6Addr::from(octets)).to_canonical());
            }
            Some(IpAddr::from(Ipv4Addr::from(*bytes.first_chunk::<4>()?)))
        };
        Some(End {
            local: SocketAddr::new(address(4)?, port(0)?),
            peer: SocketAddr::new(address(20)?, port(2)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair(at: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(at).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        (client, server)
    }

    #[test]
    fn only_the_picked_connection_ends_and_its_reader_is_told() {
        if !nix::unistd::geteuid().is_root() {
            panic!("this test needs root, as the broker does");
        }
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let (mut client, server) = pair(at);
            let (mut other, mut other_server) = pair(at);
            let local = client.local_addr().unwrap();
            let ended = reset_here(&|end| end.local == local).unwrap();
            assert_eq!(ended, 1);
            let error = client.read(&mut [0; 1]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
            drop(server);
            io::Write::write_all(&mut other_server, b"x").unwrap();
            assert_eq!(other.read(&mut [0; 1]).unwrap(), 1);
        }
    }

    #[test]
    fn messages_that_are_cut_end_the_list() {
        let whole = request(SOCK_DESTROY, REQUEST, 2, &[7; ID_BYTES]);
        assert_eq!(messages(&whole).count(), 1);
        for cut in 0..whole.len() {
            assert_eq!(messages(&whole[..cut]).count(), 0, "{cut}");
        }
        assert_eq!(messages(&[whole.clone(), whole].concat()).count(), 2);
        assert!(Found::read(&[2; ID_AT + ID_BYTES - 1]).is_none());
    }
}
