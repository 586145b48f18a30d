//! Which workload class, and is the destination protected for it.

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_skb_ancestor_cgroup_id,
};
use aya_ebpf::maps::lpm_trie::Key;
use weir_abi::rule::DESTINATION_FIXED_BITS;
use weir_abi::{CGROUP_DEPTH_MAX, CLASS_NONE, CLASS_OUTSIDE, Destination, PORT_ANY, PORT_SOME};

use crate::maps::{ALLOWED, CLASSES, DESTINATIONS, LISTED, OWN_CGROUPS};

/// Class of the deepest claimed ancestor of the current task's cgroup.
#[inline(always)]
pub(crate) fn of_task() -> u32 {
    let mut class = CLASS_NONE;
    let mut level = 1;
    while level <= CGROUP_DEPTH_MAX {
        // SAFETY: a helper without preconditions; 0 when the level does not exist.
        let id = unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) };
        if id == 0 {
            break;
        }
        // SAFETY: values are u32 and never removed while in use by more than this read.
        if let Some(found) = unsafe { CLASSES.get(&id) } {
            class = *found;
        }
        level += 1;
    }
    class
}

/// Class of the deepest claimed ancestor of the packet's socket's cgroup; [`CLASS_OUTSIDE`] where
/// none is governed, and without a full socket.
#[inline(always)]
pub(crate) fn of_packet(skb: *mut __sk_buff) -> u32 {
    let mut class = CLASS_OUTSIDE;
    let mut level = 1;
    while level <= CGROUP_DEPTH_MAX {
        // SAFETY: the packet comes from the kernel; 0 without a full socket.
        let id = unsafe { bpf_skb_ancestor_cgroup_id(skb, level as i32) };
        if id == 0 {
            break;
        }
        // SAFETY: as above.
        if let Some(found) = unsafe { CLASSES.get(&id) } {
            class = *found;
        }
        level += 1;
    }
    class
}

/// Was the packet sent by a socket born in one of Weir's own cgroups.
#[inline(always)]
pub(crate) fn is_own(cgroup: u64) -> bool {
    // SAFETY: only presence is used.
    cgroup != 0 && unsafe { OWN_CGROUPS.get(&cgroup) }.is_some()
}

/// `port` in host order.
#[inline(always)]
pub(crate) fn is_protected(class: u32, addr: &[u32; 4], port: u32) -> bool {
    lookup(class, addr, port) || lookup(class, addr, PORT_ANY)
}

/// Is any port of the address protected.
#[inline(always)]
pub(crate) fn is_protected_somewhere(class: u32, addr: &[u32; 4]) -> bool {
    lookup(class, addr, PORT_SOME)
}

/// Does the class reach nothing but what is on its list.
#[inline(always)]
pub(crate) fn is_listed(class: u32) -> bool {
    LISTED.get(class).is_some_and(|listed| *listed != 0)
}

/// `port` in host order.
#[inline(always)]
pub(crate) fn is_allowed(class: u32, addr: &[u32; 4], port: u32) -> bool {
    ALLOWED.get(&key(class, addr, port)).is_some() || is_allowed_whole(class, addr)
}

/// Is every port of the address on the list.
#[inline(always)]
pub(crate) fn is_allowed_whole(class: u32, addr: &[u32; 4]) -> bool {
    ALLOWED.get(&key(class, addr, PORT_ANY)).is_some()
}

/// Is some port of the address on the list.
#[inline(always)]
pub(crate) fn is_allowed_somewhere(class: u32, addr: &[u32; 4]) -> bool {
    ALLOWED.get(&key(class, addr, PORT_SOME)).is_some()
}

#[inline(always)]
fn lookup(class: u32, addr: &[u32; 4], port: u32) -> bool {
    DESTINATIONS.get(&key(class, addr, port)).is_some()
}

#[inline(always)]
fn key(class: u32, addr: &[u32; 4], port: u32) -> Key<Destination> {
    let mut bytes = [0_u8; 16];
    for (index, word) in addr.iter().enumerate() {
        bytes[index * 4..index * 4 + 4].copy_from_slice(&word.to_ne_bytes());
    }
    let data = Destination {
        class,
        port,
        addr: bytes,
    };
    Key::new(DESTINATION_FIXED_BITS + 128, data)
}
