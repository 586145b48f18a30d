//! Counters and refusal events.

use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_ktime_get_ns,
};
use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_current_uid_gid};
use core::intrinsics::{AtomicOrdering, atomic_xadd};
use weir_abi::{Counter, Event, Reason, counter_index};

use crate::maps::{COUNTS, EVENTS};

/// What was refused.
pub(crate) struct Refused<'a> {
    pub(crate) reason: Reason,
    pub(crate) class: u32,
    pub(crate) addr: &'a [u32; 4],
    pub(crate) port: u32,
    pub(crate) protocol: u32,
}

#[inline(always)]
pub(crate) fn add(class: u32, counter: u32) {
    if let Some(count) = COUNTS.get_ptr_mut(counter_index(class, counter)) {
        // SAFETY: a per-CPU slot. Atomic, since a packet that arrives interrupts the sending task on
        // its own CPU, and the ledger must add up.
        unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(count, 1) };
    }
}

/// Counts and reports a refusal made on behalf of the current task.
#[inline(always)]
pub(crate) fn refused_task(refused: &Refused<'_>) {
    add(refused.class, refused.reason as u32);
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        add(refused.class, Counter::EventLost as u32);
        return;
    };
    let event = entry.as_mut_ptr();
    fill(event, refused);
    // SAFETY: the entry is as large as the event; helpers write within it.
    unsafe {
        (*event).pid = (bpf_get_current_pid_tgid() >> 32) as u32;
        (*event).uid = bpf_get_current_uid_gid() as u32;
        (*event).cgroup_id = bpf_get_current_cgroup_id();
        bpf_get_current_comm((&raw mut (*event).comm).cast(), 16);
    }
    entry.submit(0);
}

/// Counts and reports a dropped packet; the current task means nothing here.
#[inline(always)]
pub(crate) fn refused_packet(refused: &Refused<'_>, cgroup_id: u64) {
    add(refused.class, refused.reason as u32);
    let Some(mut entry) = EVENTS.reserve::<Event>(0) else {
        add(refused.class, Counter::EventLost as u32);
        return;
    };
    let event = entry.as_mut_ptr();
    fill(event, refused);
    // SAFETY: as above.
    unsafe {
        (*event).pid = 0;
        (*event).uid = 0;
        (*event).cgroup_id = cgroup_id;
        (*event).comm = [0; 16];
    }
    entry.submit(0);
}

#[inline(always)]
fn fill(event: *mut Event, refused: &Refused<'_>) {
    // SAFETY: the caller's reserved entry.
    unsafe {
        (*event).addr = *refused.addr;
        (*event).port = refused.port;
        (*event).reason = refused.reason as u32;
        (*event).class = refused.class;
        (*event).protocol = refused.protocol;
        (*event).ktime_ns = bpf_ktime_get_ns();
    }
}
