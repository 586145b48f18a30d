//! The connect, sendmsg and getpeername hooks.

use aya_ebpf::bindings::{
    BPF_F_CURRENT_NETNS, bpf_sock_addr, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
};
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_task, bpf_get_netns_cookie,
    bpf_get_socket_cookie, bpf_ktime_get_ns, bpf_probe_read_kernel, bpf_set_retval, bpf_setsockopt,
    bpf_sk_release, bpf_sk_storage_get, bpf_skc_lookup_tcp,
};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid};
use aya_ebpf::programs::SockAddrContext;
use weir_abi::{
    AF_INET, AF_INET6, CLASS_EXEMPT, CLASS_HOST, CLASS_NONE, Counter, MARK_EXEMPT, Netns, Origin,
    Reason,
};

use crate::class;
use crate::context::{field, is_mapped, mapped, set_field};
use crate::count::{self, Refused};
use crate::maps::{CLIENT, HEARTBEAT, HOSTS, MARKS, NETNS, OFF_GROUP_LEADER, OFF_START_BOOTTIME};

const ALLOW: i32 = 1;
const REFUSE: i32 = 0;
const ECONNREFUSED: i32 = 111;
const SOCK_STREAM: u32 = 1;
const IPPROTO_TCP: u32 = 6;
const IPPROTO_MPTCP: u32 = 262;
const SOL_SOCKET: i32 = 1;
const SO_BINDTODEVICE: i32 = 25;

/// One call as the steps see it.
struct Call {
    addr: [u32; 4],
    port: u32,
    family: u32,
    protocol: u32,
    class: u32,
    netns_cookie: u64,
    /// All zero when the namespace is not served: an `Option` would leave bytes unwritten, which the
    /// verifier refuses to copy.
    netns: Netns,
    /// Not 0 in the host's namespace.
    host: u32,
}

pub(crate) fn connect4(ctx: &SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    let call = call(ctx, mapped(field!(raw, user_ip4)), AF_INET);
    match decide(ctx, &call) {
        Verdict::Pass => ALLOW,
        Verdict::Refuse => REFUSE,
        Verdict::Redirect(netns) => {
            set_field!(raw, user_ip4 = netns.v4);
            set_field!(raw, user_port = u32::from((netns.port4 as u16).to_be()));
            ALLOW
        }
    }
}

pub(crate) fn connect6(ctx: &SockAddrContext) -> i32 {
    let raw = ctx.sock_addr;
    let call = call(ctx, addr6(raw), AF_INET6);
    match decide(ctx, &call) {
        Verdict::Pass => ALLOW,
        Verdict::Refuse => REFUSE,
        Verdict::Redirect(netns) => {
            let (to, port) = if is_mapped(&call.addr) {
                (mapped(netns.v4), netns.port4)
            } else {
                (netns.v6, netns.port6)
            };
            set_addr6(raw, &to);
            set_field!(raw, user_port = u32::from((port as u16).to_be()));
            ALLOW
        }
    }
}

pub(crate) fn peername4(ctx: &SockAddrContext) -> i32 {
    let asked = mapped(field!(ctx.sock_addr, user_ip4));
    if let Some(origin) = recorded(ctx, AF_INET, &asked) {
        set_field!(ctx.sock_addr, user_ip4 = origin.addr[3]);
        set_field!(
            ctx.sock_addr,
            user_port = u32::from((origin.port as u16).to_be())
        );
    }
    ALLOW
}

pub(crate) fn peername6(ctx: &SockAddrContext) -> i32 {
    let asked = addr6(ctx.sock_addr);
    if let Some(origin) = recorded(ctx, AF_INET6, &asked) {
        set_addr6(ctx.sock_addr, &origin.addr);
        set_field!(
            ctx.sock_addr,
            user_port = u32::from((origin.port as u16).to_be())
        );
    }
    ALLOW
}

pub(crate) fn sendmsg4(ctx: &SockAddrContext) -> i32 {
    let addr = mapped(field!(ctx.sock_addr, user_ip4));
    sendmsg(&call(ctx, addr, AF_INET))
}

