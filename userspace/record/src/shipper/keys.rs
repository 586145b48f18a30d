//! Changes of the node's key, beside the batches: they wait for nothing, and nothing waits for them.

use super::{BACK_OFF_MAX, BACK_OFF_MIN, Shipper, Way, send};
use crate::journal::Journal;

/// When changes are sent again.
#[derive(Default)]
pub(super) struct Turn {
    not_before_us: u64,
    failures: u32,
}

impl Shipper {
    /// Sends what is not stored yet, when it is due.
    pub(super) async fn send_keys(
        &self,
        journal: &mut Journal,
        way: &mut Way,
    ) -> std::io::Result<()> {
        let now_us = weir_clock::now().mono_us;
        if self.keys.changed() <= journal.keys || now_us < way.keys.not_before_us {
            return Ok(());
        }
        let Some(store) = self.config.stores.get(way.store) else {
            return Ok(());
        };
        for change in self.keys.changes() {
            if change.number <= journal.keys {
                continue;
            }
            let from = (self.config.node_name.as_str(), self.node);
            if let Err(refused) = send::send_change(store, from, &change).await {
                tracing::warn!(
                    ?refused,
                    number = change.number,
                    "a change of the node's key is not stored; it is sent again"
                );
                self.metrics.retries.inc();
                way.keys.failures = way.keys.failures.saturating_add(1);
                let wait = BACK_OFF_MIN * 2_u32.saturating_pow(way.keys.failures.min(16));
                let wait_us = wait.min(BACK_OFF_MAX).as_micros();
                way.keys.not_before_us =
                    now_us.saturating_add(u64::try_from(wait_us).unwrap_or(u64::MAX));
                return Ok(());
            }
            journal.keys_stored(change.number)?;
        }
        way.keys = Turn::default();
        Ok(())
    }
}
