//! Evidence on a process: what it executed, from whom it descends, where it runs. For the record,
//! never a key.
//!
//! The kernel's records come first, since they were made when it happened; `/proc` is asked for
//! what they do not hold, and believed only while it still speaks of the same process. What is not
//! known is left empty.

mod desk;
mod digest;
mod place;
mod process;
mod seed;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use weir_kernel::{Lineage, ProcessId, ProcessRecord};
use weir_model::flow::ProcessAsk;
use weir_model::limit::PARENTS_MAX;

pub(crate) use self::desk::Desk;
use self::digest::{Digests, Moment};
use self::place::{Cgroups, container_and_pod};
use self::process::NS_PER_TICK;
use self::seed::Seeds;
use crate::message::ProcessReport;

/// Ancestors whose root is looked through for the binary of a process that is gone.
const ROOTS_MAX: usize = 3;

/// Everything that is asked for evidence.
pub(crate) struct Evidence {
    lineage: Option<Lineage>,
    seeds: Seeds,
    digests: Digests,
    cgroups: Cgroups,
}

/// What a process executed.
#[derive(Default)]
struct Image {
    exe: String,
    exe_id: Option<(u64, u64)>,
    argv: Vec<String>,
    comm: String,
    parent: Link,
    /// Of the record it is from.
    since_ns: Option<u64>,
    lineage: &'static str,
}

/// A process on the way up; its start as exact as it is known.
#[derive(Clone, Copy, Default)]
struct Link {
    pid: u32,
    ticks: u64,
    exact_ns: Option<u64>,
    /// The descendant was there then.
    at_ns: u64,
}

impl Link {
    const fn of(id: ProcessId, at_ns: u64) -> Self {
        Self {
            pid: id.pid,
            ticks: id.start_boottime_ns / NS_PER_TICK,
            exact_ns: Some(id.start_boottime_ns),
            at_ns,
        }
    }

    fn id(&self) -> Option<ProcessId> {
        Some(ProcessId {
            pid: self.pid,
            start_boottime_ns: self.exact_ns?,
        })
    }
}

impl Evidence {
    /// `lineage` must see everything already; without it `/proc` is all there is. `mount` is that
    /// of cgroup v2, `governed` the paths below it.
    pub(crate) fn new(
        lineage: Option<Lineage>,
        mount: PathBuf,
        governed: &[String],
        now_ns: u64,
    ) -> Self {
        let seeds = lineage.as_ref().map(|_| Seeds::read()).unwrap_or_default();
        tracing::info!(
            processes = seeds.len(),
            lineage = lineage.is_some(),
            "processes that ran before"
        );
        Self {
            lineage,
            seeds,
            digests: Digests::new(now_ns),
            cgroups: Cgroups::new(mount, governed),
        }
    }

    /// `None` when nothing at all is known: no record, and the process is gone or another one.
    ///
    /// Parents are listed up to the agent's root process: those outside the governed subtree are
    /// whoever started it, not the agent.
    pub(crate) fn gather(&mut self, ask: &ProcessAsk, now_ns: u64) -> Option<ProcessReport> {
        let id = ProcessId {
            pid: ask.pid,
            start_boottime_ns: ask.start_boottime_ns,
        };
        let here = Link::of(id, ask.at_ktime_ns);
        let mut image = self.image(&here).or_else(|| looked_at(&here))?;
        let lives = process::lives(ask.pid, here.ticks);
        let opened = self.open(&here, &mut image);
        let exe_sha256 = opened.and_then(|mut file| {
            let now = Moment {
                monotonic_ns: now_ns,
                wall_s: weir_clock::now().unix_s(),
            };
            self.digests.of(&mut file, now)
        });
        let cgroup = self.cgroup(ask.cgroup_id, &here, now_ns);
        let (container, pod) = container_and_pod(&cgroup);
        let report = ProcessReport {
            pid: ask.pid,
            ppid: image.parent.pid,
            uid: process::uid(ask.pid).filter(|_| lives).unwrap_or(0),
            comm: image.comm,
            exe: image.exe,
            exe_id: image
                .exe_id
                .map(|(dev, ino)| format!("{dev}:{ino}"))
                .unwrap_or_default(),
            exe_sha256: exe_sha256.unwrap_or_default(),
            argv: image.argv,
            parents: self.parents(image.parent, now_ns),
            cgroup_path: cgroup,
            container,
            pod,
            netns_inode: if lives {
                process::netns_inode(ask.pid)
            } else {
                0
            },
            lineage: image.lineage.to_owned(),
        };
        // Whoever has its number now is not it: nothing that was read from `/proc` may stay.
        if lives && !process::lives(ask.pid, here.ticks) {
            return self.gather(ask, now_ns);
        }
        Some(report)
    }

