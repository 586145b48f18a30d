//! exec, fork, exit.

use aya_ebpf::helpers::bpf_get_current_uid_gid;
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_ktime_get_ns, bpf_probe_read_kernel_str,
    bpf_probe_read_user,
};
use weir_abi::lineage::{ARGV_BYTES, LAST, Lost, PATH_BYTES, flag};
use weir_abi::{Process, ProcessKey};

use crate::maps::{OFFSETS, PAST, PROCESSES, lost};
use crate::task::{Kernel, key, long, pointer, word};

/// A new record starts as a copy of this, so that nothing in it is ever undefined.
static EMPTY: Process = Process {
    begun: 1,
    execs: 0,
    parent_tgid: 0,
    exe_dev: 0,
    parent_start_ns: 0,
    exe_inode: 0,
    since_ns: 0,
    cgroup_id: 0,
    uid: 0,
    flags: flag::INHERITED,
    argv_bytes: 0,
    argv_total: 0,
    comm: [0; 16],
    path: [0; PATH_BYTES],
    argv: [0; ARGV_BYTES],
    done: 0,
    pad: 0,
};

/// Runs in the new image: its arguments lie in memory that the kernel has just written.
#[inline(always)]
pub(crate) fn exec(task: Kernel, bprm: Kernel) {
    let process = key(task);
    let known = PROCESSES.get_ptr_mut(&process);
    let record = match known {
        Some(record) => {
            // SAFETY: a map value.
            let ended = ProcessKey {
                image: unsafe { (*record).execs } + 1,
                ..process
            };
            // SAFETY: as above.
            let _full = PAST.insert(&ended, unsafe { &*record }, 0);
            record
        }
        None => match fresh(&process, task) {
            Some(record) => record,
            None => return,
        },
    };
    // SAFETY: a map value; `begun` differs from `done` until all of it is written.
    unsafe {
        core::ptr::write_volatile(&raw mut (*record).begun, (*record).done.wrapping_add(1));
        (*record).execs += 1;
        (*record).flags = 0;
        (*record).uid = bpf_get_current_uid_gid() as u32;
        (*record).cgroup_id = bpf_get_current_cgroup_id();
        (*record).since_ns = bpf_ktime_get_ns();
        bpf_get_current_comm((&raw mut (*record).comm).cast(), 16);
        image(record, bprm);
        arguments(record, task);
        core::ptr::write_volatile(&raw mut (*record).done, (*record).begun);
    }
}

#[inline(always)]
fn image(record: *mut Process, bprm: Kernel) {
    let offsets = OFFSETS.load();
    let inode = pointer(pointer(bprm, offsets.bprm_file), offsets.file_inode);
    let path = pointer(bprm, offsets.bprm_interp);
    // SAFETY: the caller's map value; the helper writes within `path`.
    unsafe {
        (*record).exe_inode = long(inode, offsets.inode_ino);
        (*record).exe_dev = word(pointer(inode, offsets.inode_sb), offsets.sb_dev);
        if (*record).exe_inode == 0 {
            (*record).flags |= flag::NO_EXE;
        }
        (*record).path[0] = 0;
        bpf_probe_read_kernel_str((&raw mut (*record).path).cast(), PATH_BYTES as u32, path);
    }
}

#[inline(always)]
fn arguments(record: *mut Process, task: Kernel) {
    let offsets = OFFSETS.load();
    let mm = pointer(task, offsets.task_mm);
    let start = long(mm, offsets.mm_arg_start);
    let total = long(mm, offsets.mm_arg_end).wrapping_sub(start);
    let total = if total > 0x7fff_ffff { 0 } else { total as u32 };
    let most = ARGV_BYTES as u32 - 1;
    let mut bytes = if total > most { most } else { total };
    // The verifier sees the limit only in a mask right before the call.
    bytes &= most;
    // SAFETY: the caller's map value; at most `most` bytes of it are written.
    unsafe {
        (*record).argv_total = total;
        let to = (&raw mut (*record).argv).cast();
        if bpf_probe_read_user(to, bytes, start as Kernel) == 0 {
            (*record).argv_bytes = bytes;
        } else {
            (*record).argv_bytes = 0;
            (*record).flags |= flag::NO_ARGV;
            lost(Lost::Argv);
        }
    }
}

/// Runs in the parent before the child does.
#[inline(always)]
pub(crate) fn fork(parent: Kernel, child: Kernel) {
    let offsets = OFFSETS.load();
    let process = key(child);
    if word(child, offsets.task_pid) != process.tgid {
        return;
    }
    let record = match PROCESSES.get_ptr_mut(&key(parent)) {
        Some(known) => {
            // SAFETY: a map value, whole, since only the parent itself writes it.
            if PROCESSES.insert(&process, unsafe { &*known }, 0).is_err() {
                lost(Lost::Process);
                return;
            }
            match PROCESSES.get_ptr_mut(&process) {
                Some(record) => record,
                None => return,
            }
        }
        None => match fresh(&process, child) {
            Some(record) => record,
            None => return,
        },
    };
    // With CLONE_PARENT it is not the task that forked.
    let above = key(pointer(child, offsets.task_real_parent));
    // SAFETY: a map value.
    unsafe {
        core::ptr::write_volatile(&raw mut (*record).begun, (*record).done.wrapping_add(1));
        (*record).execs = 0;
        (*record).parent_tgid = above.tgid;
        (*record).parent_start_ns = above.start_ns;
        (*record).uid = bpf_get_current_uid_gid() as u32;
        (*record).cgroup_id = bpf_get_current_cgroup_id();
        (*record).since_ns = bpf_ktime_get_ns();
        bpf_get_current_comm((&raw mut (*record).comm).cast(), 16);
        core::ptr::write_volatile(&raw mut (*record).done, (*record).begun);
    }
}

/// A record of a process that nothing was known of; its parent is the present one.
#[inline(always)]
fn fresh(process: &ProcessKey, task: Kernel) -> Option<*mut Process> {
    if PROCESSES.insert(process, &EMPTY, 0).is_err() {
        lost(Lost::Process);
        return None;
    }
    let record = PROCESSES.get_ptr_mut(process)?;
    let parent = key(pointer(task, OFFSETS.load().task_real_parent));
    // SAFETY: a map value.
    unsafe {
        (*record).parent_tgid = parent.tgid;
        (*record).parent_start_ns = parent.start_ns;
    }
    Some(record)
}

/// A leader may end before its threads: the record stays until the last of them ends.
#[inline(always)]
pub(crate) fn exit(task: Kernel) {
    let offsets = OFFSETS.load();
    let signal = pointer(task, offsets.task_signal);
    if word(signal, offsets.signal_live) != 0 {
        return;
    }
    let process = key(task);
    if let Some(record) = PROCESSES.get_ptr_mut(&process) {
        let ended = ProcessKey {
            image: LAST,
            ..process
        };
        // SAFETY: a map value.
        let _full = PAST.insert(&ended, unsafe { &*record }, 0);
        let _absent = PROCESSES.remove(&process);
    }
}
