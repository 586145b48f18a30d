//! How often one address or one session may ask: token buckets in a bounded map.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use weir_model::time::Now;

/// Buckets that are kept; the fullest go first.
const BUCKETS_MAX: usize = 4096;

/// What is counted, and how much of it is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Of {
    /// Any request of an address.
    Address(IpAddr),
    /// Sign-ins that an address begins or comes back from.
    SignIn(IpAddr),
    /// What a session changes.
    Post([u8; 32]),
    /// Searches and replays of a session, which cost the store something.
    Search([u8; 32]),
}

impl Of {
    /// Tokens at most, and per minute.
    const fn size(self) -> (f64, f64) {
        match self {
            Self::Address(_) => (300.0, 1200.0),
            Self::SignIn(_) => (20.0, 30.0),
            Self::Post(_) => (20.0, 60.0),
            Self::Search(_) => (30.0, 60.0),
        }
    }
}

struct Bucket {
    tokens: f64,
    at_us: u64,
}

#[derive(Default)]
pub(crate) struct Limits(Mutex<HashMap<Of, Bucket>>);

impl Limits {
    /// Takes one; false when there is none left.
    pub(crate) fn take(&self, of: Of, now: Now) -> bool {
        let (most, per_minute) = of.size();
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(&of) {
            // Full buckets say nothing; if all are in use, a new address starts them anew.
            buckets.retain(|of, bucket| bucket.tokens_at(*of, now) < of.size().0);
            if buckets.len() >= BUCKETS_MAX {
                buckets.clear();
            }
        }
        let bucket = buckets.entry(of).or_insert(Bucket {
            tokens: most,
            at_us: now.mono_us,
        });
        bucket.tokens = bucket.tokens_at(of, now);
        bucket.at_us = now.mono_us;
        debug_assert!(per_minute > 0.0);
        if bucket.tokens < 1.0 {
            return false;
        }
        bucket.tokens -= 1.0;
        true
    }
}

impl Bucket {
    fn tokens_at(&self, of: Of, now: Now) -> f64 {
        let (most, per_minute) = of.size();
        let passed_s = now.mono_us.saturating_sub(self.at_us) as f64 / 1e6;
        (self.tokens + passed_s * per_minute / 60.0).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Now {
        Now {
            mono_us: seconds * 1_000_000,
            wall_us: 0,
        }
    }

    #[test]
    fn a_burst_passes_then_the_rate_holds_and_others_are_not_touched() {
        let limits = Limits::default();
        let one = Of::SignIn([10, 0, 0, 1].into());
        let other = Of::SignIn([10, 0, 0, 2].into());
        assert_eq!((0..50).filter(|_| limits.take(one, at(0))).count(), 20);
        assert!(limits.take(other, at(0)));
        assert_eq!((0..50).filter(|_| limits.take(one, at(60))).count(), 20);
        assert_eq!((0..50).filter(|_| limits.take(one, at(70))).count(), 5);
    }

    #[test]
    fn buckets_are_bounded() {
        let limits = Limits::default();
        for number in 0..3 * BUCKETS_MAX {
            let octets = u32::try_from(number).unwrap().to_be_bytes();
            limits.take(Of::Address(octets.into()), at(0));
        }
        assert!(limits.0.lock().unwrap().len() <= BUCKETS_MAX);
    }
}
