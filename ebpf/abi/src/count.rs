//! Per-CPU counters: one row of [`COUNTERS`] numbers per class.

/// Counters of one class; refusals sit at their [`crate::Reason`] number.
pub const COUNTERS: u32 = 32;

/// Classes, the one of unclaimed processes included.
pub const CLASSES_MAX: u32 = 256;

/// Counters that are not refusals.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// connect hook: rewritten to the listener.
    Redirected = 16,
    /// `sock_ops`, the independent hook: a redirected SYN is about to leave.
    Published = 17,
    /// `sock_ops`: a SYN to a protected destination that was not redirected.
    Missed = 18,
    /// `sock_ops` of Weir's cgroup: an accepted socket got its origin.
    Accepted = 19,
    /// Accepted without an origin.
    Orphaned = 20,
    /// A published flow, or an accepted socket, could not be given its origin: no memory.
    FlowLost = 21,
    /// A published flow ended before anything was accepted for it.
    Abandoned = 22,
    /// Accepted with an origin that was too old.
    Expired = 23,
    /// A refusal was counted and not reported: the ring was full.
    EventLost = 24,
}

/// Index into the counter array.
#[must_use]
pub const fn counter_index(class: u32, counter: u32) -> u32 {
    class * COUNTERS + counter
}

const _: () = assert!((Counter::EventLost as u32) < COUNTERS);
const _: () = assert!((crate::Reason::Unlisted as u32) < Counter::Redirected as u32);
