//! One broker after another: never two at once, and what the one before wrote into the kernel is
//! gone on with if it was started with the same configuration.
//!
//! Otherwise a class could mean another workload now, so that a cgroup or namespace that was
//! classified by the other configuration would be governed by what it was never given.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weir_kernel::{ClassId, System};

use crate::config::{BrokerConfig, BrokerError, file};
use crate::serve::monotonic_ns;

/// A broker that was just killed holds its lock a little longer.
const ALONE_WITHIN_NS: u64 = 3_000_000_000;
const ALONE_TRY: std::time::Duration = std::time::Duration::from_millis(20);
/// What a node has to tell, it tells within this; after that it is gone.
const SETTLED_WITHIN_NS: u64 = 30_000_000_000;

/// Held for as long as this broker runs, by the pins that two of them would both write.
pub(crate) fn alone(pins: &Path) -> Result<File, BrokerError> {
    let directory = File::open(pins).map_err(|source| file(pins, source))?;
    let until = monotonic_ns() + ALONE_WITHIN_NS;
    loop {
        match directory.try_lock() {
            Ok(()) => return Ok(directory),
            Err(TryLockError::Error(source)) => return Err(file(pins, source)),
            Err(TryLockError::WouldBlock) if monotonic_ns() < until => {
                std::thread::sleep(ALONE_TRY);
            }
            Err(TryLockError::WouldBlock) => return Err(BrokerError::Another),
        }
    }
}

/// What is written down of the maps' meaning, in the run directory.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// Of the pinned maps.
    birth: u64,
    /// Of what gives classes and cgroups their meaning.
    meaning: String,
}

