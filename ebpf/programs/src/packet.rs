//! Packets that leave: the cgroup's egress and the device's allow-list.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{
    bpf_sk_fullsock, bpf_sk_storage_get, bpf_skb_cgroup_id, bpf_skb_load_bytes,
};
use weir_abi::{CLASS_EXEMPT, CLASS_HOST, CLASS_NONE, CLASS_OUTSIDE, MARK_INBOUND, Reason};

use crate::class;
use crate::context::{field, mapped};
use crate::count::{self, Refused};
use crate::maps::{DEVICE_CLASS, DEVICE_LINK_BYTES, MARKS};

const TC_ACT_OK: i32 = 0;
const TC_ACT_SHOT: i32 = 2;
const LOOPBACK: u32 = 1;
const ETH_IPV4: u16 = 0x0800;
const ETH_ARP: u16 = 0x0806;
const ETH_IPV6: u16 = 0x86dd;
const ETH_VLAN: u16 = 0x8100;
const ETH_QINQ: u16 = 0x88a8;
const VLAN_TAGS_MAX: u32 = 2;
const EXTENSIONS_MAX: u32 = 6;
const LOOSE_SOURCE_ROUTE: u8 = 131;
const STRICT_SOURCE_ROUTE: u8 = 137;
const IPV6_ROUTING: u8 = 43;
const IPV6_FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const IPPROTO_TCP: u32 = 6;
const TCP_LISTEN: u32 = 10;
const TCP_NEW_SYN_RECV: u32 = 12;
/// Of protocols without ports.
const NO_PORT: u32 = 0x1_0000;

/// What a packet says about where it goes.
struct Packet {
    dst: [u32; 4],
    protocol: u32,
    /// `None`: the ports cannot be seen, so every protected port of the address counts.
    port: Option<u32>,
    /// A bare ACK or RST: carries nothing and opens nothing.
    empty: bool,
    /// What IPv6 finds its neighbours and routers with; it does not leave the link.
    neighbour: bool,
}

enum Parsed {
    Ip(Packet),
    /// Carries no IP: address resolution.
    Other,
    Unparsable,
}

/// Governed cgroups: a protected destination is never reached by a packet of theirs.
pub(crate) fn cgroup_egress(skb: *mut __sk_buff) -> i32 {
    if field!(skb, ifindex) == LOOPBACK {
        return 1;
    }
    let mut class = class::of_packet(skb);
    if class == CLASS_EXEMPT {
        return 1;
    }
    if class == CLASS_OUTSIDE {
        class = CLASS_NONE;
    }
    match network(skb, 0) {
        Parsed::Ip(packet) if is_protected(class, &packet) => {
            report(skb, class, Reason::CgroupEgress, &packet);
            0
        }
        Parsed::Ip(packet) if class::is_listed(class) && !is_on_list(skb, class, &packet) => {
            report(skb, class, Reason::Unlisted, &packet);
            0
        }
        Parsed::Ip(_) | Parsed::Other => 1,
        Parsed::Unparsable => {
            unparsable(skb, class);
            0
        }
    }
}

/// The workload's device: to a protected destination only Weir's own sockets. On the host's
/// devices ([`CLASS_HOST`]) only packets whose full socket is governed are looked at.
pub(crate) fn device_egress(skb: *mut __sk_buff) -> i32 {
    // SAFETY: the hook's own packet; 0 without a full socket.
    let cgroup = unsafe { bpf_skb_cgroup_id(skb) };
    if class::is_own(cgroup) {
        return TC_ACT_OK;
    }
    let sender = class::of_packet(skb);
    let mut class = DEVICE_CLASS.load();
    if sender == CLASS_EXEMPT || (class == CLASS_HOST && sender == CLASS_OUTSIDE) {
        return TC_ACT_OK;
    }
    if class == CLASS_HOST {
        class = sender;
    }
    match frame(skb) {
        Parsed::Ip(packet) => {
            // Time-wait answers and resets of Weir's own flows have no full socket.
            if cgroup == 0 && packet.empty {
                return TC_ACT_OK;
            }
            if is_protected(class, &packet) {
                report(skb, class, Reason::DeviceEgress, &packet);
                return TC_ACT_SHOT;
            }
            let kernels_own = sender == CLASS_OUTSIDE && packet.neighbour;
            if class::is_listed(class) && !kernels_own && !is_on_list(skb, class, &packet) {
                report(skb, class, Reason::Unlisted, &packet);
                return TC_ACT_SHOT;
            }
            TC_ACT_OK
        }
        Parsed::Other => TC_ACT_OK,
        Parsed::Unparsable => {
            unparsable(skb, class);
            TC_ACT_SHOT
        }
    }
}

