//! `sock_ops`: carries an origin from the client's socket to the accepted one.

use aya_ebpf::bindings::bpf_sock_ops;
use aya_ebpf::helpers::generated::{
    bpf_get_netns_cookie, bpf_ktime_get_ns, bpf_sk_storage_get, bpf_sock_ops_cb_flags_set,
};
use aya_ebpf::programs::SockOpsContext;
use weir_abi::{
    AF_INET, CLASS_HOST, CLASS_NONE, Counter, FLOW_LIFE_NS, FlowKey, MARK_EXEMPT, MARK_INBOUND,
    Origin,
};

use crate::class;
use crate::context::{MAPPED, field, mapped};
use crate::count;
use crate::maps::{ACCEPTED, CLIENT, FLOWS, MARKS, NETNS};

const TCP_CONNECT_CB: u32 = 3;
const PASSIVE_ESTABLISHED_CB: u32 = 5;
const STATE_CB: u32 = 10;
const STATE_CB_FLAG: i32 = 1 << 2;
const TCP_CLOSE: u32 = 7;
const CREATE: u64 = 1;

/// Both ends as the socket sees them, IPv4 in its IPv6 form.
struct Ends {
    local: [u32; 4],
    local_port: u32,
    remote: [u32; 4],
    remote_port: u32,
}

/// Sockets of governed cgroups.
pub(crate) fn governed(ctx: &SockOpsContext) -> u32 {
    match field!(ctx.ops, op) {
        TCP_CONNECT_CB => publish(ctx.ops),
        PASSIVE_ESTABLISHED_CB => inbound(ctx.ops),
        STATE_CB => abandon(ctx.ops),
        _ => {}
    }
    1
}

/// Sockets of Weir's own cgroup: children are born in their listener's.
pub(crate) fn own(ctx: &SockOpsContext) -> u32 {
    if field!(ctx.ops, op) == PASSIVE_ESTABLISHED_CB {
        accept(ctx.ops);
    }
    1
}

/// The source port is known and the SYN not yet sent.
#[inline(always)]
fn publish(ops: *mut bpf_sock_ops) {
    let ends = ends(ops);
    // SAFETY: the hook's own context.
    let netns_cookie = unsafe { bpf_get_netns_cookie(ops.cast()) };
    let origin: *mut Origin = storage(ops, (&raw const CLIENT).cast_mut().cast(), 0);
    if origin.is_null() {
        let mark: *mut u32 = storage(ops, (&raw const MARKS).cast_mut().cast(), 0);
        // SAFETY: checked.
        if mark.is_null() || unsafe { *mark } & MARK_EXEMPT == 0 {
            missed(netns_cookie, &ends);
        }
        return;
    }
    // SAFETY: checked; the storage outlives this program.
    let origin = unsafe { &*origin };
    let key = client_key(netns_cookie, &ends);
    count::add(origin.class, Counter::Published as u32);
    if FLOWS.insert(&key, origin, 0).is_err() {
        count::add(origin.class, Counter::FlowLost as u32);
        return;
    }
    // SAFETY: asks for state changes, so that an abandoned flow is forgotten at once.
    unsafe { bpf_sock_ops_cb_flags_set(ops, STATE_CB_FLAG) };
}

/// What came from outside is answered, whoever asked; only what a listed class opens is held to
/// its list.
#[inline(always)]
fn inbound(ops: *mut bpf_sock_ops) {
    let mark: *mut u32 = storage(ops, (&raw const MARKS).cast_mut().cast(), CREATE);
    if !mark.is_null() {
        // SAFETY: checked.
        unsafe { *mark |= MARK_INBOUND };
    }
}

/// The ledger: a SYN towards a protected destination that the connect hook did not see.
#[inline(always)]
fn missed(netns_cookie: u64, ends: &Ends) {
    // SAFETY: read at once.
    let mut class = unsafe { NETNS.get(&netns_cookie) }.map_or(CLASS_NONE, |netns| netns.class);
    if class == CLASS_HOST {
        class = CLASS_NONE;
    }
    if class::is_protected(class, &ends.remote, ends.remote_port) {
        count::add(class, Counter::Missed as u32);
    }
}