    /// What a process had executed at that time, from the kernel's records or the start's look.
    fn image(&self, link: &Link) -> Option<Image> {
        let record = self.record(link);
        match record {
            Some(record) if !record.inherited => Some(from_record(record)),
            Some(record) => {
                let parent = Link::of(record.parent, record.since_ns);
                let (comm, since_ns) = (record.comm, Some(record.since_ns));
                let inherited = self.inherited(parent)?;
                Some(Image {
                    parent,
                    comm,
                    since_ns,
                    ..inherited
                })
            }
            None => self.seeded(link),
        }
    }

    fn record(&self, link: &Link) -> Option<ProcessRecord> {
        self.lineage.as_ref()?.image(link.id()?, link.at_ns)
    }

    /// A process that was there before the programs were.
    fn seeded(&self, link: &Link) -> Option<Image> {
        let seed = self.seeds.get(link.pid, link.ticks)?;
        Some(Image {
            exe: seed.exe.clone(),
            exe_id: seed.exe_id,
            argv: seed.argv.clone(),
            comm: seed.comm.clone(),
            parent: Link {
                pid: seed.ppid,
                ticks: seed.parent_ticks,
                exact_ns: None,
                at_ns: link.at_ns,
            },
            since_ns: None,
            lineage: "seed",
        })
    }

    /// Forked without an exec from one that was there before: the image is that one's.
    fn inherited(&self, mut from: Link) -> Option<Image> {
        for _ in 0..PARENTS_MAX {
            if let Some(image) = self.seeded(&from) {
                return Some(image);
            }
            let record = self.record(&from)?;
            if !record.inherited {
                return None;
            }
            from = Link::of(record.parent, record.since_ns);
        }
        None
    }

    /// Does the process live, and has it executed nothing since. What `/proc` says of it between
    /// two times that this is true is said of that image.
    fn is_current(&self, link: &Link, image: &Image) -> bool {
        let latest = link
            .id()
            .and_then(|id| self.lineage.as_ref()?.latest(id))
            .map(|record| record.since_ns);
        latest == image.since_ns && process::lives(link.pid, link.ticks)
    }

    /// The executable, opened as the very file that was executed; the path is then the file's.
    ///
    /// An inode is not asked for where the process itself is: over several file systems an
    /// overlay's files have other numbers for `stat` than in the kernel.
    fn open(&self, link: &Link, image: &mut Image) -> Option<File> {
        let expected = image.exe_id;
        let is_it = |file: &File| {
            let metadata = file.metadata().ok();
            metadata.is_some_and(|found| Some((found.dev(), found.ino())) == expected)
        };
        let living = File::open(process::exe_link(link.pid)).ok().filter(|file| {
            self.is_current(link, image) && (image.since_ns.is_some() || is_it(file))
        });
        let found = living.or_else(|| {
            let mut roots = vec![link.pid];
            let mut above = image.parent;
            for _ in 0..ROOTS_MAX {
                roots.push(above.pid);
                above = self.image(&above)?.parent;
            }
            roots.into_iter().find_map(|pid| {
                // Whoever has the number: the file must be the one that was executed anyway.
                open_below(&PathBuf::from(format!("/proc/{pid}/root")), &image.exe).filter(is_it)
            })
        })?;
        let named = std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd()));
        if let Ok(path) = named {
            image.exe = path.to_string_lossy().into_owned();
        }
        Some(found)
    }

    fn cgroup(&mut self, known: u64, link: &Link, now_ns: u64) -> String {
        let recorded = || self.record(link).map_or(0, |record| record.cgroup_id);
        let id = if known == 0 { recorded() } else { known };
        if let Some(path) = self.cgroups.path(id, now_ns) {
            return path.to_owned();
        }
        let path = process::cgroup(link.pid).unwrap_or_default();
        if process::lives(link.pid, link.ticks) {
            path
        } else {
            String::new()
        }
    }

    fn parents(&mut self, mut link: Link, now_ns: u64) -> Vec<String> {
        let mut chain = Vec::new();
        while link.pid > 1 && chain.len() < PARENTS_MAX {
            let Some(image) = self.image(&link).or_else(|| looked_at(&link)) else {
                break;
            };
            if !self.is_governed(&link, now_ns) {
                break;
            }
            let living = process::exe(link.pid);
            let same = if image.since_ns.is_some() {
                self.is_current(&link, &image)
            } else {
                image.exe_id.is_some()
                    && process::exe_id(link.pid) == image.exe_id
                    && process::lives(link.pid, link.ticks)
            };
            let name = match (same, image.exe.is_empty()) {
                (true, _) => living,
                (false, false) => image.exe,
                (false, true) => image.comm,
            };
            chain.push(format!("{} {name}", link.pid));
            link = image.parent;
        }
        chain
    }

    fn is_governed(&mut self, link: &Link, now_ns: u64) -> bool {
        if let Some(path) = process::cgroup(link.pid)
            && process::lives(link.pid, link.ticks)
        {
            return self.cgroups.is_governed(&path);
        }
        match self.record(link) {
            Some(record) => self.cgroups.path(record.cgroup_id, now_ns).is_some(),
            None => self
                .seeds
                .get(link.pid, link.ticks)
                .is_some_and(|seed| self.cgroups.is_governed(&seed.cgroup)),
        }
    }
}