#[inline(always)]
fn is_protected(class: u32, packet: &Packet) -> bool {
    match packet.port {
        Some(port) => class::is_protected(class, &packet.dst, port),
        None => class::is_protected_somewhere(class, &packet.dst),
    }
}

/// What is on the list, or answers a connection that came from outside.
#[inline(always)]
fn is_on_list(skb: *mut __sk_buff, class: u32, packet: &Packet) -> bool {
    let listed = match packet.port {
        Some(NO_PORT) => class::is_allowed_somewhere(class, &packet.dst),
        Some(port) => class::is_allowed(class, &packet.dst, port),
        None => class::is_allowed_whole(class, &packet.dst),
    };
    listed || (packet.protocol == IPPROTO_TCP && is_answer(skb))
}

#[inline(always)]
fn is_answer(skb: *mut __sk_buff) -> bool {
    // SAFETY: the hook's own packet; every pointer is checked as the verifier demands.
    unsafe {
        let sk = core::ptr::read_volatile(&raw const (*skb).__bindgen_anon_2.sk);
        if sk.is_null() {
            return false;
        }
        // A half-open connection (or the listener, whose answers the cgroup's hook sees as its own).
        let state = core::ptr::read_volatile(&raw const (*sk).state);
        if state == TCP_NEW_SYN_RECV || state == TCP_LISTEN {
            return true;
        }
        let full = bpf_sk_fullsock(sk);
        if full.is_null() {
            return false;
        }
        let map = (&raw const MARKS).cast_mut().cast();
        let mark: *mut u32 = bpf_sk_storage_get(map, full.cast(), core::ptr::null_mut(), 0).cast();
        !mark.is_null() && *mark & MARK_INBOUND != 0
    }
}

#[inline(always)]
fn report(skb: *mut __sk_buff, class: u32, reason: Reason, packet: &Packet) {
    // SAFETY: as above.
    let cgroup = unsafe { bpf_skb_cgroup_id(skb) };
    let refused = Refused {
        reason,
        class,
        addr: &packet.dst,
        port: packet.port.unwrap_or(0),
        protocol: packet.protocol,
    };
    count::refused_packet(&refused, cgroup);
}

#[inline(always)]
fn unparsable(skb: *mut __sk_buff, class: u32) {
    // SAFETY: as above.
    let cgroup = unsafe { bpf_skb_cgroup_id(skb) };
    let refused = Refused {
        reason: Reason::Unparsable,
        class,
        addr: &[0; 4],
        port: 0,
        protocol: 0,
    };
    count::refused_packet(&refused, cgroup);
}

/// The frame's own EtherType decides: `skb->protocol` is the sender's word on packet sockets.
#[inline(always)]
fn frame(skb: *mut __sk_buff) -> Parsed {
    let mut offset = DEVICE_LINK_BYTES.load();
    if offset == 0 {
        return network(skb, 0);
    }
    if offset != 14 {
        return Parsed::Unparsable;
    }
    let mut tags = 0;
    let mut ethertype = match load::<2>(skb, 12) {
        Some(bytes) => u16::from_be_bytes(bytes),
        None => return Parsed::Unparsable,
    };
    while tags < VLAN_TAGS_MAX && (ethertype == ETH_VLAN || ethertype == ETH_QINQ) {
        let Some(bytes) = load::<2>(skb, offset + 2) else {
            return Parsed::Unparsable;
        };
        ethertype = u16::from_be_bytes(bytes);
        offset += 4;
        tags += 1;
    }
    match ethertype {
        ETH_IPV4 | ETH_IPV6 => network(skb, offset),
        ETH_ARP => Parsed::Other,
        _ => Parsed::Unparsable,
    }
}

#[inline(always)]
fn network(skb: *mut __sk_buff, offset: u32) -> Parsed {
    let Some([first]) = load::<1>(skb, offset) else {
        return Parsed::Unparsable;
    };
    match first >> 4 {
        4 => ipv4(skb, offset),
        6 => ipv6(skb, offset),
        _ => Parsed::Unparsable,
    }
}

