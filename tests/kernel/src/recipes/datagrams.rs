//! UDP and its relatives: a protected port is closed to them.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use super::Expect::Refused;
use super::{Recipe, recipe};
use crate::calls::{self, Addr};
use crate::uring;

const UDPLITE: i32 = 136;
const UDP_CORK: i32 = 1;
const UDP_SEGMENT: i32 = 103;
const DATAGRAM: super::Expect = Refused(&["datagram"]);
const NOT_TCP: super::Expect = Refused(&["not_tcp"]);

pub(super) const TABLE: &[Recipe] = &[
    recipe("udp_sendto_v4", "sendto(2)", DATAGRAM, |s, _| {
        send(s.v4(), 0)
    }),
    recipe("udp_sendto_v6", "sendto(2)", DATAGRAM, |s, _| {
        send(s.v6(), 0)
    }),
    recipe("udp_sendto_mapped", "sendto(2)", DATAGRAM, |s, _| {
        send(s.mapped(), 0)
    }),
    recipe("udp_connect_v4", "connect(2), send(2)", NOT_TCP, |s, _| {
        connect(s.v4())
    }),
    recipe("udp_connect_v6", "connect(2), send(2)", NOT_TCP, |s, _| {
        connect(s.v6())
    }),
    recipe(
        "udp_connect_mapped",
        "connect(2), send(2)",
        NOT_TCP,
        |s, _| connect(s.mapped()),
    ),
    recipe("udp_sendmsg_v4", "sendmsg(2)", DATAGRAM, |s, _| {
        let socket = datagram(s.v4(), 0)?;
        sent(calls::send_message(&socket, b"data", &Addr::of(s.v4())))
    }),
    recipe("udp_sendmmsg_v6", "sendmmsg(2)", DATAGRAM, |s, _| {
        let socket = datagram(s.v6(), 0)?;
        sent(calls::send_many(&socket, b"data", &Addr::of(s.v6())))
    }),
    recipe(
        "udp_elsewhere_v4",
        "connected elsewhere, then sendto(2)",
        DATAGRAM,
        |s, _| {
            let socket = datagram(s.v4(), 0)?;
            calls::connect(&socket, &Addr::of(s.open4()))?;
            sent(calls::send_to(&socket, b"data", 0, &Addr::of(s.v4())))
        },
    ),
    recipe(
        "udp_elsewhere_v6",
        "connected elsewhere, then sendto(2)",
        DATAGRAM,
        |s, _| {
            let socket = datagram(s.v6(), 0)?;
            calls::connect(&socket, &Addr::of(s.open6()))?;
            sent(calls::send_to(&socket, b"data", 0, &Addr::of(s.v6())))
        },
    ),
    recipe("udp_corked_v4", "UDP_CORK", DATAGRAM, |s, _| {
        let socket = datagram(s.v4(), 0)?;
        calls::set_int(&socket, libc::IPPROTO_UDP, UDP_CORK, 1)?;
        calls::send_to(&socket, b"data", 0, &Addr::of(s.v4()))?;
        sent(calls::set_int(&socket, libc::IPPROTO_UDP, UDP_CORK, 0))
    }),
    recipe("udp_segment_v4", "UDP_SEGMENT", DATAGRAM, |s, _| {
        let socket = datagram(s.v4(), 0)?;
        calls::set_int(&socket, libc::IPPROTO_UDP, UDP_SEGMENT, 2)?;
        sent(calls::send_to(&socket, b"data", 0, &Addr::of(s.v4())))
    }),
    recipe(
        "udp_fragments_v4",
        "larger than a frame",
        DATAGRAM,
        |s, _| {
            let socket = datagram(s.v4(), 0)?;
            sent(calls::send_to(&socket, &[7; 4000], 0, &Addr::of(s.v4())))
        },
    ),
    recipe(
        "udp_family_switch",
        "an IPv4 address in an IPv6 socket",
        DATAGRAM,
        |s, _| {
            let socket = calls::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)?;
            sent(calls::send_to(&socket, b"data", 0, &Addr::of(s.v4())))
        },
    ),
    recipe("udplite_v4", "UDP-Lite", DATAGRAM, |s, _| {
        send(s.v4(), UDPLITE)
    }),
    recipe("udplite_v6", "UDP-Lite", DATAGRAM, |s, _| {
        send(s.v6(), UDPLITE)
    }),
    recipe(
        "udp_uring_v4",
        "IORING_OP_SEND with an address",
        DATAGRAM,
        |s, _| {
            let socket = datagram(s.v4(), 0)?;
            sent(uring::Ring::new(0)?.send_to(&socket, b"data", &Addr::of(s.v4())))
        },
    ),
    recipe(
        "udp_bound_v6",
        "bound to no address of a mapped socket",
        DATAGRAM,
        |s, _| {
            let socket = datagram(s.mapped(), 0)?;
            calls::bind(&socket, &Addr::v6(Ipv6Addr::UNSPECIFIED, 0))?;
            sent(calls::send_to(&socket, b"data", 0, &Addr::of(s.mapped())))
        },
    ),
    recipe(
        "udp_unspecified_v4",
        "an address of no family",
        DATAGRAM,
        |s, _| {
            let socket = datagram(s.v4(), 0)?;
            let mut to = Addr::of(s.v4());
            to.0[..2].fill(0);
            sent(calls::send_to(&socket, b"data", 0, &to))
        },
    ),
    recipe(
        "udp_early_data_v6",
        "sendto(2) with MSG_FASTOPEN",
        DATAGRAM,
        |s, _| {
            let socket = datagram(s.v6(), 0)?;
            let to = Addr::of(s.v6());
            sent(calls::send_to(&socket, b"data", libc::MSG_FASTOPEN, &to))
        },
    ),
];

pub(super) fn sent<T>(result: io::Result<T>) -> io::Result<String> {
    result.map(|_| "sent".to_owned())
}

pub(super) fn datagram(to: SocketAddr, protocol: i32) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    calls::socket(family, libc::SOCK_DGRAM, protocol)
}

fn send(to: SocketAddr, protocol: i32) -> io::Result<String> {
    let socket = datagram(to, protocol)?;
    sent(calls::send_to(&socket, b"data", 0, &Addr::of(to)))
}

fn connect(to: SocketAddr) -> io::Result<String> {
    let socket = datagram(to, 0)?;
    calls::connect(&socket, &Addr::of(to))?;
    sent(nix::unistd::write(&socket, b"data").map_err(io::Error::from))
}