pub(crate) fn sendmsg6(ctx: &SockAddrContext) -> i32 {
    let addr = addr6(ctx.sock_addr);
    sendmsg(&call(ctx, addr, AF_INET6))
}

fn sendmsg(call: &Call) -> i32 {
    if call.class == CLASS_EXEMPT {
        return ALLOW;
    }
    if class::is_protected(call.class, &call.addr, call.port) {
        return refuse(call, Reason::Datagram);
    }
    if class::is_listed(call.class) && !is_on_list(call) {
        return refuse(call, Reason::Unlisted);
    }
    ALLOW
}

/// Within its own namespace a workload may talk to itself; the host's loopback is everybody's.
#[inline(always)]
fn is_on_list(call: &Call) -> bool {
    (call.host == 0 && is_own_address(call)) || class::is_allowed(call.class, &call.addr, call.port)
}

#[inline(always)]
fn is_own_address(call: &Call) -> bool {
    let [first, second, third, last] = call.addr;
    if is_mapped(&call.addr) {
        // 127.0.0.0/8, and 0.0.0.0 which Linux takes for it.
        return last.to_ne_bytes()[0] == 127
            || last == 0
            || (call.netns.v4 != 0 && last == call.netns.v4);
    }
    let zero = first == 0 && second == 0 && third == 0;
    let v6 = &call.netns.v6;
    let own = v6[0] != 0 && first == v6[0] && second == v6[1] && third == v6[2] && last == v6[3];
    own || (zero && (last == 0 || last == 1_u32.to_be()))
}

enum Verdict {
    Pass,
    Refuse,
    Redirect(Netns),
}

#[inline(always)]
fn decide(ctx: &SockAddrContext, call: &Call) -> Verdict {
    if call.class == CLASS_EXEMPT {
        forget(ctx);
        exempt(ctx, call);
        return Verdict::Pass;
    }
    if is_listener(&call.netns, call) {
        refuse(call, Reason::DirectToListener);
        return Verdict::Refuse;
    }
    if !class::is_protected(call.class, &call.addr, call.port) {
        // A socket that was redirected once and goes elsewhere now must not keep its old answer.
        forget(ctx);
        if class::is_listed(call.class) && !is_on_list(call) {
            refuse(call, Reason::Unlisted);
            return Verdict::Refuse;
        }
        return Verdict::Pass;
    }
    match redirect(ctx, call) {
        Ok(netns) => {
            count::add(call.class, Counter::Redirected as u32);
            Verdict::Redirect(netns)
        }
        Err(reason) => {
            forget(ctx);
            refuse(call, reason);
            Verdict::Refuse
        }
    }
}

/// The ledger would count an exempt process's connect as missed.
#[inline(always)]
fn exempt(ctx: &SockAddrContext, call: &Call) {
    if !class::is_protected(CLASS_NONE, &call.addr, call.port) {
        return;
    }
    // SAFETY: the context's own socket; null when there is no memory.
    unsafe {
        let mark = MARKS.get_or_insert_ptr_mut(ctx, None);
        if !mark.is_null() {
            *mark |= MARK_EXEMPT;
        }
    }
}

#[inline(always)]
fn redirect(ctx: &SockAddrContext, call: &Call) -> Result<Netns, Reason> {
    let kind = field!(ctx.sock_addr, type_);
    if kind != SOCK_STREAM || !(call.protocol == IPPROTO_TCP || call.protocol == IPPROTO_MPTCP) {
        return Err(Reason::NotTcp);
    }
    // SAFETY: a helper without preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let deadline = HEARTBEAT.get(0).copied().unwrap_or(0);
    if now > deadline {
        return Err(Reason::NoHeartbeat);
    }
    let netns = call.netns;
    if netns.port4 == 0 && netns.port6 == 0 {
        return Err(Reason::NoListener);
    }
    if netns.class != call.class {
        return Err(Reason::WrongNamespace);
    }
    let port = if is_mapped(&call.addr) {
        netns.port4
    } else {
        netns.port6
    };
    if port == 0 {
        return Err(Reason::NoListener);
    }
    // SAFETY: the context's own socket; null when there is no memory.
    let slot = unsafe { CLIENT.get_or_insert_ptr_mut(ctx, None) };
    if slot.is_null() {
        return Err(Reason::NoStorage);
    }
    record(ctx, call, now, slot);
    let mut none = 0_u32;
    // SAFETY: four zero bytes clear the device binding, which would keep the flow off loopback.
    unsafe {
        bpf_setsockopt(
            ctx.sock_addr.cast(),
            SOL_SOCKET,
            SO_BINDTODEVICE,
            (&raw mut none).cast(),
            4,
        );
    }
    Ok(netns)
}