#[inline(always)]
fn ipv4(skb: *mut __sk_buff, offset: u32) -> Parsed {
    let Some(header) = load::<20>(skb, offset) else {
        return Parsed::Unparsable;
    };
    let header_bytes = u32::from(header[0] & 0x0f) * 4;
    if header_bytes < 20 || may_be_routed_on(skb, offset, header_bytes) {
        return Parsed::Unparsable;
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
    let dst = mapped(u32::from_ne_bytes([
        header[16], header[17], header[18], header[19],
    ]));
    let total = u32::from(u16::from_be_bytes([header[2], header[3]]));
    let payload = total.wrapping_sub(header_bytes);
    transport(
        skb,
        offset + header_bytes,
        u32::from(header[9]),
        fragment != 0,
        dst,
        payload,
    )
}

/// With a source route the destination is but the next hop. Any byte that could be such an option
/// counts: options are rare, and walking them would trust their lengths.
#[inline(always)]
fn may_be_routed_on(skb: *mut __sk_buff, offset: u32, header_bytes: u32) -> bool {
    let mut at = 20;
    while at < 60 {
        if at >= header_bytes {
            return false;
        }
        match load::<1>(skb, offset + at) {
            Some([LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE]) | None => return true,
            Some(_) => {}
        }
        at += 1;
    }
    false
}

#[inline(always)]
fn ipv6(skb: *mut __sk_buff, offset: u32) -> Parsed {
    let Some(header) = load::<40>(skb, offset) else {
        return Parsed::Unparsable;
    };
    let dst = [
        u32::from_ne_bytes([header[24], header[25], header[26], header[27]]),
        u32::from_ne_bytes([header[28], header[29], header[30], header[31]]),
        u32::from_ne_bytes([header[32], header[33], header[34], header[35]]),
        u32::from_ne_bytes([header[36], header[37], header[38], header[39]]),
    ];
    let mut payload = u32::from(u16::from_be_bytes([header[4], header[5]]));
    let mut next = header[6];
    let mut at = offset + 40;
    let mut walked = 0;
    while walked < EXTENSIONS_MAX {
        if next == IPV6_FRAGMENT {
            return transport(skb, at, u32::from(next), true, dst, payload);
        }
        if next == IPV6_ROUTING {
            // The destination is but the next segment.
            return Parsed::Unparsable;
        }
        // Hop-by-hop and destination options: a length in units of eight bytes.
        if next == ICMPV6 {
            return icmpv6(skb, at, header[7], dst);
        }
        if next != 0 && next != 60 {
            return transport(skb, at, u32::from(next), false, dst, payload);
        }
        let Some([following, length]) = load::<2>(skb, at) else {
            return Parsed::Unparsable;
        };
        let bytes = (u32::from(length) + 1) * 8;
        next = following;
        at += bytes;
        payload = payload.wrapping_sub(bytes);
        walked += 1;
    }
    Parsed::Unparsable
}

/// Neighbour discovery is sent with a hop limit of 255 and answered by whoever sees it unchanged
/// (RFC 4861, section 7.1); reports on groups with one of 1 (RFC 3810, section 5).
#[inline(always)]
fn icmpv6(skb: *mut __sk_buff, offset: u32, hop_limit: u8, dst: [u32; 4]) -> Parsed {
    let Some([kind]) = load::<1>(skb, offset) else {
        return Parsed::Unparsable;
    };
    let neighbour = matches!((kind, hop_limit), (133..=136, 255) | (130..=132 | 143, 1));
    Parsed::Ip(Packet {
        dst,
        protocol: u32::from(ICMPV6),
        port: Some(NO_PORT),
        empty: false,
        neighbour,
    })
}

/// TCP, UDP, DCCP, SCTP and UDP-Lite have the destination port at the same place. Fragments and
/// unknown protocols match by address alone; ping passes.
#[inline(always)]
fn transport(
    skb: *mut __sk_buff,
    offset: u32,
    protocol: u32,
    fragment: bool,
    dst: [u32; 4],
    payload: u32,
) -> Parsed {
    let hidden = Packet {
        dst,
        protocol,
        port: None,
        empty: false,
        neighbour: false,
    };
    if fragment {
        return Parsed::Ip(hidden);
    }
    match protocol {
        // No port is ever protected as 65536: these pass.
        1 | 2 | 58 => Parsed::Ip(Packet {
            port: Some(NO_PORT),
            ..hidden
        }),
        6 => {
            let Some(header) = load::<14>(skb, offset) else {
                return Parsed::Unparsable;
            };
            let port = u32::from(u16::from_be_bytes([header[2], header[3]]));
            let header_bytes = u32::from(header[12] >> 4) * 4;
            let opens = header[13] & 0x03 != 0;
            let empty = !opens && payload == header_bytes;
            Parsed::Ip(Packet {
                port: Some(port),
                empty,
                ..hidden
            })
        }
        17 | 33 | 132 | 136 => {
            let Some(bytes) = load::<2>(skb, offset + 2) else {
                return Parsed::Unparsable;
            };
            Parsed::Ip(Packet {
                port: Some(u32::from(u16::from_be_bytes(bytes))),
                ..hidden
            })
        }
        _ => Parsed::Ip(hidden),
    }
}

#[inline(always)]
fn load<const N: usize>(skb: *mut __sk_buff, offset: u32) -> Option<[u8; N]> {
    let mut bytes = [0_u8; N];
    // SAFETY: the helper checks the packet's bounds and writes exactly N bytes.
    let code =
        unsafe { bpf_skb_load_bytes(skb.cast(), offset, bytes.as_mut_ptr().cast(), N as u32) };
    (code == 0).then_some(bytes)
}
