//! What waits to be given to one place: the newest anchor of each segment.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use weir_spool::SegmentId;

use super::Anchor;

/// Segments whose anchor waits; the oldest are given up, since their own ends prove them.
const WAITING_MAX: usize = 4096;

#[derive(Default)]
pub(super) struct Outbox {
    waiting: Mutex<BTreeMap<SegmentId, Anchor>>,
    pub(super) news: Notify,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<SegmentId, Anchor>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A later anchor of a segment says all that an earlier one does.
    pub(super) fn put(&self, anchors: &[Anchor]) {
        let mut waiting = self.lock();
        for anchor in anchors {
            let place = waiting.entry(anchor.id()).or_insert_with(|| anchor.clone());
            if place.position < anchor.position {
                *place = anchor.clone();
            }
        }
        while waiting.len() > WAITING_MAX {
            waiting.pop_first();
        }
    }

    pub(super) fn take(&self) -> Vec<Anchor> {
        std::mem::take(&mut *self.lock()).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anchor(number: u64, position: u32) -> Anchor {
        Anchor {
            node: String::new(),
            node_id: String::new(),
            epoch: 1,
            segment: number,
            position,
            at_ms: 0,
            hash: String::new(),
            signature: String::new(),
        }
    }

    #[test]
    fn the_newest_of_each_segment_waits_and_the_oldest_segments_are_given_up() {
        let outbox = Outbox::default();
        outbox.put(&[anchor(1, 5), anchor(2, 1)]);
        outbox.put(&[anchor(1, 4), anchor(2, 3)]);
        let positions = |anchors: Vec<Anchor>| {
            let all = anchors.into_iter().map(|a| (a.segment, a.position));
            all.collect::<Vec<_>>()
        };
        assert_eq!(positions(outbox.take()), vec![(1, 5), (2, 3)]);
        assert!(outbox.take().is_empty());
        let all: Vec<Anchor> = (1..=5000).map(|number| anchor(number, 1)).collect();
        outbox.put(&all);
        let left = outbox.take();
        assert_eq!((left.len(), left[0].segment), (4096, 905));
    }
}
