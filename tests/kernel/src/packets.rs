//! Packets made by hand.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::recipes::Scene;

pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const SCTP: u8 = 132;
pub const IPV4: u16 = 0x0800;
pub const IPV6: u16 = 0x86dd;
pub const SYN: u8 = 2;
/// The server's addresses that nobody protects.
pub const OPEN4: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 11);
pub const OPEN6: Ipv6Addr = Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0x11);
pub const ACK_PUSH: u8 = 0x18;

fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])))
        .sum()
}

fn checksum(mut sum: u32) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// A TCP segment to the scene's port, with a checksum for the family.
#[must_use]
pub fn segment(scene: &Scene, ipv6: bool, flags: u8, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(46_000_u16.to_be_bytes());
    bytes.extend(scene.port.to_be_bytes());
    bytes.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(data);
    let ends = if ipv6 {
        sum(&scene.own6.octets()) + sum(&scene.server6.octets())
    } else {
        sum(&scene.own4.octets()) + sum(&scene.server4.octets())
    };
    let total = ends + u32::from(TCP) + bytes.len() as u32 + sum(&bytes);
    bytes[16..18].copy_from_slice(&checksum(total));
    bytes
}

/// A datagram to the scene's port, without a checksum.
#[must_use]
pub fn datagram(scene: &Scene) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(46_000_u16.to_be_bytes());
    bytes.extend(scene.port.to_be_bytes());
    bytes.extend([0, 12, 0, 0]);
    bytes.extend(b"data");
    bytes
}

/// An SCTP INIT chunk to the scene's port; its checksum is not valid.
#[must_use]
pub fn init_chunk(scene: &Scene) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(46_000_u16.to_be_bytes());
    bytes.extend(scene.port.to_be_bytes());
    bytes.extend([0; 8]);
    bytes.extend([
        1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1,
    ]);
    bytes
}

/// What an IPv4 header says beside its addresses.
#[derive(Clone, Copy, Default)]
pub struct Header<'a> {
    pub protocol: u8,
    /// Flags and offset.
    pub fragment: u16,
    pub options: &'a [u8],
}

#[must_use]
pub fn ipv4(scene: &Scene, header: Header<'_>, payload: &[u8]) -> Vec<u8> {
    ipv4_to(scene.own4, scene.server4, header, payload)
}

#[must_use]
pub fn ipv4_to(from: Ipv4Addr, to: Ipv4Addr, header: Header<'_>, payload: &[u8]) -> Vec<u8> {
    let length = 20 + header.options.len();
    let mut bytes = vec![0x40 | (length / 4) as u8, 0];
    bytes.extend(((length + payload.len()) as u16).to_be_bytes());
    bytes.extend([0x57, 0x57]);
    bytes.extend(header.fragment.to_be_bytes());
    bytes.extend([64, header.protocol, 0, 0]);
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    bytes.extend(header.options);
    let check = checksum(sum(&bytes));
    bytes[10..12].copy_from_slice(&check);
    bytes.extend(payload);
    bytes
}

#[must_use]
pub fn ipv6(scene: &Scene, next: u8, payload: &[u8]) -> Vec<u8> {
    ipv6_to(scene.own6, scene.server6, next, payload)
}

#[must_use]
pub fn ipv6_to(from: Ipv6Addr, to: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend((payload.len() as u16).to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    bytes.extend(payload);
    bytes
}

/// A SYN to the server's open address, with a route on to the protected one.
#[must_use]
pub fn source_routed(scene: &Scene) -> Vec<u8> {
    // An unused byte first, so that the route ends with the header.
    let mut options = vec![1, 131, 7, 4];
    options.extend(scene.server4.octets());
    let header = Header {
        protocol: TCP,
        options: &options,
        ..Header::default()
    };
    ipv4_to(scene.own4, OPEN4, header, &segment(scene, false, SYN, b""))
}

/// The same for IPv6: a segment routing header (RFC 8754) with one segment left.
#[must_use]
pub fn segment_routed(scene: &Scene) -> Vec<u8> {
    let mut payload = vec![TCP, 4, 4, 1, 1, 0, 0, 0];
    payload.extend(scene.server6.octets());
    payload.extend(OPEN6.octets());
    payload.extend(segment(scene, true, SYN, b""));
    ipv6_to(scene.own6, OPEN6, 43, &payload)
}

/// An Ethernet frame to the server; `tags` come before the type.
#[must_use]
pub fn frame(scene: &Scene, tags: &[u8], ethertype: u16, packet: &[u8]) -> Vec<u8> {
    let mut bytes = scene.server_mac.to_vec();
    bytes.extend([2, 0x57, 0, 0, 0, 9]);
    bytes.extend(tags);
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(packet);
    bytes
}
