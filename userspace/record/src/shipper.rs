//! Ships batches to ClickHouse, exactly once.
//!
//! Rules (ClickHouse's insert deduplication): a batch's rows, order and token are fixed on disk
//! before the first send; a retry is the same bytes with the same token; only a 200 with its body
//! read to the end is an acknowledgement, anything else is unknown and retried.

mod free;
mod keys;
mod metrics;
mod send;
mod tail;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::metrics::ShipperMetrics;
pub(crate) use self::send::send_anchors;
use crate::StoreAddress;
use crate::directory::{SpoolDir, Usage, live_epochs, segments};
use crate::journal::{Batch, Journal};
use crate::keys::KeyRing;

/// How batches are cut and sent.
#[derive(Clone, Debug)]
pub struct ShipperConfig {
    /// Replicas of one shard, which share the tokens of inserts; never empty. When one fails, the next
    /// is asked.
    pub stores: Vec<StoreAddress>,
    pub node_name: String,
    /// Rows after which a batch is cut.
    pub rows_max: u32,
    /// Age after which one is cut anyway.
    pub age: Duration,
    /// Acknowledged segments are kept for `weir audit verify` until the spool is this full.
    pub keep_bytes: u64,
}

/// The one task that reads the spool and sends.
pub struct Shipper {
    config: ShipperConfig,
    directory: PathBuf,
    node: u128,
    epoch: u32,
    used: Arc<Usage>,
    keys: Arc<KeyRing>,
    limit_bytes: u64,
    metrics: ShipperMetrics,
}

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const BACK_OFF_MIN: Duration = Duration::from_millis(200);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// Batches under way together. Each has up to 64 MiB in memory.
const AT_ONCE_MAX: usize = 4;
/// How long it waits when the spool's own files fail it.
const FILES_AGAIN: Duration = Duration::from_secs(1);

/// Which store is asked, and how patiently.
struct Way {
    /// Index of the address in use.
    store: usize,
    back_off: Duration,
    /// Since when something is cut and not acknowledged, monotonic microseconds.
    behind_since_us: Option<u64>,
    keys: keys::Turn,
}

impl Default for Way {
    fn default() -> Self {
        Self {
            store: 0,
            back_off: BACK_OFF_MIN,
            behind_since_us: None,
            keys: keys::Turn::default(),
        }
    }
}

impl Shipper {
    #[must_use]
    pub fn new(config: ShipperConfig, spool: &SpoolDir, metrics: ShipperMetrics) -> Self {
        Self {
            config,
            directory: spool.directory().to_owned(),
            node: spool.node(),
            epoch: spool.epoch(),
            used: spool.used(),
            keys: spool.keys(),
            limit_bytes: spool.limit_bytes(),
            metrics,
        }
    }

