//! When to look at cgroups and namespaces, and what the node tells of the world.

use std::collections::HashMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::poll::PollTimeout;
use weir_kernel::{ClassId, Root};

use super::{Broker, REFUSALS_MAX, monotonic_ns};
use crate::cgroup;
use crate::config::{BrokerError, Members as Selector, file};
use crate::destinations::Told;
use crate::listeners::Scene;
use crate::message::{FromBroker, World};

/// Cgroups and devices say when they come; a process that changes its namespace does not.
const LOOK_EVERY_NS: u64 = 1_000_000_000;
/// Looks are at least this far apart, whatever a workload does to its cgroups.
const LOOK_APART_NS: u64 = 5_000_000;
/// Refusals that wait for the node; the oldest are dropped first, the counters are not.
const REFUSALS_WAITING_MAX: usize = 4096;
/// The kernel's reason of a connect in a namespace without listeners.
const NO_LISTENER: &str = "no_listener";

fn root_of((id, directory): &(u64, fs::File)) -> Root<'_> {
    Root {
        id: *id,
        directory: directory.as_fd(),
    }
}

impl Broker {
    /// Until the next look, when nothing more is said.
    pub(super) fn patience_ns(&self, now: u64) -> u64 {
        let apart = if self.due || self.arrivals.are_awaited() {
            LOOK_APART_NS
        } else {
            LOOK_EVERY_NS
        };
        (self.looked_ns + apart).saturating_sub(now)
    }

    pub(super) fn patience(&self) -> PollTimeout {
        // Up to the next millisecond: a look is then due.
        let ms = self.patience_ns(monotonic_ns()).div_ceil(1_000_000);
        PollTimeout::from(u16::try_from(ms).unwrap_or(u16::MAX))
    }

    /// A governed process that found no listener may be in a namespace that nobody has seen.
    pub(super) fn take_refusals(&mut self) {
        for refusal in self.system.refusals(REFUSALS_MAX) {
            self.due |= refusal.reason == NO_LISTENER;
            if self.refusals.len() >= REFUSALS_WAITING_MAX {
                self.refusals.pop_front();
            }
            self.refusals.push_back(refusal);
        }
    }

    /// Attaches to the roots, which are made when they are not there: whoever comes into one that
    /// was removed and made again finds it governed.
    pub(super) fn attach(&mut self) -> Result<(), BrokerError> {
        let open = |path: &Path| fs::File::open(path).map_err(|source| file(path, source));
        let mut directories = Vec::new();
        for path in &self.config.governed {
            let path = cgroup::directory(&self.mount, path);
            directories.push((cgroup::ensure(&path)?, open(&path)?));
        }
        let ids: Vec<u64> = directories.iter().map(|(id, _)| *id).collect();
        if ids == self.attached {
            return Ok(());
        }
        let own = (cgroup::id(&self.own_cgroup)?, open(&self.own_cgroup)?);
        let roots: Vec<Root<'_>> = directories.iter().map(root_of).collect();
        self.system.attach(&roots, &root_of(&own))?;
        self.attached = ids;
        Ok(())
    }

    /// What goes wrong is said and tried again with the next look; what is guarded stays so.
    pub(super) fn look(&mut self) {
        let now_ns = monotonic_ns();
        let thorough = now_ns.saturating_sub(self.thorough_ns) >= LOOK_EVERY_NS;
        self.watch.drain();
        if let Err(error) = self.attach() {
            tracing::error!(%error, "a governed root is not guarded");
        }
        let scene = Scene {
            config: &self.config,
            members: &self.members,
            now_ns,
            thorough,
        };
        let changes = self.places.look(&scene, &mut self.system);
        // What was made while we looked is seen by the next look.
        let directories = self.directories();
        self.due = self.watch.follow(&directories);
        let (places, cgroups, mount) = (&self.places, &self.cgroups, &self.mount);
        let is_served = |id| {
            let path = cgroups
                .get(&id)
                .map(|below| cgroup::directory(mount, below));
            path.is_some_and(|path| places.serves(&path))
        };
        self.arrivals.settle(now_ns, is_served);
        // Looks that take long leave time for the rest.
        self.looked_ns = monotonic_ns();
        if thorough {
            self.thorough_ns = now_ns;
        }
        for (workload, netns) in changes.removed {
            let gone = FromBroker::ListenerGone { workload, netns };
            for node in self.nodes.accepting() {
                self.tell(node, &gone, &[]);
            }
        }
        for id in changes.added {
            for node in self.nodes.accepting() {
                self.tell_listeners(node, id);
            }
        }
        for (id, new) in changes.grown {
            for node in self.nodes.accepting() {
                self.tell_last_listeners(node, id, new);
            }
        }
    }

    /// Every governed cgroup, which are kept by their ids as well, and what the roots lie in.
    fn directories(&mut self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut cgroups = HashMap::new();
        for path in &self.config.governed {
            let root = cgroup::directory(&self.mount, path);
            found.extend(root.parent().map(Path::to_owned));
            for (id, directory) in cgroup::tree(&root, |_| true) {
                if let Ok(below) = directory.strip_prefix(&self.mount) {
                    cgroups.insert(id, format!("/{}", below.display()));
                }
                found.push(directory);
            }
        }
        self.arrivals.note(&self.cgroups, &cgroups, monotonic_ns());
        self.cgroups = cgroups;
        found
    }

    /// Members stand in the kernel's maps with the next look.
    pub(super) fn told(&mut self, world: World) -> Result<(), String> {
        match world {
            World::Member(report) => {
                let class = report.workload.as_deref();
                let class = class.and_then(|name| self.told_class(name));
                let put = self.members.put(&report, class, self.config.roots());
                put.map_err(|error| error.to_string())?;
            }
            World::MemberGone { id } => self.members.remove(&id),
            World::MembersComplete => {
                self.members.complete();
                self.look();
                return Ok(());
            }
            World::Target {
                name,
                found,
                complete,
            } => {
                let told = Told { found, complete };
                let set = self.destinations.set_target(&name, told, &mut self.system);
                return set.map_err(|error| error.to_string());
            }
            World::Allowed {
                workload,
                found,
                complete,
            } => {
                let class = self.class_of(&workload).unwrap_or(ClassId::NONE);
                let (told, of) = (Told { found, complete }, (class.0, workload.as_str()));
                let set = self.destinations.set_allowed(of, told, &mut self.system);
                return set.map_err(|error| error.to_string());
            }
        }
        self.due = true;
        Ok(())
    }

    pub(super) fn class_of(&self, name: &str) -> Option<ClassId> {
        let mut all = (1..).map(ClassId).zip(&self.config.workloads);
        all.find(|(_, workload)| workload.name == name)
            .map(|(class, _)| class)
    }

    /// Of a workload whose members the node tells of, and no other: a cgroup of the configuration
    /// is nobody's to give away.
    fn told_class(&self, name: &str) -> Option<ClassId> {
        let mut workloads = self.config.workloads.iter();
        let told = workloads.any(|one| one.name == name && one.members == Selector::Told);
        self.class_of(name).filter(|_| told)
    }
}
