//! Who sends on a redirected socket, when it is not the process that connected it.

use aya_ebpf::helpers::bpf_get_current_uid_gid;
use aya_ebpf::helpers::generated::{bpf_get_current_task, bpf_ktime_get_ns, bpf_sk_storage_get};
use core::ffi::c_void;
use weir_abi::lineage::Lost;
use weir_abi::{Origin, Speaker};

use crate::maps::{CLIENT, SPEAKERS, lost};
use crate::task::key;

/// Runs in the sender, before its bytes leave: whoever reads them finds the speaker.
#[inline(always)]
pub(crate) fn sends(socket: *mut c_void) {
    // SAFETY: the hook's own argument; storage is looked for and never made.
    let origin: *mut Origin = unsafe {
        let map = (&raw const CLIENT).cast_mut().cast();
        bpf_sk_storage_get(map, socket, core::ptr::null_mut(), 0).cast()
    };
    if origin.is_null() {
        return;
    }
    // SAFETY: checked; the storage lives as long as the socket.
    let origin = unsafe { &*origin };
    // SAFETY: a helper without preconditions.
    let sender = key(unsafe { bpf_get_current_task() } as *const c_void);
    let cookie = origin.socket_cookie;
    // SAFETY: copied at once.
    let last = unsafe { SPEAKERS.get(&cookie) }
        .map_or((origin.pid, origin.start_boottime_ns), |speaker| {
            (speaker.tgid, speaker.start_ns)
        });
    // The number alone could be another process' by now.
    if (sender.tgid, sender.start_ns) == last {
        return;
    }
    let speaker = Speaker {
        start_ns: sender.start_ns,
        // SAFETY: a helper without preconditions.
        since_ns: unsafe { bpf_ktime_get_ns() },
        tgid: sender.tgid,
        uid: bpf_get_current_uid_gid() as u32,
    };
    if SPEAKERS.insert(&cookie, &speaker, 0).is_err() {
        lost(Lost::Speaker);
    }
}