    /// Runs until `stop` turns true; then cuts and tries to send what is left, once. One process
    /// ships at a time: a second one waits here until the first is gone. Neither ClickHouse being away
    /// nor files that cannot be read or written end it: it says so and tries again.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        loop {
            match self.ship(&mut stop).await {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(%error, "the shipper cannot use the spool's files; it tries again");
                    self.metrics.file_errors.inc();
                }
            }
            if *stop.borrow() {
                return;
            }
            self.free_blindly();
            pause(FILES_AGAIN, &mut stop).await;
        }
    }

    /// # Errors
    /// The journal or the spool's files cannot be used.
    async fn ship(&self, stop: &mut watch::Receiver<bool>) -> std::io::Result<()> {
        let path = self.directory.join("batches");
        let mut journal = loop {
            if let Some(journal) = Journal::open(&path)? {
                break journal;
            }
            if *stop.borrow() {
                return Ok(());
            }
            pause(LOOK_EVERY, stop).await;
        };
        let mut tails = tail::Tails::default();
        let mut way = Way::default();
        loop {
            let stopping = *stop.borrow();
            let cut = self.cut(&mut journal, &mut tails, stopping)?;
            self.used
                .look(&self.directory, self.epoch)
                .map_err(std::io::Error::other)?;
            self.measure(&journal, &mut way)?;
            self.send_keys(&mut journal, &mut way).await?;
            let sent = self.send(&mut journal, &way).await?;
            self.free(&journal)?;
            match sent {
                Sent::Stored => {
                    way.back_off = BACK_OFF_MIN;
                    journal.shorten()?;
                }
                Sent::Failed if stopping && way.store + 1 >= self.config.stores.len() => {
                    return Ok(());
                }
                Sent::Nothing if stopping && !cut => return Ok(()),
                Sent::Failed => {
                    self.metrics.retries.inc();
                    way.store = (way.store + 1) % self.config.stores.len().max(1);
                    // Every replica is asked before anybody waits.
                    if way.store == 0 {
                        pause(way.back_off, stop).await;
                        way.back_off = (way.back_off * 2).min(BACK_OFF_MAX);
                    }
                }
                Sent::Nothing => pause(LOOK_EVERY, stop).await,
            }
        }
    }

    fn measure(&self, journal: &Journal, way: &mut Way) -> std::io::Result<()> {
        let now_us = weir_clock::now().mono_us;
        if journal.open.is_empty() {
            way.behind_since_us = None;
        } else {
            way.behind_since_us.get_or_insert(now_us);
        }
        let behind_us = way.behind_since_us.map_or(0, |since| now_us - since);
        let mut unshipped = 0;
        for segment in segments(&self.directory).map_err(std::io::Error::other)? {
            let length = std::fs::metadata(&segment.path)?.len();
            let cut = journal.progress.get(&segment.id).map_or(0, |p| p.end);
            unshipped += length.saturating_sub(cut);
        }
        unshipped += journal
            .open
            .iter()
            .chain(&journal.refused)
            .map(|batch| batch.end - batch.start)
            .sum::<u64>();
        self.metrics.measured(&metrics::Measured {
            open: journal.open.len(),
            refused: journal.refused.len(),
            behind_s: behind_us / 1_000_000,
            unshipped,
            used: self.used.bytes(),
            limit: self.limit_bytes,
            refusals: self.used.refused(),
            store: way.store,
        });
        Ok(())
    }

    /// Cuts what is due; true when anything was.
    fn cut(
        &self,
        journal: &mut Journal,
        tails: &mut tail::Tails,
        all: bool,
    ) -> std::io::Result<bool> {
        let mut any = false;
        let live = live_epochs(&self.directory).map_err(std::io::Error::other)?;
        for segment in segments(&self.directory).map_err(std::io::Error::other)? {
            if all && segment.id.epoch > self.epoch {
                // A successor's, which ships from now on.
                continue;
            }
            let dead = segment.id.epoch < self.epoch && !live.contains(&segment.id.epoch);
            let all = dead || (all && segment.id.epoch == self.epoch);
            while let Some(batch) = tails.next_batch(&segment, journal, &self.config, all)? {
                journal.cut(&batch)?;
                any = true;
            }
        }
        Ok(any)
    }

    /// Sends the first batch of some lanes at once, and notes what became of each as soon as it is known.
    async fn send(&self, journal: &mut Journal, way: &Way) -> std::io::Result<Sent> {
        let Some(store) = self.config.stores.get(way.store) else {
            return Err(std::io::Error::other("there is no store to send to"));
        };
        let mut sending = JoinSet::new();
        let mut outcome = Sent::Nothing;
        for batch in at_once(&journal.open) {
            let content = match tail::content(&self.directory, &batch)? {
                Ok(content) => content,
                Err(tail::Damaged(why)) => {
                    tracing::error!(
                        why, segment = ?batch.segment, number = batch.number,
                        "a batch in the spool is damaged: it is in quarantine, see weir audit verify"
                    );
                    self.metrics.quarantined.inc();
                    journal.settle(&batch, 'Q')?;
                    outcome = outcome.with(Sent::Stored);
                    continue;
                }
            };
            let (store, name, node) = (store.clone(), self.config.node_name.clone(), self.node);
            sending.spawn(async move {
                let sent = send::send(&store, (&name, node), &batch, content).await;
                (batch, sent)
            });
        }
        while let Some(done) = sending.join_next().await {
            // A send that panicked is as unknown as one without an answer.
            let Ok((batch, sent)) = done else {
                outcome = outcome.with(Sent::Failed);
                continue;
            };
            outcome = outcome.with(self.settled(journal, (&batch, &store.url), sent)?);
        }
        Ok(outcome)
    }

    /// What became of a batch.
    fn settled(
        &self,
        journal: &mut Journal,
        (batch, url): (&Batch, &str),
        sent: Result<(), send::Refused>,
    ) -> std::io::Result<Sent> {
        match sent {
            Ok(()) => {
                journal.settle(batch, 'A')?;
                self.metrics
                    .shipped_rows
                    .inc_by(u64::from(batch.last + 1 - batch.first));
                self.metrics.last_ack_s.set(weir_clock::now().unix_s());
                Ok(Sent::Stored)
            }
            Err(send::Refused::Batch(code)) => {
                tracing::error!(
                    code, segment = ?batch.segment, number = batch.number,
                    "ClickHouse cannot take a batch: it is in quarantine, its facts stay in the \
                     spool"
                );
                self.metrics.quarantined.inc();
                journal.settle(batch, 'Q')?;
                Ok(Sent::Stored)
            }
            Err(send::Refused::Configuration(code)) => {
                tracing::error!(
                    code,
                    store = url,
                    "ClickHouse refuses our batches: check schema and rights"
                );
                Ok(Sent::Failed)
            }
            Err(send::Refused::Unknown(detail)) => {
                tracing::warn!(%detail, store = url, "a batch is not acknowledged; it is sent again");
                Ok(Sent::Failed)
            }
        }
    }
}

