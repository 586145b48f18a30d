//! Ships batches to ClickHouse, exactly once.
//!
//! Rules (ClickHouse's insert deduplication): a batch's rows, order and token are fixed on disk
//! before the first send; a retry is the same bytes with the same token; only a 200 with its body
//! read to the end is an acknowledgement, anything else is unknown and retried.

mod send;
mod tail;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus::{IntCounter, IntGauge, Registry};
use tokio::sync::watch;

use crate::StoreAddress;
use crate::directory::{SpoolDir, Usage, live_epochs, segments};
use crate::journal::{Batch, Journal};

/// How batches are cut and sent.
#[derive(Clone, Debug)]
pub struct ShipperConfig {
    pub store: StoreAddress,
    pub node_name: String,
    /// Rows after which a batch is cut.
    pub rows_max: u32,
    /// Age after which one is cut anyway.
    pub age: Duration,
    /// Acknowledged segments are kept for `weir audit verify` until the spool is this full.
    pub keep_bytes: u64,
}

/// What operators watch.
#[derive(Clone)]
pub struct ShipperMetrics {
    open_batches: IntGauge,
    shipped_rows: IntCounter,
    retries: IntCounter,
    quarantined: IntCounter,
    spool_bytes: IntGauge,
    last_ack_s: IntGauge,
}

impl ShipperMetrics {
    /// # Errors
    /// A name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok::<_, prometheus::Error>(gauge)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            open_batches: gauge(
                "weir_shipper_open_batches",
                "Batches cut and not acknowledged",
            )?,
            shipped_rows: counter(
                "weir_shipper_rows_total",
                "Facts acknowledged by ClickHouse",
            )?,
            retries: counter(
                "weir_shipper_retries_total",
                "Sends that had to be repeated",
            )?,
            quarantined: counter(
                "weir_shipper_quarantined_total",
                "Batches that ClickHouse cannot take; they stay in the spool",
            )?,
            spool_bytes: gauge("weir_spool_bytes", "Bytes of all spool segments")?,
            last_ack_s: gauge(
                "weir_shipper_last_ack_timestamp_seconds",
                "When ClickHouse last acknowledged a batch",
            )?,
        })
    }
}

/// The one task that reads the spool and sends.
pub struct Shipper {
    config: ShipperConfig,
    directory: PathBuf,
    node: u128,
    epoch: u32,
    used: Arc<Usage>,
    metrics: ShipperMetrics,
}

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const BACK_OFF_MIN: Duration = Duration::from_millis(200);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

impl Shipper {
    #[must_use]
    pub fn new(config: ShipperConfig, spool: &SpoolDir, metrics: ShipperMetrics) -> Self {
        Self {
            config,
            directory: spool.directory().to_owned(),
            node: spool.node(),
            epoch: spool.epoch(),
            used: spool.used(),
            metrics,
        }
    }

    /// Runs until `stop` turns true; then cuts and tries to send what is left, once. One process
    /// ships at a time: a second one waits here until the first is gone.
    ///
    /// # Errors
    /// The journal or the spool's files cannot be used. ClickHouse being away is no error.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> std::io::Result<()> {
        let path = self.directory.join("batches");
        let mut journal = loop {
            if let Some(journal) = Journal::open(&path)? {
                break journal;
            }
            if *stop.borrow() {
                return Ok(());
            }
            pause(LOOK_EVERY, &mut stop).await;
        };
        let mut tails = tail::Tails::default();
        let mut back_off = BACK_OFF_MIN;
        loop {
            let stopping = *stop.borrow();
            let cut = self.cut(&mut journal, &mut tails, stopping)?;
            self.metrics
                .open_batches
                .set(i64::try_from(journal.open.len()).unwrap_or(i64::MAX));
            self.used
                .look(&self.directory, self.epoch)
                .map_err(std::io::Error::other)?;
            self.gauge_bytes();
            let sent = match journal.open.first().cloned() {
                Some(batch) => self.send(&mut journal, &batch).await?,
                None => Sent::Nothing,
            };
            self.free(&journal)?;
            match sent {
                Sent::Stored => {
                    back_off = BACK_OFF_MIN;
                    continue;
                }
                Sent::Failed if stopping => return Ok(()),
                Sent::Nothing if stopping && !cut => return Ok(()),
                Sent::Failed => {
                    self.metrics.retries.inc();
                    pause(back_off, &mut stop).await;
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
                Sent::Nothing => pause(LOOK_EVERY, &mut stop).await,
            }
        }
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

    async fn send(&self, journal: &mut Journal, batch: &Batch) -> std::io::Result<Sent> {
        let content = match tail::content(&self.directory, batch)? {
            Ok(content) => content,
            Err(tail::Damaged(why)) => {
                tracing::error!(
                    why, segment = ?batch.segment, number = batch.number,
                    "a batch in the spool is damaged: it is in quarantine, see weir audit verify"
                );
                self.metrics.quarantined.inc();
                journal.settle(batch, 'Q')?;
                return Ok(Sent::Stored);
            }
        };
        let outcome = send::send(&self.config, self.node, batch, content).await;
        match outcome {
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
                    "ClickHouse refuses our batches: check schema and rights"
                );
                Ok(Sent::Failed)
            }
            Err(send::Refused::Unknown(detail)) => {
                tracing::warn!(%detail, "a batch is not acknowledged; it is sent again");
                Ok(Sent::Failed)
            }
        }
    }

    fn gauge_bytes(&self) {
        let bytes = self.used.bytes();
        self.metrics
            .spool_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Removes the oldest acknowledged segments of earlier epochs or sealed ones, once more than
    /// `keep_bytes` are used.
    fn free(&self, journal: &Journal) -> std::io::Result<()> {
        if self.used.bytes() <= self.config.keep_bytes {
            return Ok(());
        }
        let all = segments(&self.directory).map_err(std::io::Error::other)?;
        let live = live_epochs(&self.directory).map_err(std::io::Error::other)?;
        for segment in &all {
            if self.used.bytes() <= self.config.keep_bytes {
                break;
            }
            let newer = all.iter().any(|other| {
                other.id.epoch == segment.id.epoch
                    && other.id.lane == segment.id.lane
                    && other.id.number > segment.id.number
            });
            let finished = newer || !live.contains(&segment.id.epoch);
            let open = journal.open.iter().any(|batch| batch.segment == segment.id);
            let length = std::fs::metadata(&segment.path)?.len();
            let cut = journal
                .progress
                .get(&segment.id)
                .map_or(0, |progress| progress.end);
            let refused = journal.quarantined.contains(&segment.id);
            if finished && !open && !refused && cut >= length {
                std::fs::remove_file(&segment.path)?;
                self.used.freed(segment.id.epoch == self.epoch, length);
                tracing::info!(path = %segment.path.display(), "freed a shipped segment");
            }
        }
        Ok(())
    }
}

enum Sent {
    Stored,
    Failed,
    Nothing,
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
