//! Packet sockets and AF_XDP: whole frames onto the workload's device.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::Expect::{Dropped, Refused};
use super::datagrams::sent;
use super::raw::{ROUTED, syn4, syn6};
use super::{Recipe, Scene, recipe};
use crate::calls::{self, Addr};
use crate::packets::{self, ACK_PUSH, Header, IPV4, IPV6, SCTP, SYN, TCP, UDP};
use crate::{uring, xdp};

const SOL_PACKET: i32 = 263;
const PACKET_TX_RING: i32 = 13;
const PACKET_VNET_HDR: i32 = 15;
const PACKET_QDISC_BYPASS: i32 = 20;
const ARP: u16 = 0x0806;
const DEVICE: super::Expect = Dropped(&["device_egress"]);
const UNREADABLE: super::Expect = Dropped(&["unparsable"]);
const DIRECT: super::Expect = Refused(&["queue_bypass"]);

/// SYNs from a packet socket for half a second; when the last of them went out, since `join` began.
///
/// # Errors
/// The socket cannot be made.
pub fn flood(scene: &Scene, join: impl FnOnce() -> io::Result<()>) -> io::Result<String> {
    let start = Instant::now();
    join()?;
    let socket = calls::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)?;
    let frame = packets::frame(scene, &[], IPV4, &syn4(scene, &[]));
    let to = link(scene, IPV4)?;
    let (mut out, mut dropped, mut last) = (0, 0, Duration::ZERO);
    while start.elapsed() < Duration::from_millis(500) {
        match calls::send_to(&socket, &frame, 0, &to) {
            Ok(_) => {
                out += 1;
                last = start.elapsed();
            }
            Err(_) => dropped += 1,
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Ok(format!(
        "out={out} dropped={dropped} last_us={}",
        last.as_micros()
    ))
}

pub(super) const TABLE: &[Recipe] = &[
    recipe("packet_syn_v4", "AF_PACKET, a SYN", DEVICE, |s, _| {
        send(s, IPV4, &packets::frame(s, &[], IPV4, &syn4(s, &[])))
    }),
    recipe("packet_syn_v6", "AF_PACKET, a SYN", DEVICE, |s, _| {
        send(s, IPV6, &packets::frame(s, &[], IPV6, &syn6(s)))
    }),
    recipe(
        "packet_cooked_v4",
        "AF_PACKET SOCK_DGRAM",
        DEVICE,
        |s, _| {
            let socket = calls::socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0)?;
            sent(calls::send_to(&socket, &syn4(s, &[]), 0, &link(s, IPV4)?))
        },
    ),
    recipe(
        "packet_disguised_v4",
        "declared as ARP, holds IP",
        DEVICE,
        |s, _| send(s, ARP, &packets::frame(s, &[], IPV4, &syn4(s, &[]))),
    ),
    recipe("packet_tagged_v4", "a VLAN tag", DEVICE, |s, _| {
        send(
            s,
            IPV4,
            &packets::frame(s, &[0x81, 0, 0, 5], IPV4, &syn4(s, &[])),
        )
    }),
    recipe(
        "packet_priority_v4",
        "a priority tag, VLAN 0",
        DEVICE,
        |s, _| {
            send(
                s,
                IPV4,
                &packets::frame(s, &[0x81, 0, 0xe0, 0], IPV4, &syn4(s, &[])),
            )
        },
    ),
    recipe("packet_two_tags_v6", "two tags", DEVICE, |s, _| {
        let tags = [0x88, 0xa8, 0, 0, 0x81, 0, 0, 0];
        send(s, IPV6, &packets::frame(s, &tags, IPV6, &syn6(s)))
    }),
    recipe(
        "packet_three_tags_v4",
        "more tags than are looked at",
        UNREADABLE,
        |s, _| {
            let tags = [0x81, 0, 0, 0, 0x81, 0, 0, 0, 0x81, 0, 0, 0];
            send(s, IPV4, &packets::frame(s, &tags, IPV4, &syn4(s, &[])))
        },
    ),
    recipe(
        "packet_options_v4",
        "IP options before the ports",
        DEVICE,
        |s, _| {
            let packet = syn4(s, &[1, 1, 1, 1, 1, 1, 1, 0]);
            send(s, IPV4, &packets::frame(s, &[], IPV4, &packet))
        },
    ),
    recipe(
        "packet_first_fragment_v4",
        "ports in a first fragment",
        DEVICE,
        |s, _| {
            let segment = packets::segment(s, false, SYN, b"data");
            fragment(s, 0x2000, &segment)
        },
    ),
    recipe(
        "packet_later_fragment_v4",
        "no ports in a later fragment",
        DEVICE,
        |s, _| fragment(s, 3, b"datadata"),
    ),
    recipe(
        "packet_tiny_fragment_v4",
        "ports cut by a fragment",
        DEVICE,
        |s, _| {
            let segment = packets::segment(s, false, SYN, b"");
            fragment(s, 0x2000, segment.get(..8).unwrap_or_default())
        },
    ),
    recipe("packet_fragment_v6", "a fragment header", DEVICE, |s, _| {
        let segment = packets::segment(s, true, SYN, b"");
        let payload = [&[TCP, 0, 0, 0, 0, 0, 0, 9], segment.as_slice()].concat();
        send(
            s,
            IPV6,
            &packets::frame(s, &[], IPV6, &packets::ipv6(s, 44, &payload)),
        )
    }),
    recipe(
        "packet_extension_v6",
        "destination options before TCP",
        DEVICE,
        |s, _| {
            let segment = packets::segment(s, true, SYN, b"");
            let payload = [&[TCP, 0, 1, 4, 0, 0, 0, 0], segment.as_slice()].concat();
            send(
                s,
                IPV6,
                &packets::frame(s, &[], IPV6, &packets::ipv6(s, 60, &payload)),
            )
        },
    ),
    recipe(
        "packet_many_extensions_v6",
        "more headers than are walked",
        UNREADABLE,
        |s, _| {
            let segment = packets::segment(s, true, SYN, b"");
            let mut payload = [60, 0, 1, 4, 0, 0, 0, 0].repeat(7);
            payload.extend([TCP, 0, 1, 4, 0, 0, 0, 0]);
            payload.extend(segment);
            send(
                s,
                IPV6,
                &packets::frame(s, &[], IPV6, &packets::ipv6(s, 60, &payload)),
            )
        },
    ),
    recipe(
        "packet_authentication_v6",
        "an authentication header",
        DEVICE,
        |s, _| {
            let segment = packets::segment(s, true, SYN, b"");
            let payload = [&[TCP, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], segment.as_slice()].concat();
            send(
                s,
                IPV6,
                &packets::frame(s, &[], IPV6, &packets::ipv6(s, 51, &payload)),
            )
        },
    ),
    recipe("packet_udp_v4", "a datagram", DEVICE, |s, _| {
        proto(s, UDP, &packets::datagram(s))
    }),
    recipe("packet_sctp_v4", "an SCTP INIT", DEVICE, |s, _| {
        proto(s, SCTP, &packets::init_chunk(s))
    }),
    recipe("packet_ipip_v4", "IP in IP", DEVICE, |s, _| {
        proto(s, 4, &syn4(s, &[]))
    }),
    recipe(
        "packet_data_v4",
        "TCP data without a SYN",
        DEVICE,
        |s, _| proto(s, TCP, &packets::segment(s, false, ACK_PUSH, b"data")),
    ),
    recipe(
        "packet_reset_v4",
        "a bare reset, not by the kernel",
        DEVICE,
        |s, _| proto(s, TCP, &packets::segment(s, false, 4, b"")),
    ),
    recipe(
        "packet_vnet_header_v4",
        "PACKET_VNET_HDR",
        DEVICE,
        |s, _| {
            let socket = packet_socket()?;
            calls::set_int(&socket, SOL_PACKET, PACKET_VNET_HDR, 1)?;
            let frame = packets::frame(s, &[], IPV4, &syn4(s, &[]));
            let bytes = [[0; 10].as_slice(), &frame].concat();
            sent(calls::send_to(&socket, &bytes, 0, &link(s, IPV4)?))
        },
    ),
    recipe("packet_ring_v4", "PACKET_TX_RING", DEVICE, |s, _| {
        ring(s, false)
    }),
    recipe("packet_bypass_v4", "PACKET_QDISC_BYPASS", DIRECT, |s, _| {
        bypass(s, IPV4, &packets::frame(s, &[], IPV4, &syn4(s, &[])))
    }),
    recipe("packet_bypass_v6", "PACKET_QDISC_BYPASS", DIRECT, |s, _| {
        bypass(s, IPV6, &packets::frame(s, &[], IPV6, &syn6(s)))
    }),
    recipe(
        "packet_ring_bypass_v4",
        "PACKET_TX_RING and QDISC_BYPASS",
        DIRECT,
        |s, _| ring(s, true),
    ),
    recipe("xdp_v4", "AF_XDP, a SYN", DIRECT, |s, _| {
        sent(xdp::send(
            s.device,
            &packets::frame(s, &[], IPV4, &syn4(s, &[])),
        ))
    }),
    recipe("xdp_v6", "AF_XDP, a SYN", DIRECT, |s, _| {
        sent(xdp::send(s.device, &packets::frame(s, &[], IPV6, &syn6(s))))
    }),
    recipe(
        "packet_source_route_v4",
        "a source route over an open address",
        ROUTED,
        |s, _| {
            send(
                s,
                IPV4,
                &packets::frame(s, &[], IPV4, &packets::source_routed(s)),
            )
        },
    ),
    recipe(
        "packet_routing_v6",
        "a routing header over an open address",
        ROUTED,
        |s, _| {
            send(
                s,
                IPV6,
                &packets::frame(s, &[], IPV6, &packets::segment_routed(s)),
            )
        },
    ),
    recipe(
        "packet_bypass_uring_v4",
        "QDISC_BYPASS by IORING_OP_URING_CMD",
        DIRECT,
        |s, _| {
            let socket = packet_socket()?;
            let mut ring = uring::Ring::new(0)?;
            ring.set_int(&socket, (SOL_PACKET, PACKET_QDISC_BYPASS), 1)?;
            let frame = packets::frame(s, &[], IPV4, &syn4(s, &[]));
            sent(calls::send_to(&socket, &frame, 0, &link(s, IPV4)?))
        },
    ),
];

