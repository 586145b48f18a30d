//! The eBPF programs: see a connect, remember it, send it to Weir, count.
//!
//! One object. Entry points only; the steps are in the modules. On any other target this is an
//! empty program, so that the workspace builds as a whole.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// The target has an atomic add, and nothing that `core::sync::atomic` could build its types from.
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "one instruction, see above")
)]

#[cfg(target_arch = "bpf")]
mod bind;
#[cfg(target_arch = "bpf")]
mod class;
#[cfg(target_arch = "bpf")]
mod connect;
#[cfg(target_arch = "bpf")]
mod context;
#[cfg(target_arch = "bpf")]
mod count;
#[cfg(target_arch = "bpf")]
mod establish;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod packet;

#[cfg(not(target_arch = "bpf"))]
const fn main() {}

#[cfg(target_arch = "bpf")]
mod entry {
    //! One function per hook.

    use aya_ebpf::macros::{
        cgroup_skb, cgroup_sock, cgroup_sock_addr, cgroup_sockopt, classifier, sock_ops,
    };
    use aya_ebpf::programs::{
        SkBuffContext, SockAddrContext, SockContext, SockOpsContext, SockoptContext, TcContext,
    };

    use crate::{bind, connect, establish, packet};

    #[cgroup_sock_addr(connect4)]
    pub(crate) fn weir_connect4(ctx: SockAddrContext) -> i32 {
        connect::connect4(&ctx)
    }

    #[cgroup_sock_addr(connect6)]
    pub(crate) fn weir_connect6(ctx: SockAddrContext) -> i32 {
        connect::connect6(&ctx)
    }

    #[cgroup_sock_addr(getpeername4)]
    pub(crate) fn weir_peername4(ctx: SockAddrContext) -> i32 {
        connect::peername4(&ctx)
    }

    #[cgroup_sock_addr(getpeername6)]
    pub(crate) fn weir_peername6(ctx: SockAddrContext) -> i32 {
        connect::peername6(&ctx)
    }

    #[cgroup_sock_addr(sendmsg4)]
    pub(crate) fn weir_sendmsg4(ctx: SockAddrContext) -> i32 {
        connect::sendmsg4(&ctx)
    }

    #[cgroup_sock_addr(sendmsg6)]
    pub(crate) fn weir_sendmsg6(ctx: SockAddrContext) -> i32 {
        connect::sendmsg6(&ctx)
    }

    #[cgroup_sock_addr(bind4)]
    pub(crate) fn weir_bind4(ctx: SockAddrContext) -> i32 {
        bind::bind(&ctx)
    }

    #[cgroup_sock_addr(bind6)]
    pub(crate) fn weir_bind6(ctx: SockAddrContext) -> i32 {
        bind::bind(&ctx)
    }

    #[cgroup_sock(sock_create)]
    pub(crate) fn weir_create(ctx: SockContext) -> i32 {
        bind::create(&ctx)
    }

    #[cgroup_sockopt(setsockopt)]
    pub(crate) fn weir_setopt(ctx: SockoptContext) -> i32 {
        bind::set_option(&ctx)
    }

    #[sock_ops]
    pub(crate) fn weir_gov_ops(ctx: SockOpsContext) -> u32 {
        establish::governed(&ctx)
    }

    #[sock_ops]
    pub(crate) fn weir_own_ops(ctx: SockOpsContext) -> u32 {
        establish::own(&ctx)
    }

    #[cgroup_skb(egress)]
    pub(crate) fn weir_egress(ctx: SkBuffContext) -> i32 {
        packet::cgroup_egress(ctx.skb.skb)
    }

    #[classifier]
    pub(crate) fn weir_device(ctx: TcContext) -> i32 {
        packet::device_egress(ctx.skb.skb)
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
