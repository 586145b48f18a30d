//! Raw sockets: packets of one's own behind the connect hook's back.

use std::io;

use super::Expect::{Dropped, Refused};
use super::datagrams::sent;
use super::{Recipe, Scene, recipe};
use crate::calls::{self, Addr};
use crate::packets::{self, Header, SYN, TCP, UDP};

const ICMP: i32 = 1;
const ICMPV6: i32 = 58;
const IPV6_HDRINCL: i32 = 36;
const RAW: super::Expect = Refused(&["raw_socket"]);
pub(super) const ROUTED: super::Expect = Dropped(&["unparsable"]);
const EGRESS: super::Expect = Dropped(&["cgroup_egress", "device_egress"]);

pub(super) const TABLE: &[Recipe] = &[
    recipe("raw_tcp_v4", "SOCK_RAW TCP, a SYN", RAW, |s, _| {
        let socket = calls::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP)?;
        let segment = packets::segment(s, false, SYN, b"");
        sent(calls::send_to(
            &socket,
            &segment,
            0,
            &Addr::v4(s.server4, 0),
        ))
    }),
    recipe("raw_tcp_v6", "SOCK_RAW TCP, a SYN", RAW, |s, _| {
        let socket = calls::socket(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_TCP)?;
        let segment = packets::segment(s, true, SYN, b"");
        sent(calls::send_to(
            &socket,
            &segment,
            0,
            &Addr::v6(s.server6, 0),
        ))
    }),
    recipe("raw_udp_v4", "SOCK_RAW UDP", RAW, |s, _| {
        let socket = calls::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_UDP)?;
        sent(calls::send_to(
            &socket,
            &packets::datagram(s),
            0,
            &Addr::v4(s.server4, 0),
        ))
    }),
    recipe("raw_udp_v6", "SOCK_RAW UDP", RAW, |s, _| {
        let socket = calls::socket(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_UDP)?;
        sent(calls::send_to(
            &socket,
            &packets::datagram(s),
            0,
            &Addr::v6(s.server6, 0),
        ))
    }),
    recipe("raw_any_v4", "IPPROTO_RAW, whole packets", RAW, |s, _| {
        included(s, libc::IPPROTO_RAW, &[])
    }),
    recipe("raw_any_v6", "IPPROTO_RAW, whole packets", RAW, |s, _| {
        included6(s, libc::IPPROTO_RAW)
    }),
    recipe("raw_ipip_v4", "SOCK_RAW, IP in IP", RAW, |s, _| {
        let socket = calls::socket(libc::AF_INET, libc::SOCK_RAW, 4)?;
        sent(calls::send_to(
            &socket,
            &syn4(s, &[]),
            0,
            &Addr::v4(s.server4, 0),
        ))
    }),
    recipe("raw_gre_v4", "SOCK_RAW, GRE", RAW, |s, _| {
        let socket = calls::socket(libc::AF_INET, libc::SOCK_RAW, 47)?;
        let packet = [&[0, 0, 8, 0], syn4(s, &[]).as_slice()].concat();
        sent(calls::send_to(&socket, &packet, 0, &Addr::v4(s.server4, 0)))
    }),
    recipe(
        "raw_icmp_header_v4",
        "ping's raw socket, IP_HDRINCL",
        EGRESS,
        |s, _| included(s, ICMP, &[]),
    ),
    recipe(
        "raw_icmp_options_v4",
        "as before, with IP options",
        EGRESS,
        |s, _| included(s, ICMP, &[1, 1, 1, 1, 1, 1, 1, 0]),
    ),
    recipe(
        "raw_icmp_header_v6",
        "ping's raw socket, IPV6_HDRINCL",
        EGRESS,
        |s, _| included6(s, ICMPV6),
    ),
    recipe(
        "raw_icmp_data_v4",
        "ping's raw socket, TCP data",
        EGRESS,
        |s, _| {
            let segment = packets::segment(s, false, packets::ACK_PUSH, b"data");
            let header = Header {
                protocol: TCP,
                ..Header::default()
            };
            header_included(s, ICMP, &packets::ipv4(s, header, &segment))
        },
    ),
    recipe(
        "raw_icmp_udp_v4",
        "ping's raw socket, UDP",
        EGRESS,
        |s, _| {
            let header = Header {
                protocol: UDP,
                ..Header::default()
            };
            header_included(s, ICMP, &packets::ipv4(s, header, &packets::datagram(s)))
        },
    ),
    recipe(
        "raw_icmp_source_route_v4",
        "ping's raw socket, a source route",
        ROUTED,
        |s, _| header_included(s, ICMP, &packets::source_routed(s)),
    ),
];

pub(super) fn syn4(scene: &Scene, options: &[u8]) -> Vec<u8> {
    let header = Header {
        protocol: TCP,
        options,
        ..Header::default()
    };
    packets::ipv4(scene, header, &packets::segment(scene, false, SYN, b""))
}

pub(super) fn syn6(scene: &Scene) -> Vec<u8> {
    packets::ipv6(scene, TCP, &packets::segment(scene, true, SYN, b""))
}

fn included(scene: &Scene, protocol: i32, options: &[u8]) -> io::Result<String> {
    header_included(scene, protocol, &syn4(scene, options))
}

fn header_included(scene: &Scene, protocol: i32, packet: &[u8]) -> io::Result<String> {
    let socket = calls::socket(libc::AF_INET, libc::SOCK_RAW, protocol)?;
    calls::set_int(&socket, libc::IPPROTO_IP, libc::IP_HDRINCL, 1)?;
    sent(calls::send_to(
        &socket,
        packet,
        0,
        &Addr::v4(scene.server4, 0),
    ))
}

fn included6(scene: &Scene, protocol: i32) -> io::Result<String> {
    let socket = calls::socket(libc::AF_INET6, libc::SOCK_RAW, protocol)?;
    calls::set_int(&socket, libc::IPPROTO_IPV6, IPV6_HDRINCL, 1)?;
    sent(calls::send_to(
        &socket,
        &syn6(scene),
        0,
        &Addr::v6(scene.server6, 0),
    ))
}