fn packet_socket() -> io::Result<OwnedFd> {
    calls::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)
}

fn link(scene: &Scene, ethertype: u16) -> io::Result<Addr> {
    let index = nix::net::if_::if_nametoindex(scene.device)?;
    Ok(Addr::link(index, ethertype, scene.server_mac))
}

fn send(scene: &Scene, declared: u16, frame: &[u8]) -> io::Result<String> {
    sent(calls::send_to(
        &packet_socket()?,
        frame,
        0,
        &link(scene, declared)?,
    ))
}

fn proto(scene: &Scene, protocol: u8, payload: &[u8]) -> io::Result<String> {
    let header = Header {
        protocol,
        ..Header::default()
    };
    let packet = packets::ipv4(scene, header, payload);
    send(scene, IPV4, &packets::frame(scene, &[], IPV4, &packet))
}

fn fragment(scene: &Scene, fragment: u16, payload: &[u8]) -> io::Result<String> {
    let header = Header {
        protocol: TCP,
        fragment,
        options: &[],
    };
    let packet = packets::ipv4(scene, header, payload);
    send(scene, IPV4, &packets::frame(scene, &[], IPV4, &packet))
}

fn bypass(scene: &Scene, ethertype: u16, frame: &[u8]) -> io::Result<String> {
    let socket = packet_socket()?;
    calls::set_int(&socket, SOL_PACKET, PACKET_QDISC_BYPASS, 1)?;
    sent(calls::send_to(&socket, frame, 0, &link(scene, ethertype)?))
}

/// One frame by a ring of one block (`tpacket_hdr`, Linux `if_packet.h`).
fn ring(scene: &Scene, direct: bool) -> io::Result<String> {
    let socket = packet_socket()?;
    if direct {
        calls::set_int(&socket, SOL_PACKET, PACKET_QDISC_BYPASS, 1)?;
    }
    // Block size, blocks, frame size, frames.
    let request: Vec<u8> = [4096_u32, 1, 2048, 2]
        .iter()
        .flat_map(|number| number.to_ne_bytes())
        .collect();
    calls::set(&socket, SOL_PACKET, PACKET_TX_RING, &request)?;
    calls::bind(&socket, &link(scene, IPV4)?)?;
    let frame = packets::frame(scene, &[], IPV4, &syn4(scene, &[]));
    xdp::fill_packet_ring(&socket, &frame)?;
    sent(calls::send_to(&socket, &[], 0, &link(scene, IPV4)?))
}
