//! What is still to be told to one notifier, and when it is tried again. No clock of its own.

use std::time::Duration;

use crate::notice::Notice;

/// Notices that wait for one notifier; further ones are looked at again later.
pub(crate) const WAITING_MAX: usize = 256;
const FIRST_GAP: Duration = Duration::from_secs(1);
const GAP_MAX: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) notice: Notice,
    pub(crate) attempts: u32,
    due_us: u64,
    /// Of no use to anybody afterwards; Unix seconds.
    until_s: i64,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    jobs: Vec<Job>,
    /// Key of the one that is being told.
    under_way: Option<String>,
}

impl Queue {
    /// False when it is full.
    pub(crate) fn push(&mut self, notice: Notice, until_s: i64, mono_us: u64) -> bool {
        if self.jobs.len() >= WAITING_MAX {
            return false;
        }
        self.jobs.push(Job {
            notice,
            attempts: 0,
            due_us: mono_us,
            until_s,
        });
        true
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.under_way.as_deref() == Some(key) || self.jobs.iter().any(|job| job.notice.key == key)
    }

    /// The one that is due longest. It counts as there until [`Queue::landed`] or [`Queue::again`].
    pub(crate) fn take_due(&mut self, mono_us: u64) -> Option<Job> {
        let due = self
            .jobs
            .iter()
            .enumerate()
            .filter(|(_, job)| job.due_us <= mono_us);
        let at = due.min_by_key(|(_, job)| job.due_us).map(|(at, _)| at)?;
        let job = self.jobs.remove(at);
        self.under_way = Some(job.notice.key.clone());
        Some(job)
    }

    /// The one that was under way is told, and that is written down.
    pub(crate) fn landed(&mut self) {
        self.under_way = None;
    }

    /// Time until the next one is due.
    pub(crate) fn gap(&self, mono_us: u64) -> Option<Duration> {
        let next = self.jobs.iter().map(|job| job.due_us).min()?;
        Some(Duration::from_micros(next.saturating_sub(mono_us)))
    }

    /// Puts a failed one back, twice as far away as the last time. Gives it back when its time is
    /// over.
    pub(crate) fn again(
        &mut self,
        mut job: Job,
        put_off: Option<Duration>,
        (mono_us, now_s): (u64, i64),
    ) -> Option<Job> {
        if now_s >= job.until_s {
            return Some(job);
        }
        let doubled = FIRST_GAP.saturating_mul(1 << job.attempts.min(16));
        let gap = doubled.min(GAP_MAX).max(put_off.unwrap_or_default());
        job.attempts += 1;
        job.due_us = mono_us.saturating_add(u64::try_from(gap.as_micros()).unwrap_or(u64::MAX));
        self.under_way = None;
        self.jobs.push(job);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::tests::notice;

    const S: u64 = 1_000_000;

    #[test]
    fn gaps_double_up_to_five_minutes_and_a_service_may_ask_for_more() {
        let mut queue = Queue::default();
        assert!(queue.push(notice("a"), 100_000, 0));
        let job = queue.take_due(0).unwrap();
        assert!(queue.has("a"), "it is under way");
        queue.landed();
        assert!(!queue.has("a"));
        assert!(queue.push(job.notice, 100_000, 0));
        let mut now = 0;
        let mut gaps = Vec::new();
        for _ in 0..11 {
            let job = queue.take_due(now).unwrap();
            assert!(queue.again(job, None, (now, 0)).is_none());
            let gap = queue.gap(now).unwrap();
            assert!(queue.take_due(now).is_none());
            gaps.push(gap.as_secs());
            now += u64::try_from(gap.as_micros()).unwrap();
        }
        assert_eq!(gaps, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let job = queue.take_due(now).unwrap();
        queue.again(job, Some(Duration::from_secs(400)), (now, 0));
        assert_eq!(queue.gap(now), Some(Duration::from_secs(400)));
    }

    #[test]
    fn what_is_over_is_given_up_and_the_queue_is_bounded() {
        let mut queue = Queue::default();
        queue.push(notice("a"), 50, 0);
        let job = queue.take_due(0).unwrap();
        assert!(queue.again(job, None, (S, 50)).is_some());
        for number in 0..WAITING_MAX {
            assert!(queue.push(notice(&number.to_string()), 50, 0));
        }
        assert!(!queue.push(notice("more"), 50, 0));
        assert!(queue.has("0") && !queue.has("more"));
    }
}