/// Fills the origin in place: a per-CPU scratch could be overwritten by a preempting task.
#[inline(always)]
fn record(ctx: &SockAddrContext, call: &Call, now: u64, slot: *mut Origin) {
    let pid_tgid = bpf_get_current_pid_tgid();
    // SAFETY: `slot` is the socket's storage, checked for null; helpers write within it.
    unsafe {
        (*slot).addr = call.addr;
        (*slot).port = call.port;
        (*slot).family = call.family;
        (*slot).pid = (pid_tgid >> 32) as u32;
        (*slot).tid = pid_tgid as u32;
        (*slot).uid = bpf_get_current_uid_gid() as u32;
        (*slot).class = call.class;
        (*slot).cgroup_id = bpf_get_current_cgroup_id();
        (*slot).netns_cookie = call.netns_cookie;
        (*slot).socket_cookie = bpf_get_socket_cookie(ctx.sock_addr.cast());
        (*slot).start_boottime_ns = leader_start();
        (*slot).ktime_ns = now;
        bpf_get_current_comm((&raw mut (*slot).comm).cast(), 16);
    }
}

#[inline(always)]
fn leader_start() -> u64 {
    let mut leader = 0_u64;
    let mut start = 0_u64;
    // SAFETY: probe reads of any address fail instead of faulting.
    unsafe {
        let task = bpf_get_current_task();
        bpf_probe_read_kernel(
            (&raw mut leader).cast(),
            8,
            (task + u64::from(OFF_GROUP_LEADER.load())) as *const _,
        );
        bpf_probe_read_kernel(
            (&raw mut start).cast(),
            8,
            (leader + u64::from(OFF_START_BOOTTIME.load())) as *const _,
        );
    }
    start
}

#[inline(always)]
fn refuse(call: &Call, reason: Reason) -> i32 {
    // SAFETY: a helper without preconditions in this hook.
    unsafe { bpf_set_retval(-ECONNREFUSED) };
    count::refused_task(&Refused {
        reason,
        class: call.class,
        addr: &call.addr,
        port: call.port,
        protocol: call.protocol,
    });
    REFUSE
}

#[inline(always)]
fn call(ctx: &SockAddrContext, addr: [u32; 4], family: u32) -> Call {
    let raw = ctx.sock_addr;
    // SAFETY: the hook's own context.
    let netns_cookie = unsafe { bpf_get_netns_cookie(raw.cast()) };
    // SAFETY: copied at once.
    let mut netns = match unsafe { NETNS.get(&netns_cookie) } {
        Some(netns) => *netns,
        None => nowhere(),
    };
    let mut class = class::of_task();
    let mut host = 0;
    if netns.class == CLASS_HOST {
        host = 1;
        // SAFETY: copied at once.
        netns = match unsafe { HOSTS.get(&class) } {
            Some(own) => *own,
            None => nowhere(),
        };
    } else if class == CLASS_NONE {
        // The socket is governed, its present holder is not: the namespace decides.
        class = netns.class;
    }
    Call {
        addr,
        port: u32::from(u16::from_be(field!(raw, user_port) as u16)),
        family,
        protocol: field!(raw, protocol),
        class,
        netns_cookie,
        netns,
        host,
    }
}

#[inline(always)]
const fn nowhere() -> Netns {
    Netns {
        v6: [0; 4],
        v4: 0,
        port4: 0,
        port6: 0,
        class: CLASS_NONE,
    }
}

