//! Counters of the relay; label values come from enums only.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use weir_govern::CloseReason;

/// Registered once per node, resolved once per flow.
#[derive(Clone)]
pub struct Metrics {
    pub(crate) flows_open: IntGauge,
    pub(crate) flows_accepted: IntCounter,
    pub(crate) flows_refused: IntCounterVec,
    pub(crate) flows_closed: IntCounterVec,
    pub(crate) flows_moved: IntCounterVec,
    pub(crate) facts: IntCounter,
    pub(crate) bytes_to_server: IntCounter,
    pub(crate) bytes_to_client: IntCounter,
    pub(crate) holds_open: IntGauge,
}

impl Metrics {
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
        let labelled = |name: &str, help: &str, label: &str| {
            let counter = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        Ok(Self {
            flows_open: gauge("weir_flows_open", "Flows that are open now")?,
            flows_accepted: counter("weir_flows_accepted_total", "Flows accepted with an origin")?,
            flows_refused: labelled(
                "weir_flows_refused_total",
                "Flows closed before a session began, by fault",
                "fault",
            )?,
            flows_closed: labelled(
                "weir_flows_closed_total",
                "Flows closed, by reason",
                "reason",
            )?,
            flows_moved: labelled(
                "weir_flows_moved_total",
                "Flows taken over from the node before this one, or given to the next",
                "direction",
            )?,
            facts: counter("weir_facts_total", "Facts put into the spool by flows")?,
            bytes_to_server: counter("weir_bytes_to_server_total", "Bytes written to servers")?,
            bytes_to_client: counter("weir_bytes_to_client_total", "Bytes written to agents")?,
            holds_open: gauge("weir_holds_open", "Requests that wait for a reviewer")?,
        })
    }

    pub(crate) fn closed(&self, reason: CloseReason) {
        self.flows_closed.with_label_values(&[reason.label()]).inc();
    }
}
