//! Members of kernel structs, by probe reads: they fail instead of faulting, and give 0 then.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use core::ffi::c_void;
use weir_abi::ProcessKey;
use weir_abi::lineage::PRESENT;

use crate::maps::OFFSETS;

/// A pointer into the kernel, only ever probe read.
pub(crate) type Kernel = *const c_void;

#[inline(always)]
pub(crate) fn word(from: Kernel, offset: u32) -> u32 {
    let mut value = 0_u32;
    // SAFETY: a probe read of any address.
    unsafe {
        let source = from.cast::<u8>().wrapping_add(offset as usize).cast();
        bpf_probe_read_kernel((&raw mut value).cast(), 4, source);
    }
    value
}

#[inline(always)]
pub(crate) fn long(from: Kernel, offset: u32) -> u64 {
    let mut value = 0_u64;
    // SAFETY: a probe read of any address.
    unsafe {
        let source = from.cast::<u8>().wrapping_add(offset as usize).cast();
        bpf_probe_read_kernel((&raw mut value).cast(), 8, source);
    }
    value
}

#[inline(always)]
pub(crate) fn pointer(from: Kernel, offset: u32) -> Kernel {
    long(from, offset) as Kernel
}

/// The process of a task: a thread that executes takes its leader's number and start, so this
/// stays the same for the life of the thread group.
#[inline(always)]
pub(crate) fn key(task: Kernel) -> ProcessKey {
    let offsets = OFFSETS.load();
    let leader = pointer(task, offsets.task_group_leader);
    ProcessKey {
        tgid: word(task, offsets.task_tgid),
        image: PRESENT,
        start_ns: long(leader, offsets.task_start_boottime),
    }
}
