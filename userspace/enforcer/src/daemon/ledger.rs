//! The interception ledger: every minute, what the kernel counted of connects to protected
//! destinations is compared with what was served, and both go into the record.
//!
//! seen = served + abandoned + in flight, each counted on its own: `seen` on the independent hook,
//! `abandoned` and what is under way by the kernel, `served` by this process when it accepts. What
//! does not add up is a difference.

mod reckoning;
mod taken;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts, Registry};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, timeout};
use weir_broker::client::NodeLink;
use weir_broker::{LedgerReport, RefusalReport};
use weir_model::fact::{Fact, FactContext, FactKind};
use weir_model::time::Now;
use weir_record::{FileSegment, SpoolDir};
use weir_spool::Lane;

use self::reckoning::{Line, Mark, Status, reckon};
pub(crate) use self::taken::Taken;
use crate::config::Config;

/// Looks before a difference is believed: a connect may be between two counters.
const LOOKS: u32 = 3;
const LOOK_AGAIN: Duration = Duration::from_millis(200);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
const EVERY_S: i64 = 60;
/// The kernel's ring holds some thousands; what it loses is counted.
const REFUSALS_EVERY: Duration = Duration::from_millis(500);

/// Who and where, for the rows.
struct Place {
    cluster: String,
    node: String,
    /// Holds the mark.
    directory: PathBuf,
}

/// The ledger before the node serves: counting, and writing nothing yet.
pub(crate) struct Books {
    taken: Arc<Taken>,
    ledger: Ledger,
}

/// The ledger of a serving node.
pub(crate) struct Kept {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Books {
    /// `directory` is the node's own.
    ///
    /// # Errors
    /// Its files cannot be made, or the spool is full.
    pub(crate) fn open(
        config: &Config,
        directory: &Path,
        spool: &SpoolDir,
        link: &Arc<NodeLink>,
        registry: &Registry,
    ) -> Result<Self> {
        let directory = directory.join("ledger");
        let names = config.workloads.iter();
        let names: Vec<String> = names.map(|workload| workload.name.to_string()).collect();
        let taken = Taken::open(&directory, spool.epoch(), &names)
            .context("opening the ledger's counts")?;
        let taken = Arc::new(taken);
        // A lane of its own, behind those of the workers.
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let index = u32::try_from(count).context("too many processors")?;
        let lane = spool
            .lane(index, weir_clock::now())
            .context("opening the ledger's lane")?;
        let ledger = Ledger {
            link: Arc::clone(link),
            taken: Arc::clone(&taken),
            lane,
            place: Place {
                cluster: config.node.cluster.clone(),
                node: config.node.name.clone(),
                directory,
            },
            mark: None,
            seq: 0,
            metrics: Metrics::register(registry).context("metrics")?,
        };
        Ok(Self { taken, ledger })
    }

    pub(crate) fn taken(&self) -> Arc<Taken> {
        Arc::clone(&self.taken)
    }

    /// The node serves: rows are written from here on.
    pub(crate) fn keep(self) -> Kept {
        let (stop, receiver) = watch::channel(false);
        Kept {
            stop,
            task: tokio::spawn(self.ledger.run(receiver)),
        }
    }
}

impl Kept {
    /// A successor's first row covers what has none yet.
    pub(crate) fn leave(self) {
        self.task.abort();
    }

    /// The last row, while the broker still answers and the record is still shipped.
    pub(crate) async fn close(self, within: Duration) {
        let _told = self.stop.send(true);
        if timeout(within, self.task).await.is_err() {
            tracing::warn!("the last row of the ledger comes with the next start");
        }
    }
}

/// The task's own things.
struct Ledger {
    link: Arc<NodeLink>,
    taken: Arc<Taken>,
    lane: Lane<FileSegment>,
    place: Place,
    mark: Option<Mark>,
    seq: u32,
    metrics: Metrics,
}

struct Metrics {
    difference: IntGaugeVec,
    last_row: IntGauge,
    events_lost: IntCounter,
}

impl Metrics {
    fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let options = Opts::new(
            "weir_ledger_difference",
            "Connects to protected destinations that are not accounted for",
        );
        let metrics = Self {
            difference: IntGaugeVec::new(options, &["workload"])?,
            last_row: IntGauge::new(
                "weir_ledger_last_row_seconds",
                "Unix time of the newest ledger row",
            )?,
            events_lost: IntCounter::new(
                "weir_ledger_events_lost_total",
                "Refusals that the kernel counted and could not report one by one",
            )?,
        };
        registry.register(Box::new(metrics.difference.clone()))?;
        registry.register(Box::new(metrics.last_row.clone()))?;
        registry.register(Box::new(metrics.events_lost.clone()))?;
        Ok(metrics)
    }
}