fn from_record(record: ProcessRecord) -> Image {
    let mut argv: Vec<String> = record
        .argv
        .iter()
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    if record.argv_cut {
        argv.push("…".to_owned());
    }
    Image {
        exe: record.path,
        exe_id: record.exe,
        argv,
        comm: record.comm,
        parent: Link::of(record.parent, record.since_ns),
        since_ns: Some(record.since_ns),
        lineage: "kernel",
    }
}

/// From `/proc` alone, while it lives.
fn looked_at(link: &Link) -> Option<Image> {
    let before = process::stat(link.pid)?;
    let image = Image {
        exe: process::exe(link.pid),
        exe_id: process::exe_id(link.pid),
        argv: process::argv(link.pid),
        comm: before.comm,
        parent: Link {
            pid: before.ppid,
            ticks: process::stat(before.ppid).map_or(0, |stat| stat.start_ticks),
            exact_ns: None,
            at_ns: link.at_ns,
        },
        since_ns: None,
        lineage: "proc",
    };
    let same = before.start_ticks == link.ticks && process::lives(link.pid, link.ticks);
    same.then_some(image)
}

/// Opens a regular file by an absolute path of another root; its links stay within that root.
fn open_below(root: &Path, path: &str) -> Option<File> {
    let relative = path.strip_prefix('/')?;
    let directory = File::open(root).ok()?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = File::from(openat2(directory.as_fd(), relative, how).ok()?);
    file.metadata().ok()?.is_file().then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence() -> Evidence {
        Evidence::new(None, PathBuf::from("/sys/fs/cgroup"), &["/".to_owned()], 0)
    }

    #[test]
    fn this_process_is_found_by_its_start_and_no_other() {
        let pid = std::process::id();
        let start = process::stat(pid).unwrap().start_ticks * NS_PER_TICK;
        let ask = |pid, start_boottime_ns| ProcessAsk {
            pid,
            start_boottime_ns,
            at_ktime_ns: u64::MAX,
            cgroup_id: 0,
        };
        let mut evidence = evidence();
        let report = evidence.gather(&ask(pid, start), 0).unwrap();
        assert!(!report.exe.is_empty() && report.netns_inode > 0);
        assert_eq!(report.exe_sha256.len(), 64);
        assert_eq!(report.lineage, "proc");
        assert_eq!(
            report.argv.first().map(String::as_str),
            std::env::args().next().as_deref()
        );
        assert_eq!(evidence.gather(&ask(pid, start + NS_PER_TICK), 0), None);
        assert_eq!(evidence.gather(&ask(u32::MAX, start), 0), None);
    }

    #[test]
    fn a_path_of_another_root_does_not_leave_it() {
        let root = std::env::temp_dir().join(format!("weir-root-{}", std::process::id()));
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/inside"), b"x").unwrap();
        std::os::unix::fs::symlink("/etc/inside", root.join("link")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("out")).unwrap();
        let opens = |path| open_below(&root, path).is_some();
        assert!(opens("/etc/inside") && opens("/link"));
        assert!(!opens("/out") && !opens("/../etc/passwd") && !opens("etc/inside"));
        assert!(!opens("/etc"), "a folder is no executable");
        std::fs::remove_dir_all(root).unwrap();
    }
}