impl Note {
    fn of(config: &BrokerConfig, birth: u64) -> Self {
        let workloads: Vec<_> = config
            .workloads
            .iter()
            .map(|one| (&one.name, &one.members, &one.netns, &one.egress))
            .collect();
        let meaning = format!(
            "{:?}",
            (
                &config.own_cgroup,
                &config.governed,
                &config.exempt,
                &config.pods_root,
                &config.runtime_parents,
                workloads,
            )
        );
        let digest = Sha256::digest(meaning.as_bytes());
        Self {
            birth,
            meaning: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

/// A start, in view of what was before.
pub(crate) struct Takeover {
    path: PathBuf,
    birth: u64,
    same: bool,
}

impl Takeover {
    /// Call before anything is written into the maps. What cannot be vouched for is forgotten, and
    /// with it the note that vouched for it.
    pub(crate) fn begin(config: &BrokerConfig, system: &mut System) -> Result<Self, BrokerError> {
        let path = config.run_dir.join("broker.note");
        let birth = system.birth();
        let known: Option<Note> = fs::read(&path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let same = known.is_some_and(|known| known == Note::of(config, birth));
        if same {
            tracing::info!("going on with what the broker before this one knew");
        } else {
            match fs::remove_file(&path) {
                Ok(()) => tracing::warn!("another configuration than before: learning all anew"),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(file(&path, source)),
            }
            system.forget()?;
        }
        Ok(Self { path, birth, same })
    }

    /// What stands in the maps already, and is worth keeping.
    pub(crate) fn inherited(&self, system: &System, now_ns: u64) -> Option<Inherited> {
        let known = || {
            let mut known = Inherited::new(system.classed(), system.listening(), now_ns);
            known.hosts = system.host_listening();
            known
        };
        self.same.then(known)
    }

    /// Everything in the maps is by this configuration now.
    pub(crate) fn noted(&self, config: &BrokerConfig) -> Result<(), BrokerError> {
        if self.same {
            return Ok(());
        }
        let note = serde_json::to_vec(&Note::of(config, self.birth)).map_err(io::Error::other);
        let new = self.path.with_extension("new");
        note.and_then(|note| fs::write(&new, note))
            .and_then(|()| fs::rename(&new, &self.path))
            .map_err(|source| file(&self.path, source))
    }
}

/// What the broker before this one wrote, until it is known again or known to be over.
#[derive(Debug)]
pub(crate) struct Inherited {
    /// By cgroup.
    classes: BTreeMap<u64, ClassId>,
    /// By namespace's cookie.
    spaces: BTreeMap<u64, ClassId>,
    /// With listeners in the host's namespace.
    hosts: Vec<ClassId>,
    until_ns: u64,
}

impl Inherited {
    fn new(classes: Vec<(u64, ClassId)>, spaces: Vec<(u64, ClassId)>, now_ns: u64) -> Self {
        let spaces = spaces.into_iter();
        Self {
            classes: classes.into_iter().collect(),
            spaces: spaces
                .filter(|(_, class)| *class != ClassId::HOST)
                .collect(),
            hosts: Vec::new(),
            until_ns: now_ns + SETTLED_WITHIN_NS,
        }
    }

    /// `members`: every pod and container was told of.
    pub(crate) const fn is_settled(&self, members: bool, now_ns: u64) -> bool {
        members || now_ns >= self.until_ns
    }

    /// A namespace that another workload had is that one's, until it is known not to be there.
    pub(crate) fn is_anothers(&self, cookie: u64, class: ClassId) -> bool {
        self.spaces.get(&cookie).is_some_and(|of| *of != class)
    }

    /// Are there listeners of the broker before this one.
    pub(crate) fn has(&self, cookie: u64, class: ClassId, is_host: bool) -> bool {
        if is_host {
            self.hosts.contains(&class)
        } else {
            self.spaces.contains_key(&cookie)
        }
    }

    /// Adds the cgroups that nobody claims yet, but for those that only the configuration gives
    /// away: what it does not claim now is gone.
    pub(crate) fn complete(
        &self,
        wanted: &mut BTreeMap<u64, ClassId>,
        is_told: impl Fn(ClassId) -> bool,
    ) {
        for (cgroup, class) in &self.classes {
            if is_told(*class) {
                wanted.entry(*cgroup).or_insert(*class);
            }
        }
    }

    /// Namespaces that have not been found again.
    pub(crate) fn left(&self, found: impl Fn(u64) -> bool) -> Vec<u64> {
        let spaces = self.spaces.keys().copied();
        spaces.filter(|cookie| !found(*cookie)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Members, TokenSource, WorkloadConfig};

    const A: ClassId = ClassId(1);
    const B: ClassId = ClassId(2);

    fn inherited() -> Inherited {
        let classes = vec![(10, A), (11, B), (12, ClassId::EXEMPT), (13, ClassId::NONE)];
        let spaces = vec![(7, A), (8, B), (9, ClassId::HOST)];
        Inherited::new(classes, spaces, 5)
    }

    #[test]
    fn what_is_claimed_now_comes_before_what_was_known() {
        let mut wanted = BTreeMap::from([(10, ClassId::NONE), (20, A)]);
        inherited().complete(&mut wanted, |class| class != A);
        let expected = [
            (10, ClassId::NONE),
            (11, B),
            (12, ClassId::EXEMPT),
            (13, ClassId::NONE),
            (20, A),
        ];
        assert_eq!(wanted, BTreeMap::from(expected));
    }

    #[test]
    fn a_cgroup_of_the_configuration_that_is_gone_is_not_kept() {
        let mut wanted = BTreeMap::new();
        inherited().complete(&mut wanted, |class| class == B);
        assert_eq!(wanted, BTreeMap::from([(11, B)]));
    }

    #[test]
    fn a_namespace_stays_whose_it_was_and_stale_ones_are_named() {
        let inherited = inherited();
        assert!(inherited.is_anothers(7, B));
        assert!(!inherited.is_anothers(7, A));
        assert!(!inherited.is_anothers(6, A));
        assert_eq!(inherited.left(|cookie| cookie == 7), [8]);
    }

    #[test]
    fn it_is_over_once_all_was_told_or_after_a_while() {
        let inherited = inherited();
        assert!(inherited.is_settled(true, 6));
        assert!(!inherited.is_settled(false, SETTLED_WITHIN_NS + 4));
        assert!(inherited.is_settled(false, SETTLED_WITHIN_NS + 5));
    }

    #[test]
    fn another_meaning_of_a_class_is_another_note() {
        let workload = |name: &str| WorkloadConfig {
            name: name.to_owned(),
            members: Members::Cgroup(format!("/{name}")),
            netns: None,
            token: TokenSource::None,
            egress: None,
        };
        let config = BrokerConfig {
            node_uid: 1,
            run_dir: PathBuf::from("/run"),
            pins: PathBuf::from("/pins"),
            own_cgroup: "/own".to_owned(),
            governed: vec!["/governed".to_owned()],
            exempt: Vec::new(),
            pods_root: "/".to_owned(),
            kubelet_dir: PathBuf::from("/kubelet"),
            runtimes: Vec::new(),
            runtime_parents: Vec::new(),
            workloads: vec![workload("a"), workload("b")],
            destinations: Vec::new(),
            credentials: Vec::new(),
            found_targets: Vec::new(),
            guard_ms: 1,
        };
        let note = Note::of(&config, 1);
        assert_eq!(note, Note::of(&config.clone(), 1));
        assert_ne!(note, Note::of(&config, 2), "other maps");
        let changed = |change: fn(&mut BrokerConfig)| {
            let mut other = config.clone();
            change(&mut other);
            Note::of(&other, 1)
        };
        assert_ne!(note, changed(|config| config.workloads.reverse()));
        assert_ne!(note, changed(|config| drop(config.workloads.pop())));
        assert_ne!(note, changed(|config| config.exempt.push("/x".to_owned())));
        assert_ne!(note, changed(|config| config.governed.clear()));
        let docker = ("docker".to_owned(), Vec::new());
        let mut other = config.clone();
        other.runtime_parents.push(docker);
        assert_ne!(note, Note::of(&other, 1));
        // What is protected is written anew at every start.
        assert_eq!(note, changed(|config| config.guard_ms = 2));
    }
}