/// A connect that nobody accepted leaves no origin for somebody else to use, and is counted: it
/// failed, or it was established towards a queue that was full.
#[inline(always)]
fn abandon(ops: *mut bpf_sock_ops) {
    // SAFETY: args are valid for this op.
    let new = unsafe { core::ptr::read_volatile(&raw const (*ops).__bindgen_anon_1.args[1]) };
    if new != TCP_CLOSE {
        return;
    }
    let origin: *mut Origin = storage(ops, (&raw const CLIENT).cast_mut().cast(), 0);
    if origin.is_null() {
        return;
    }
    // SAFETY: checked; the storage outlives this program.
    let (cookie, class) = unsafe { ((*origin).socket_cookie, (*origin).class) };
    // SAFETY: the hook's own context.
    let netns_cookie = unsafe { bpf_get_netns_cookie(ops.cast()) };
    let key = client_key(netns_cookie, &ends(ops));
    // SAFETY: only compared.
    let is_own = unsafe { FLOWS.get(&key) }.is_some_and(|flow| flow.socket_cookie == cookie);
    if is_own && FLOWS.remove(&key).is_ok() {
        count::add(class, Counter::Abandoned as u32);
    }
}

/// Runs before `accept(2)` can return the socket.
#[inline(always)]
fn accept(ops: *mut bpf_sock_ops) {
    let ends = ends(ops);
    // SAFETY: the hook's own context.
    let netns_cookie = unsafe { bpf_get_netns_cookie(ops.cast()) };
    let key = FlowKey {
        netns_cookie,
        src: ends.remote,
        sport: ends.remote_port,
        lport: ends.local_port,
    };
    // SAFETY: copied below before the entry is removed.
    let Some(flow) = (unsafe { FLOWS.get(&key) }) else {
        count::add(CLASS_NONE, Counter::Orphaned as u32);
        return;
    };
    // SAFETY: a helper without preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    if now.wrapping_sub(flow.ktime_ns) > FLOW_LIFE_NS {
        count::add(flow.class, Counter::Expired as u32);
    } else {
        let slot: *mut Origin = storage(ops, (&raw const ACCEPTED).cast_mut().cast(), CREATE);
        if slot.is_null() {
            count::add(flow.class, Counter::FlowLost as u32);
        } else {
            // SAFETY: checked.
            unsafe { *slot = *flow };
            count::add(flow.class, Counter::Accepted as u32);
        }
    }
    let _absent = FLOWS.remove(&key);
}

#[inline(always)]
fn storage<T>(ops: *mut bpf_sock_ops, map: *mut core::ffi::c_void, flags: u64) -> *mut T {
    // SAFETY: the context's socket, checked for null as the verifier demands.
    unsafe {
        let sk = (*ops).__bindgen_anon_2.sk;
        if sk.is_null() {
            return core::ptr::null_mut();
        }
        bpf_sk_storage_get(map, sk.cast(), core::ptr::null_mut(), flags).cast()
    }
}

#[inline(always)]
const fn client_key(netns_cookie: u64, ends: &Ends) -> FlowKey {
    FlowKey {
        netns_cookie,
        src: ends.local,
        sport: ends.local_port,
        lport: ends.remote_port,
    }
}

#[inline(always)]
fn ends(ops: *mut bpf_sock_ops) -> Ends {
    // remote_port: big-endian in the upper half; local_port: host order.
    let remote_port = u32::from_be(field!(ops, remote_port)) & 0xffff;
    let local_port = field!(ops, local_port);
    let remote6 = [
        field!(ops, remote_ip6[0]),
        field!(ops, remote_ip6[1]),
        field!(ops, remote_ip6[2]),
        field!(ops, remote_ip6[3]),
    ];
    let v4 = field!(ops, family) == AF_INET
        || (remote6[0] == 0 && remote6[1] == 0 && remote6[2] == MAPPED);
    if v4 {
        return Ends {
            local: mapped(field!(ops, local_ip4)),
            local_port,
            remote: mapped(field!(ops, remote_ip4)),
            remote_port,
        };
    }
    let local = [
        field!(ops, local_ip6[0]),
        field!(ops, local_ip6[1]),
        field!(ops, local_ip6[2]),
        field!(ops, local_ip6[3]),
    ];
    Ends {
        local,
        local_port,
        remote: remote6,
        remote_port,
    }
}
