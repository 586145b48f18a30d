//! Cgroups that came a moment ago.
//!
//! A runtime makes the cgroup first, puts its own process in, and only then makes the network: of
//! that last step nobody says anything. Until the newcomer has a listener, or is no newcomer any
//! more, somebody has to look often, or its first connect is refused.

use std::collections::{BTreeMap, HashMap};

/// A runtime is done with a container's network in less; later ones are found by the slow looks.
const YOUNG_NS: u64 = 2_000_000_000;
/// Newcomers that are looked after one by one. The rest is found by the slow looks.
const YOUNG_MAX: usize = 64;

/// By cgroup id: when it was first seen.
#[derive(Default)]
pub(crate) struct Arrivals {
    young: BTreeMap<u64, u64>,
}

impl Arrivals {
    /// What is there now and was not there at the look before.
    pub(crate) fn note(
        &mut self,
        before: &HashMap<u64, String>,
        now: &HashMap<u64, String>,
        now_ns: u64,
    ) {
        let new = now.keys().filter(|id| !before.contains_key(id));
        for id in new {
            if self.young.len() >= YOUNG_MAX {
                break;
            }
            self.young.insert(*id, now_ns);
        }
        self.young.retain(|id, _| now.contains_key(id));
    }

    /// Forgets those that are served, and those that have had their time.
    pub(crate) fn settle(&mut self, now_ns: u64, is_served: impl Fn(u64) -> bool) {
        self.young
            .retain(|id, since| now_ns.saturating_sub(*since) < YOUNG_NS && !is_served(*id));
    }

    pub(crate) fn are_awaited(&self) -> bool {
        !self.young.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(ids: &[u64]) -> HashMap<u64, String> {
        ids.iter().map(|id| (*id, format!("/{id}"))).collect()
    }

    #[test]
    fn a_newcomer_is_awaited_until_it_is_served_or_gone_or_old() {
        let mut arrivals = Arrivals::default();
        arrivals.note(&there(&[1]), &there(&[1]), 0);
        assert!(!arrivals.are_awaited(), "it was there before");
        for (end_ns, left, served) in [
            (1, &[1, 2][..], true),
            (1, &[1], false),
            (YOUNG_NS, &[1, 2], false),
        ] {
            arrivals.note(&there(&[1]), &there(&[1, 2]), 0);
            arrivals.settle(1, |_| false);
            assert!(arrivals.are_awaited());
            arrivals.note(&there(&[1, 2]), &there(left), end_ns);
            arrivals.settle(end_ns, |id| served && id == 2);
            assert!(!arrivals.are_awaited(), "{end_ns} {left:?} {served}");
        }
    }

    #[test]
    fn a_workload_that_makes_cgroups_without_end_is_not_looked_after_without_end() {
        let mut arrivals = Arrivals::default();
        let many: Vec<u64> = (0..YOUNG_MAX as u64 * 4).collect();
        arrivals.note(&there(&[]), &there(&many), 0);
        assert_eq!(arrivals.young.len(), YOUNG_MAX);
        arrivals.settle(YOUNG_NS, |_| false);
        assert!(!arrivals.are_awaited());
    }
}
