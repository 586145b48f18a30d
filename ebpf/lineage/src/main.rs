//! The eBPF programs of process lineage: see exec, fork, exit, and who sends on a redirected
//! socket.
//!
//! An object of its own: a kernel that refuses it still redirects. Entry points only. On any other
//! target this is an empty program, so that the workspace builds as a whole.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod life;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod speak;
#[cfg(target_arch = "bpf")]
mod task;

#[cfg(not(target_arch = "bpf"))]
const fn main() {}

#[cfg(target_arch = "bpf")]
mod entry {
    //! One function per hook.

    use aya_ebpf::macros::{btf_tracepoint, fentry};
    use aya_ebpf::programs::{BtfTracePointContext, FEntryContext};

    use crate::{life, maps, speak};

    #[btf_tracepoint(function = "sched_process_exec")]
    pub(crate) fn weir_exec(ctx: BtfTracePointContext) -> i32 {
        if maps::is_active() {
            life::exec(ctx.arg(0), ctx.arg(2));
        }
        0
    }

    #[btf_tracepoint(function = "sched_process_fork")]
    pub(crate) fn weir_fork(ctx: BtfTracePointContext) -> i32 {
        if maps::is_active() {
            life::fork(ctx.arg(0), ctx.arg(1));
        }
        0
    }

    #[btf_tracepoint(function = "sched_process_exit")]
    pub(crate) fn weir_exit(ctx: BtfTracePointContext) -> i32 {
        if maps::is_active() {
            life::exit(ctx.arg(0));
        }
        0
    }

    /// Linux 6.16 and later.
    #[btf_tracepoint(function = "tcp_sendmsg_locked")]
    pub(crate) fn weir_speak_tp(ctx: BtfTracePointContext) -> i32 {
        if maps::is_active() {
            speak::sends(ctx.arg(0));
        }
        0
    }

    #[fentry(function = "tcp_sendmsg")]
    pub(crate) fn weir_speak(ctx: FEntryContext) -> i32 {
        if maps::is_active() {
            speak::sends(ctx.arg(0));
        }
        0
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
