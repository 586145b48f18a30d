//! Sockets that a governed process may not make, ports it may not take, options it may not set.

use aya_ebpf::helpers::generated::bpf_get_netns_cookie;
use aya_ebpf::programs::{SockAddrContext, SockContext, SockoptContext};
use weir_abi::{CLASS_EXEMPT, CLASS_HOST, Reason};

use crate::class;
use crate::context::{field, set_field};
use crate::count::{self, Refused};
use crate::maps::{HOSTS, NETNS};

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;
const SOCK_RAW: u32 = 3;
const IPPROTO_ICMP: u32 = 1;
const IPPROTO_DCCP: u32 = 33;
const IPPROTO_ICMPV6: u32 = 58;
const IPPROTO_SCTP: u32 = 132;
const SOL_PACKET: i32 = 263;
const PACKET_QDISC_BYPASS: i32 = 20;
const SOL_XDP: i32 = 283;

/// Nobody in the workload can stand in for a listener that is not there.
pub(crate) fn bind(ctx: &SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    let port = u32::from(u16::from_be(field!(raw, user_port) as u16));
    if port == 0 {
        return ALLOW;
    }
    // SAFETY: the hook's own context.
    let cookie = unsafe { bpf_get_netns_cookie(raw.cast()) };
    // SAFETY: read at once.
    let Some(netns) = (unsafe { NETNS.get(&cookie) }) else {
        return ALLOW;
    };
    let mut netns = *netns;
    if netns.class == CLASS_HOST {
        // SAFETY: copied at once.
        match unsafe { HOSTS.get(&class::of_task()) } {
            Some(own) => netns = *own,
            None => return ALLOW,
        }
    }
    if port != netns.port4 && port != netns.port6 {
        return ALLOW;
    }
    count::refused_task(&Refused {
        reason: Reason::BindListener,
        class: netns.class,
        addr: &[0; 4],
        port,
        protocol: field!(raw, protocol),
    });
    REFUSE
}

/// Raw sockets other than ping's, and stream protocols that have no connect hook.
pub(crate) fn create(ctx: &SockContext) -> i32 {
    let kind = field!(ctx.sock, type_);
    let protocol = field!(ctx.sock, protocol);
    let class = class::of_task();
    if class == CLASS_EXEMPT {
        return ALLOW;
    }
    let ping = protocol == IPPROTO_ICMP || protocol == IPPROTO_ICMPV6;
    let reason = if protocol == IPPROTO_SCTP || protocol == IPPROTO_DCCP {
        Reason::Protocol
    } else if kind == SOCK_RAW && !ping {
        Reason::RawSocket
    } else {
        return ALLOW;
    };
    count::refused_task(&Refused {
        reason,
        class,
        addr: &[0; 4],
        port: 0,
        protocol,
    });
    REFUSE
}

/// Packet sockets that skip the queue, and `AF_XDP`, hand frames to the driver directly
/// (`dev_direct_xmit`): neither tcx nor clsact sees those. An `AF_XDP` socket is of no use without
/// options of its level.
pub(crate) fn set_option(ctx: &SockoptContext) -> i32 {
    let raw = ctx.sockopt;
    let level = field!(raw, level);
    let direct = level == SOL_PACKET && field!(raw, optname) == PACKET_QDISC_BYPASS;
    let class = class::of_task();
    if class == CLASS_EXEMPT || (!direct && level != SOL_XDP) {
        // Zero: the kernel takes the caller's own buffer, whatever its size.
        set_field!(raw, optlen = 0);
        return ALLOW;
    }
    count::refused_task(&Refused {
        reason: Reason::QueueBypass,
        class,
        addr: &[0; 4],
        port: 0,
        protocol: level as u32,
    });
    REFUSE
}
