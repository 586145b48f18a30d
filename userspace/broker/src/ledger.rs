//! The kernel's side of the ledger, read in an order that brackets the truth.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use weir_kernel::{ClassCounts, System};

use crate::listeners::Places;
use crate::message::{LedgerClass, LedgerReport};

/// `names` are the workloads by class, from 0.
pub(crate) fn read(system: &System, places: &Places, names: Vec<String>) -> LedgerReport {
    let all = || -> Vec<ClassCounts> {
        let classes = 0..u32::try_from(names.len()).unwrap_or(0);
        classes.map(|class| system.counts(class)).collect()
    };
    let early = all();
    let pending_early = system.pending();
    let seen = all();
    let queued = queued(places);
    let pending_late = system.pending();
    let late = all();
    let waiting = |pending: &BTreeMap<u32, u64>, class: usize| {
        let class = u32::try_from(class).unwrap_or(u32::MAX);
        pending.get(&class).copied().unwrap_or(0)
    };
    let ended = |counts: &ClassCounts| counts.abandoned + counts.expired + counts.lost;
    let mut classes = Vec::with_capacity(names.len());
    for (class, (workload, ((early, seen), late))) in names
        .iter()
        .zip(early.iter().zip(&seen).zip(&late))
        .enumerate()
    {
        classes.push(LedgerClass {
            workload: workload.clone(),
            redirected: seen.redirected,
            seen: seen.published + seen.missed,
            missed: seen.missed,
            accepted: [early.accepted, late.accepted],
            abandoned: [ended(early), ended(late)],
            pending: [
                waiting(&pending_early, class),
                waiting(&pending_late, class),
            ],
            queued: queued.get(workload.as_str()).copied().unwrap_or(0),
            refused: seen
                .refused
                .iter()
                .map(|(reason, count)| ((*reason).to_owned(), *count))
                .collect(),
            events_lost: seen.events_lost,
        });
    }
    LedgerReport {
        birth: system.birth(),
        classes,
    }
}

fn queued(places: &Places) -> BTreeMap<&str, u64> {
    let mut queued = BTreeMap::new();
    for place in places.by_id.values() {
        let waiting = place.sockets.iter().filter_map(|socket| {
            let length = weir_kernel::accept_queue(socket.fd.as_fd()).ok()?;
            Some(u64::from(length))
        });
        *queued.entry(place.workload.as_str()).or_default() += waiting.sum::<u64>();
    }
    queued
}