/// Batches that may be under way together: the oldest of each lane of each epoch, so that a lane arrives in order.
fn at_once(open: &[Batch]) -> Vec<Batch> {
    let mut lanes = BTreeSet::new();
    open.iter()
        .filter(|batch| lanes.insert((batch.segment.epoch, batch.segment.lane)))
        .take(AT_ONCE_MAX)
        .cloned()
        .collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Stored,
    Failed,
    Nothing,
}

impl Sent {
    /// Of several: one that failed has all of them wait.
    const fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Failed, _) | (_, Self::Failed) => Self::Failed,
            (Self::Stored, _) | (_, Self::Stored) => Self::Stored,
            (Self::Nothing, Self::Nothing) => Self::Nothing,
        }
    }
}

/// Sleeps, but not through a stop.
async fn pause(time: Duration, stop: &mut watch::Receiver<bool>) {
    if *stop.borrow() {
        tokio::time::sleep(time.min(LOOK_EVERY)).await;
        return;
    }
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        // The sender being gone means that the process ends anyway.
        _ = stop.changed() => {}
    }
}

#[cfg(test)]
mod tests {
    use weir_spool::SegmentId;

    use super::*;

    fn batch(lane: u16, segment: u32, number: u32) -> Batch {
        let mut id = SegmentId::unpack(1, 0);
        (id.lane, id.number) = (lane.into(), segment);
        Batch {
            segment: id,
            number,
            start: 0,
            end: 1,
            first: 1,
            last: 1,
            previous: String::new(),
            hash: String::new(),
        }
    }

    #[test]
    fn batches_of_one_lane_are_never_under_way_together() {
        let open = [
            batch(0, 1, 1),
            batch(0, 1, 2),
            batch(1, 1, 1),
            batch(0, 2, 1),
            batch(2, 5, 3),
        ];
        let chosen = at_once(&open);
        assert_eq!(chosen, [open[0].clone(), open[2].clone(), open[4].clone()]);
        let lanes: Vec<Batch> = (0..20).map(|lane| batch(lane, 1, 1)).collect();
        assert_eq!(at_once(&lanes), lanes[..AT_ONCE_MAX]);
        assert!(at_once(&[]).is_empty());
    }

    #[test]
    fn one_that_failed_has_all_of_them_wait() {
        let all = [Sent::Nothing, Sent::Stored, Sent::Failed, Sent::Stored];
        let sent = |count: usize| all[..count].iter().fold(Sent::Nothing, |a, b| a.with(*b));
        assert_eq!(sent(1), Sent::Nothing);
        assert_eq!(sent(2), Sent::Stored);
        assert_eq!(sent(4), Sent::Failed);
    }
}
