//! The bypass suite: real eBPF, the real broker, real network namespaces and cgroups, and programs
//! that try to get around them.
//!
//! Proof is taken at the server, packet by packet (`sniff`). The node is a stand-in that only
//! accepts, reads origins and answers: nothing of it ever opens an upstream, so any packet that
//! reaches a protected port of the server is a bypass.
#![expect(
    clippy::disallowed_methods,
    reason = "tests wait by the wall clock, with limits"
)]

pub mod calls;
pub mod connects;
pub mod jail;
pub mod lab;
pub mod packets;
pub mod probes;
pub mod recipes;
pub mod role;
pub mod roles;
pub mod sniff;
pub mod uring;
pub mod xdp;

use std::time::{Duration, Instant};

/// A limit for failures, longer where `WEIR_SLOWNESS` says so: an emulated machine takes a second for
/// what others do in fifty milliseconds.
#[must_use]
pub fn patient(limit: Duration) -> Duration {
    let slowness = std::env::var("WEIR_SLOWNESS").ok();
    limit * slowness.and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Asks until an answer comes; the limit is for failures, not a wait.
pub fn until<T>(within: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let limit = Instant::now() + patient(within);
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() > limit {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
