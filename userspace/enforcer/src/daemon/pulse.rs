//! The node's sign of life, by way of the broker or, while none is there, by its own hand.
//!
//! A thread of its own writes it, so that load does not make a live node look dead; it falls silent
//! when the control runtime hangs, on which every new flow depends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::{MissedTickBehavior, interval};
use weir_broker::client::{Beat, NodePulse};

/// The broker takes each for 500 ms.
const BEAT_EVERY: Duration = Duration::from_millis(100);
/// A control runtime that did nothing for this long hangs.
const HUNG_US: u64 = 2_000_000;

/// Beats for as long as the process lives and its control runtime turns.
pub(super) fn start(pulse: NodePulse) -> Result<()> {
    let turned = Arc::new(AtomicU64::new(weir_clock::now().mono_us));
    let turning = Arc::clone(&turned);
    drop(tokio::spawn(async move {
        let mut ticks = interval(BEAT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            turning.store(weir_clock::now().mono_us, Ordering::Relaxed);
        }
    }));
    std::thread::Builder::new()
        .name("weir-pulse".to_owned())
        .spawn(move || beat(&pulse, &turned))
        .context("the pulse thread")?;
    Ok(())
}

fn beat(pulse: &NodePulse, turned: &AtomicU64) {
    let mut by = Beat::Broker;
    loop {
        let since = turned.load(Ordering::Relaxed);
        let idle_us = weir_clock::now().mono_us.saturating_sub(since);
        if idle_us > HUNG_US {
            tracing::error!(
                idle_us,
                "the control runtime hangs: protected connects are refused"
            );
        } else {
            match pulse.beat() {
                Ok(now) if now == by => {}
                Ok(now) => {
                    tracing::info!(?now, before = ?by, "who tells the kernel that this node lives");
                    by = now;
                }
                Err(error) => tracing::error!(%error, "a sign of life was not taken"),
            }
        }
        std::thread::sleep(BEAT_EVERY);
    }
}
