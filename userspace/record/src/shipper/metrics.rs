//! What operators watch of the spool and its way to ClickHouse.

use prometheus::{IntCounter, IntGauge, Registry};

/// Registered once per process.
#[derive(Clone)]
pub struct ShipperMetrics {
    open_batches: IntGauge,
    pub(super) shipped_rows: IntCounter,
    pub(super) retries: IntCounter,
    pub(super) quarantined: IntCounter,
    pub(super) file_errors: IntCounter,
    in_quarantine: IntGauge,
    behind_s: IntGauge,
    unshipped_bytes: IntGauge,
    store: IntGauge,
    spool_bytes: IntGauge,
    spool_limit_bytes: IntGauge,
    spool_refusals: IntCounter,
    pub(super) last_ack_s: IntGauge,
}

/// One look at spool and journal.
pub(super) struct Measured {
    pub(super) open: usize,
    pub(super) refused: usize,
    pub(super) behind_s: u64,
    pub(super) unshipped: u64,
    pub(super) used: u64,
    pub(super) limit: u64,
    /// Since the start.
    pub(super) refusals: u64,
    pub(super) store: usize,
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
                "Times a batch was put into quarantine; its facts stay in the spool",
            )?,
            file_errors: counter(
                "weir_shipper_file_errors_total",
                "Times the shipper could not use the spool's files",
            )?,
            in_quarantine: gauge(
                "weir_shipper_quarantine_batches",
                "Batches in quarantine now; tried again at each start",
            )?,
            behind_s: gauge(
                "weir_shipper_behind_seconds",
                "For how long some batch has been cut and not acknowledged",
            )?,
            unshipped_bytes: gauge(
                "weir_shipper_unshipped_bytes",
                "Bytes of the spool that ClickHouse has not acknowledged",
            )?,
            store: gauge(
                "weir_shipper_store",
                "Which of the configured addresses is used, from 0",
            )?,
            spool_bytes: gauge("weir_spool_bytes", "Bytes of all spool segments")?,
            spool_limit_bytes: gauge(
                "weir_spool_limit_bytes",
                "Bytes at which protected traffic stops",
            )?,
            spool_refusals: counter(
                "weir_spool_refusals_total",
                "Commits refused for want of room, by the limit or by the disk",
            )?,
            last_ack_s: gauge(
                "weir_shipper_last_ack_timestamp_seconds",
                "When ClickHouse last acknowledged a batch",
            )?,
        })
    }

    pub(super) fn measured(&self, now: &Measured) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.open_batches.set(count(now.open));
        self.in_quarantine.set(count(now.refused));
        self.store.set(count(now.store));
        self.behind_s.set(bytes(now.behind_s));
        self.unshipped_bytes.set(bytes(now.unshipped));
        self.spool_bytes.set(bytes(now.used));
        self.spool_limit_bytes.set(bytes(now.limit));
        let more = now.refusals.saturating_sub(self.spool_refusals.get());
        self.spool_refusals.inc_by(more);
    }
}
