//! The task that makes anchors and gives them to ClickHouse and to a witness, each at its own pace.

use std::collections::BTreeMap;
use std::fs::File;
use std::future::Future;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prometheus::{IntCounter, IntGauge, Registry};
use tokio::sync::watch;

use super::Anchor;
use super::outbox::Outbox;
use crate::StoreAddress;
use crate::directory::SpoolDir;
use crate::keys::KeyRing;

const BACK_OFF_MIN: Duration = Duration::from_millis(500);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// Of a witness that is asked by a call.
const WITNESS_TIME_MAX: Duration = Duration::from_secs(15);

type Posted = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// A second place that holds anchors, out of the reach of whoever holds the node and ClickHouse.
pub enum Witness {
    /// Lines are appended and synchronised.
    File(File),
    /// Takes lines of JSON; answers once they are kept.
    Post(Box<dyn Fn(Bytes) -> Posted + Send + Sync>),
}

/// What is given away, and where.
pub struct AnchorConfig {
    pub node_name: String,
    pub every: Duration,
    /// Replicas of one shard; none without ClickHouse.
    pub stores: Vec<StoreAddress>,
    pub witness: Option<Witness>,
}

/// Registered once per process.
#[derive(Clone)]
pub struct AnchorMetrics {
    store_s: IntGauge,
    witness_s: IntGauge,
    failures: IntCounter,
}

impl AnchorMetrics {
    /// # Errors
    /// A name is registered already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            store_s: IntGauge::new(
                "weir_anchor_last_timestamp_seconds",
                "When ClickHouse last took a signed anchor of the record; 0 before the first",
            )?,
            witness_s: IntGauge::new(
                "weir_witness_last_timestamp_seconds",
                "When the witness last took a signed anchor of the record; 0 before the first",
            )?,
            failures: IntCounter::new(
                "weir_anchor_failures_total",
                "Times that ClickHouse or the witness did not take an anchor; it is given again",
            )?,
        };
        registry.register(Box::new(metrics.store_s.clone()))?;
        registry.register(Box::new(metrics.witness_s.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        Ok(metrics)
    }
}

/// Makes anchors of what this process has written.
pub struct Anchoring {
    config: AnchorConfig,
    keys: Arc<KeyRing>,
    node: u128,
    metrics: AnchorMetrics,
}

impl Anchoring {
    #[must_use]
    pub fn new(config: AnchorConfig, spool: &SpoolDir, metrics: AnchorMetrics) -> Self {
        Self {
            config,
            keys: spool.keys(),
            node: spool.node(),
            metrics,
        }
    }

    /// Runs until `stop` turns true; then gives away what is left, once.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let (store, witness) = (Outbox::default(), Outbox::default());
        let Self {
            config,
            keys,
            node,
            metrics,
        } = self;
        let mut boxes = Vec::new();
        if !config.stores.is_empty() {
            boxes.push(&store);
        }
        if config.witness.is_some() {
            boxes.push(&witness);
        }
        let made = make(&config, (&keys, node), &boxes, stop.clone());
        let to_store = ToStore {
            stores: &config.stores,
            turn: Mutex::new(0),
        };
        let to_witness = config.witness.as_ref().map(ToWitness);
        let at_store = (&metrics.store_s, &metrics.failures);
        let at_witness = (&metrics.witness_s, &metrics.failures);
        tokio::join!(
            made,
            async {
                if !to_store.stores.is_empty() {
                    send(&store, &to_store, at_store, stop.clone()).await;
                }
            },
            async {
                if let Some(to_witness) = &to_witness {
                    send(&witness, to_witness, at_witness, stop.clone()).await;
                }
            }
        );
    }
}

async fn make(
    config: &AnchorConfig,
    (keys, node): (&KeyRing, u128),
    boxes: &[&Outbox],
    mut stop: watch::Receiver<bool>,
) {
    let mut given = BTreeMap::new();
    loop {
        let stopping = tokio::select! {
            () = tokio::time::sleep(config.every) => false,
            _ = stop.wait_for(|stop| *stop) => true,
        };
        let at_ms = weir_clock::now().wall_us.div_euclid(1000);
        let mut fresh = Vec::new();
        for head in keys.heads() {
            let place = (head.id.epoch, head.id.lane);
            if given.get(&place) == Some(&(head.id.number, head.count)) {
                continue;
            }
            given.insert(place, (head.id.number, head.count));
            fresh.push(Anchor::sign((&config.node_name, node), &head, at_ms));
        }
        for outbox in boxes {
            outbox.put(&fresh);
            // Also at the end: whoever waits there has to look once more.
            if stopping || !fresh.is_empty() {
                outbox.news.notify_one();
            }
        }
        if stopping {
            return;
        }
    }
}

/// One place that takes anchors.
trait Place {
    async fn give(&self, anchors: &[Anchor]) -> Result<(), String>;
}

async fn send(
    outbox: &Outbox,
    place: &impl Place,
    (last_s, failures): (&IntGauge, &IntCounter),
    mut stop: watch::Receiver<bool>,
) {
    let mut back_off = BACK_OFF_MIN;
    loop {
        outbox.news.notified().await;
        // What was made after this is sent in the next round.
        let mut stopping = *stop.borrow();
        loop {
            let anchors = outbox.take();
            if anchors.is_empty() {
                break;
            }
            match place.give(&anchors).await {
                Ok(()) => {
                    last_s.set(weir_clock::now().unix_s());
                    back_off = BACK_OFF_MIN;
                }
                Err(error) => {
                    tracing::warn!(
                        error,
                        "an anchor of the record was not taken; it is given again"
                    );
                    failures.inc();
                    outbox.put(&anchors);
                    if stopping {
                        return;
                    }
                    tokio::select! {
                        () = tokio::time::sleep(back_off) => {}
                        _ = stop.wait_for(|stop| *stop) => stopping = true,
                    }
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
            }
        }
        if stopping {
            return;
        }
    }
}

struct ToStore<'a> {
    stores: &'a [StoreAddress],
    /// Which replica is asked.
    turn: Mutex<usize>,
}

impl Place for ToStore<'_> {
    async fn give(&self, anchors: &[Anchor]) -> Result<(), String> {
        let turn = *self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(store) = self.stores.get(turn % self.stores.len().max(1)) else {
            return Ok(());
        };
        let given = crate::shipper::send_anchors(store, anchors).await;
        if given.is_err() {
            let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
            *turn = turn.wrapping_add(1);
        }
        given
    }
}

struct ToWitness<'a>(&'a Witness);

impl Place for ToWitness<'_> {
    async fn give(&self, anchors: &[Anchor]) -> Result<(), String> {
        let mut lines = Vec::new();
        for anchor in anchors {
            serde_json::to_writer(&mut lines, anchor).map_err(|error| error.to_string())?;
            lines.push(b'\n');
        }
        match self.0 {
            Witness::Post(post) => {
                let posted = tokio::time::timeout(WITNESS_TIME_MAX, post(lines.into()));
                posted.await.map_err(|_| "no answer in 15 s".to_owned())?
            }
            Witness::File(file) => {
                let mut file = file.try_clone().map_err(|error| error.to_string())?;
                // Another mount may hang, and with it would every task of this thread.
                let written = tokio::task::spawn_blocking(move || {
                    file.write_all(&lines).and_then(|()| file.sync_data())
                });
                let written = written.await.map_err(|error| error.to_string())?;
                written.map_err(|error| error.to_string())
            }
        }
    }
}