#[inline(always)]
fn is_listener(netns: &Netns, call: &Call) -> bool {
    if is_mapped(&call.addr) {
        netns.port4 != 0 && call.port == netns.port4 && call.addr[3] == netns.v4
    } else {
        netns.port6 != 0
            && call.port == netns.port6
            && call.addr[0] == netns.v6[0]
            && call.addr[1] == netns.v6[1]
            && call.addr[2] == netns.v6[2]
            && call.addr[3] == netns.v6[3]
    }
}

#[inline(always)]
fn recorded(ctx: &SockAddrContext, family: u32, peer: &[u32; 4]) -> Option<&'static Origin> {
    // SAFETY: the context's own socket; null without a record.
    let mut slot = unsafe { CLIENT.get_ptr_mut(ctx) };
    if slot.is_null() && field!(ctx.sock_addr, protocol) == IPPROTO_MPTCP {
        slot = subflow(ctx.sock_addr, peer);
    }
    if slot.is_null() {
        return None;
    }
    // SAFETY: checked; the storage lives as long as the socket, so longer than this program.
    let origin = unsafe { &*slot };
    (origin.family == family).then_some(origin)
}

/// The connect hook sees an MPTCP socket's subflow, `getpeername(2)` asks the socket itself; the
/// two share their addresses.
#[inline(always)]
fn subflow(raw: *mut bpf_sock_addr, peer: &[u32; 4]) -> *mut Origin {
    // SAFETY: a tuple of zeroes is valid.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let port = field!(raw, user_port) as u16;
    // SAFETY: the context's own socket, never null in this hook.
    let sk = unsafe { (*raw).__bindgen_anon_1.sk };
    let own_port = (field!(sk, src_port) as u16).to_be();
    let bytes = if is_mapped(peer) {
        tuple.__bindgen_anon_1.ipv4 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
            saddr: peer[3],
            daddr: field!(sk, src_ip4),
            sport: port,
            dport: own_port,
        };
        size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1>()
    } else {
        tuple.__bindgen_anon_1.ipv6 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
            saddr: *peer,
            daddr: [
                field!(sk, src_ip6[0]),
                field!(sk, src_ip6[1]),
                field!(sk, src_ip6[2]),
                field!(sk, src_ip6[3]),
            ],
            sport: port,
            dport: own_port,
        };
        size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2>()
    };
    // SAFETY: the tuple is as long as said; what was found is released, and its storage lives as
    // long as the subflow, which the asking socket holds.
    unsafe {
        let netns = BPF_F_CURRENT_NETNS as u64;
        let found = bpf_skc_lookup_tcp(raw.cast(), &raw mut tuple, bytes as u32, netns, 0);
        if found.is_null() {
            return core::ptr::null_mut();
        }
        let map = (&raw const CLIENT).cast_mut().cast();
        let slot = bpf_sk_storage_get(map, found.cast(), core::ptr::null_mut(), 0);
        bpf_sk_release(found.cast());
        slot.cast()
    }
}

#[inline(always)]
fn forget(ctx: &SockAddrContext) {
    // SAFETY: the context's own socket, never null in this hook.
    let _absent = unsafe {
        let sk = (*ctx.sock_addr).__bindgen_anon_1.sk;
        CLIENT.delete(sk)
    };
}

#[inline(always)]
fn addr6(raw: *mut bpf_sock_addr) -> [u32; 4] {
    [
        field!(raw, user_ip6[0]),
        field!(raw, user_ip6[1]),
        field!(raw, user_ip6[2]),
        field!(raw, user_ip6[3]),
    ]
}

#[inline(always)]
fn set_addr6(raw: *mut bpf_sock_addr, addr: &[u32; 4]) {
    set_field!(raw, user_ip6[0] = addr[0]);
    set_field!(raw, user_ip6[1] = addr[1]);
    set_field!(raw, user_ip6[2] = addr[2]);
    set_field!(raw, user_ip6[3] = addr[3]);
}