impl Ledger {
    /// Writes a row per workload each minute, and a last one when told to stop.
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        // Not before: until now another process may have written it.
        self.mark = Mark::read(&self.place.directory);
        let mut status = Status::Restart;
        loop {
            self.minute(status).await;
            status = Status::Minute;
            let now_s = weir_clock::now().unix_s();
            let wait = u64::try_from(EVERY_S - now_s.rem_euclid(EVERY_S)).unwrap_or(1);
            let next = Instant::now() + Duration::from_secs(wait);
            if self.refusals_until(next, &mut stop).await {
                break;
            }
        }
        self.minute(Status::Minute).await;
        if let Err(error) = self.lane.close(weir_clock::now()) {
            tracing::error!(%error, "the ledger's lane is not sealed");
        }
    }

    /// Records refusals as they come; true when told to stop.
    async fn refusals_until(&mut self, end: Instant, stop: &mut watch::Receiver<bool>) -> bool {
        while Instant::now() < end {
            tokio::select! {
                () = tokio::time::sleep(REFUSALS_EVERY.min(end - Instant::now())) => {}
                _ = stop.wait_for(|stop| *stop) => return true,
            }
            let (sender, receiver) = oneshot::channel();
            self.link.refusals(move |outcome| {
                let _gone = sender.send(outcome);
            });
            if let Ok(Ok(Ok(refusals))) = timeout(ANSWER_TIME_MAX, receiver).await
                && let Err(error) = self.record_refusals(refusals)
            {
                tracing::error!(%error, "refusals are not recorded");
            }
        }
        false
    }

    fn record_refusals(&mut self, refusals: Vec<RefusalReport>) -> Result<()> {
        if refusals.is_empty() {
            return Ok(());
        }
        let now = weir_clock::now();
        for refusal in refusals {
            let context = FactContext {
                pid: refusal.pid,
                uid: refusal.uid,
                comm: refusal.comm,
                cgroup_id: refusal.cgroup_id,
                server_addr: refusal.destination,
                ..self.context(&refusal.workload)
            };
            let mut fact = self.fact(context, FactKind::Error, now);
            "kernel_refused".clone_into(&mut fact.status);
            fact.reason = refusal.reason;
            self.lane.push(&fact)?;
        }
        self.lane.commit(now)?;
        Ok(())
    }

    fn context(&self, workload: &str) -> FactContext {
        FactContext {
            cluster: self.place.cluster.clone(),
            node: self.place.node.clone(),
            workload: workload.to_owned(),
            agent: workload.to_owned(),
            ..FactContext::default()
        }
    }

    fn fact(&mut self, context: FactContext, kind: FactKind, now: Now) -> Fact {
        self.seq = self.seq.wrapping_add(1);
        Fact::new(Arc::new(context), kind, self.seq, now.wall_us)
    }

    async fn minute(&mut self, status: Status) {
        let Some((mark, lines)) = self.look(status).await else {
            tracing::warn!("the broker does not answer: this minute's ledger comes with the next");
            return;
        };
        for line in &lines {
            self.metrics
                .difference
                .with_label_values(&[line.workload.as_str()])
                .set(line.total_difference);
            self.metrics.events_lost.inc_by(line.number("events_lost"));
            if line.difference != 0 {
                tracing::error!(
                    workload = line.workload,
                    difference = line.difference,
                    "connects to protected destinations are not accounted for"
                );
            }
        }
        if let Err(error) = self.record(&lines) {
            tracing::error!(%error, "the ledger is not recorded: it comes with the next minute");
            return;
        }
        self.metrics.last_row.set(weir_clock::now().unix_s());
        if let Err(error) = mark.write(&self.place.directory) {
            tracing::error!(%error, "the ledger's mark is not kept");
        }
        self.mark = Some(mark);
    }

    async fn look(&self, status: Status) -> Option<(Mark, Vec<Line>)> {
        // Which counters these are, before anything is compared with them.
        self.taken.begin(self.report().await?.birth);
        let mut last = None;
        for look in 0..LOOKS {
            if look > 0 {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            let before = self.taken.counts();
            let report = self.report().await?;
            let taken = [before, self.taken.counts()];
            let now_s = weir_clock::now().unix_s();
            let found = reckon(&report, &taken, self.mark.as_ref(), status, now_s);
            let adds_up = found.1.iter().all(|line| line.difference == 0);
            last = Some(found);
            if adds_up {
                break;
            }
        }
        last
    }

    async fn report(&self) -> Option<LedgerReport> {
        let (sender, receiver) = oneshot::channel();
        self.link.ledger(move |outcome| {
            // The asker may have given up.
            let _gone = sender.send(outcome);
        });
        match timeout(ANSWER_TIME_MAX, receiver).await {
            Ok(Ok(Ok(report))) => Some(report),
            Ok(_) | Err(_) => None,
        }
    }

    fn record(&mut self, lines: &[Line]) -> Result<()> {
        let now = weir_clock::now();
        for line in lines {
            let context = self.context(&line.workload);
            let mut fact = self.fact(context, FactKind::Ledger, now);
            line.status().clone_into(&mut fact.status);
            fact.labels = line.labels();
            self.lane.push(&fact)?;
        }
        self.lane.commit(now)?;
        Ok(())
    }
}

/// Numbers by name.
type Counts = BTreeMap<String, u64>;
