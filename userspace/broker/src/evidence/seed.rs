//! Processes that ran before the lineage programs did.

use std::collections::HashMap;

use super::process;

/// Processes that are looked at.
const SEEDS_MAX: usize = 65_536;

/// One process as it was at the start. Its start is known in ticks only.
pub(super) struct Seed {
    pub(super) ppid: u32,
    pub(super) parent_ticks: u64,
    pub(super) exe: String,
    pub(super) exe_id: Option<(u64, u64)>,
    pub(super) argv: Vec<String>,
    pub(super) comm: String,
    pub(super) cgroup: String,
}

/// By number and start.
#[derive(Default)]
pub(super) struct Seeds(HashMap<(u32, u64), Seed>);

impl Seeds {
    /// Call once the programs see everything: what starts while this reads is in their maps, and
    /// they are asked first.
    pub(super) fn read() -> Self {
        let mut found = HashMap::new();
        for pid in process::all().into_iter().take(SEEDS_MAX) {
            if let Some((ticks, seed)) = look(pid) {
                found.insert((pid, ticks), seed);
            }
        }
        Self(found)
    }

    pub(super) fn get(&self, pid: u32, ticks: u64) -> Option<&Seed> {
        self.0.get(&(pid, ticks))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

fn look(pid: u32) -> Option<(u64, Seed)> {
    let before = process::stat(pid)?;
    let exe = process::exe(pid);
    if exe.is_empty() {
        // A thread of the kernel.
        return None;
    }
    let seed = Seed {
        ppid: before.ppid,
        parent_ticks: process::stat(before.ppid).map_or(0, |stat| stat.start_ticks),
        exe_id: process::exe_id(pid),
        exe,
        argv: process::argv(pid),
        comm: before.comm,
        cgroup: process::cgroup(pid).unwrap_or_default(),
    };
    // Neither it nor its parent is another one by now.
    let after = process::stat(pid)?;
    let same = after.start_ticks == before.start_ticks && after.ppid == seed.ppid;
    same.then_some((before.start_ticks, seed))
}
