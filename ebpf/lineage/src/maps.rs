//! Every map, with its capacity and its memory; all are pinned.

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use weir_abi::lineage::{LOST as LOST_KINDS, Lost, Offsets, PAST_MAX, PROCESSES_MAX, SPEAKERS_MAX};
use weir_abi::{Origin, Process, ProcessKey, Speaker};

/// Living processes; memory only for what is inserted, 48 MiB when full.
#[map]
pub(crate) static PROCESSES: HashMap<ProcessKey, Process> =
    HashMap::pinned(PROCESSES_MAX, BPF_F_NO_PREALLOC);

/// Images that ended, 13 MiB.
#[map]
pub(crate) static PAST: LruHashMap<ProcessKey, Process> = LruHashMap::pinned(PAST_MAX, 0);

/// Cookie of the client's socket to who sends on it.
#[map]
pub(crate) static SPEAKERS: LruHashMap<u64, Speaker> = LruHashMap::pinned(SPEAKERS_MAX, 0);

#[map]
pub(crate) static LOST: PerCpuArray<u64> = PerCpuArray::pinned(LOST_KINDS, 0);

#[map]
static ACTIVE: Array<u32> = Array::pinned(1, 0);

/// The redirect's own map, found by its pin.
#[btf_map]
pub(crate) static CLIENT: SkStorage<Origin> = SkStorage::new();

// Distinct non-zero sentinels: LLVM merges equal constants, and overriding one would change both.
#[unsafe(no_mangle)]
static GENERATION: Global<u32> = Global::new(0x5702_0001);
#[unsafe(no_mangle)]
pub(crate) static OFFSETS: Global<Offsets> = Global::new(Offsets {
    task_pid: 0x5702_0002,
    task_tgid: 0,
    task_real_parent: 0,
    task_group_leader: 0,
    task_start_boottime: 0,
    task_signal: 0,
    task_mm: 0,
    signal_live: 0,
    mm_arg_start: 0,
    mm_arg_end: 0,
    bprm_file: 0,
    bprm_interp: 0,
    file_inode: 0,
    inode_ino: 0,
    inode_sb: 0,
    sb_dev: 0,
});

/// Two generations are attached for a moment during a take-over; one of them works.
#[inline(always)]
pub(crate) fn is_active() -> bool {
    ACTIVE.get(0).copied() == Some(GENERATION.load())
}

#[inline(always)]
pub(crate) fn lost(what: Lost) {
    if let Some(count) = LOST.get_ptr_mut(what as u32) {
        // SAFETY: a per-CPU slot.
        unsafe { *count += 1 };
    }
}
