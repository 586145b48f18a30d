//! Workloads, their namespaces, and the listeners in them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use weir_kernel::{ClassId, KernelError, ListenerEntry, System};

use crate::cgroup;
use crate::config::{BrokerConfig, BrokerError, Members as Selector, WorkloadConfig};
use crate::members::{Members, settle};
use crate::namespace::{
    Device, Listening, Namespace, devices_here, drain_links, links_here, listen_for, listen_here,
    listen_loopback,
};
use crate::takeover::Inherited;

/// Namespaces of one workload; a workload with more is not one that was thought of.
const NAMESPACES_MAX: usize = 256;

/// Bytes of an Ethernet header.
const ETHERNET_BYTES: u32 = 14;

/// Key of the pinned links of the host's devices.
const HOST_KEY: &str = "host";

/// One listening socket.
pub(crate) struct Socket {
    pub(crate) fd: OwnedFd,
    pub(crate) addr: SocketAddr,
}

/// One namespace that is being served; the host's once for each workload in it.
pub(crate) struct Place {
    pub(crate) workload: String,
    pub(crate) cookie: u64,
    pub(crate) sockets: Vec<Socket>,
    /// As the kernel knows it, or will.
    entry: ListenerEntry,
    /// Until a node has them, connects go to the listeners that the node has of the broker before
    /// this one: these would be lost if we ended now.
    waits: bool,
    seen_ns: u64,
}

impl Place {
    /// Families without an address when it was last looked at.
    const fn lacks(&self) -> (bool, bool) {
        (self.entry.v4.is_none(), self.entry.v6.is_none())
    }

    /// A container's network may come after its first process, and IPv6 after IPv4. The number of
    /// listeners that are new.
    fn grow(&mut self, namespace: &Namespace, system: &mut System) -> Result<usize, BrokerError> {
        let failed = |source| crate::config::system("listening in a namespace", source);
        let lacks = self.lacks();
        let Listening { v4, v6 } = namespace.visit(move || listen_for(lacks)).map_err(failed)?;
        let before = self.sockets.len();
        if let Some((fd, addr, own)) = v4 {
            self.entry.v4 = Some((own, addr.port()));
            self.sockets.push(Socket { fd, addr });
        }
        if let Some((fd, addr, own)) = v6 {
            self.entry.v6 = Some((own, addr.port()));
            self.sockets.push(Socket { fd, addr });
        }
        let new = self.sockets.len() - before;
        if new > 0 {
            if !self.waits {
                system.set_listeners(self.cookie, &self.entry)?;
            }
            tracing::info!(workload = %self.workload, entry = ?self.entry, "more addresses to listen at");
        }
        Ok(new)
    }
}

/// A namespace whose devices are guarded.
struct Guarded {
    namespace: Namespace,
    cookie: u64,
    /// Of its pinned links.
    key: String,
    class: ClassId,
    devices: BTreeSet<u32>,
    /// When listeners were last opened in it, or tried to be.
    tried_ns: u64,
    /// Says when a device comes; without it devices are looked for now and then.
    links: Option<OwnedFd>,
}

/// A place is one class in one namespace (by inode); only the host's has several.
pub(crate) type PlaceId = (u64, ClassId);

/// All of them.
pub(crate) struct Places {
    mount: PathBuf,
    host: Namespace,
    host_cookie: u64,
    pub(crate) by_id: BTreeMap<PlaceId, Place>,
    guarded: BTreeMap<u64, Guarded>,
    /// As last written to the kernel's map.
    classes: BTreeMap<u64, ClassId>,
    /// Claims that differ, said once.
    disputed: BTreeSet<u64>,
    /// Of the broker before this one.
    inherited: Option<Inherited>,
}

/// What changed in one look.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) added: Vec<PlaceId>,
    /// And how many of its last listeners are new.
    pub(crate) grown: Vec<(PlaceId, usize)>,
    /// Workload and cookie.
    pub(crate) removed: Vec<(String, u64)>,
}

/// What a look needs to know.
pub(crate) struct Scene<'a> {
    pub(crate) config: &'a BrokerConfig,
    pub(crate) members: &'a Members,
    pub(crate) now_ns: u64,
    /// Devices as well, of every namespace.
    pub(crate) thorough: bool,
}

impl Places {
    pub(crate) fn new(
        mount: PathBuf,
        system: &mut System,
        inherited: Option<Inherited>,
    ) -> Result<Self, BrokerError> {
        let own = |source| crate::config::system("our own namespace", source);
        let host = Namespace::open(Path::new("/proc/self/ns/net")).map_err(own)?;
        let host_cookie = crate::namespace::cookie_here().map_err(own)?;
        system.set_host_namespace(host_cookie)?;
        Ok(Self {
            mount,
            host,
            host_cookie,
            by_id: BTreeMap::new(),
            guarded: BTreeMap::new(),
            classes: system.classed().into_iter().collect(),
            disputed: BTreeSet::new(),
            inherited,
        })
    }

    /// Looks for new and gone cgroups and namespaces. Errors of one workload do not stop another:
    /// its protected connects stay refused, and the next look tries again.
    pub(crate) fn look(&mut self, scene: &Scene<'_>, system: &mut System) -> Changes {
        let mut changes = Changes::default();
        let told = scene.members.are_told();
        let over = |inherited: &mut Inherited| inherited.is_settled(told, scene.now_ns);
        let settled = self.inherited.take_if(over);
        // Classes first: until a cgroup has one it is nobody's, which is refused.
        self.classify(scene, system);
        for (class, workload) in classes(&scene.config.workloads) {
            for namespace in self.namespaces(workload, class, scene) {
                let id = (namespace.inode, class);
                if let Some(place) = self.place_of(id) {
                    place.seen_ns = scene.now_ns;
                    continue;
                }
                let served = self.serve(workload, (class, scene.now_ns), namespace, system);
                match served {
                    Ok(Some(place)) => {
                        changes.added.push(id);
                        self.by_id.insert(id, place);
                    }
                    Ok(None) => {}
                    Err(error) => tracing::error!(
                        workload = %workload.name, %error,
                        "no listener in this namespace: its protected connects are refused"
                    ),
                }
            }
        }
        if let Some(inherited) = settled {
            self.let_go(&inherited, system);
        }
        self.forget(scene, system, &mut changes);
        for (inode, guarded) in &mut self.guarded {
            let told = guarded.links.as_ref().is_some_and(drain_links);
            if told || scene.thorough {
                guarded.watch_devices(system);
                let places = self.by_id.range_mut(all_in(*inode));
                // The host's are on loopback, which is there.
                for (id, place) in places.filter(|_| *inode != self.host.inode) {
                    if place.lacks() == (false, false) {
                        continue;
                    }
                    match place.grow(&guarded.namespace, system) {
                        Ok(0) => {}
                        // What is new as a whole is told as a whole.
                        Ok(_) if changes.added.contains(id) => {}
                        Ok(new) => changes.grown.push((*id, new)),
                        Err(error) => tracing::error!(
                            workload = %place.workload, %error,
                            "no listener at a new address: protected connects to it are refused"
                        ),
                    }
                }
            }
        }
        changes
    }

    /// A namespace is one workload's: the first that was seen in it. The kernel refuses the others'
    /// connects there. The host's is shared.
    fn place_of(&mut self, (inode, class): PlaceId) -> Option<&mut Place> {
        if inode == self.host.inode {
            return self.by_id.get_mut(&(inode, class));
        }
        let mut all = self.by_id.range_mut(all_in(inode));
        all.next().map(|(_, place)| place)
    }

    /// What the broker before this one served and nobody found again: its listeners are gone or
    /// about to be.
    fn let_go(&self, inherited: &Inherited, system: &mut System) {
        let found = |cookie| self.by_id.values().any(|place| place.cookie == cookie);
        for cookie in inherited.left(found) {
            tracing::info!(cookie, "a namespace was not found again");
            system.remove_listeners(cookie);
        }
        for class in system.host_listening() {
            if !self.by_id.contains_key(&(self.host.inode, class)) {
                system.remove_host_listeners(class);
            }
        }
    }

    fn forget(&mut self, scene: &Scene<'_>, system: &mut System, changes: &mut Changes) {
        let unseen_max = scene.config.guard_ms * 1_000_000;
        let gone: Vec<PlaceId> = self
            .by_id
            .iter()
            .filter(|(_, place)| scene.now_ns.saturating_sub(place.seen_ns) > unseen_max)
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            let Some(place) = self.by_id.remove(&id) else {
                continue;
            };
            let (inode, class) = id;
            if inode == self.host.inode {
                system.remove_host_listeners(class);
            } else {
                system.remove_listeners(place.cookie);
            }
            tracing::info!(workload = %place.workload, "a namespace is gone");
            changes.removed.push((place.workload, place.cookie));
        }
        // The host's devices stay guarded while another workload is there.
        let by_id = &self.by_id;
        self.guarded.retain(|inode, guarded| {
            let used = by_id.keys().any(|(other, _)| other == inode);
            let keep = used || scene.now_ns.saturating_sub(guarded.tried_ns) <= unseen_max;
            if !keep {
                guarded.leave(system);
            }
            keep
        });
        if scene.thorough || !changes.removed.is_empty() {
            let keys: BTreeSet<&str> = self.guarded.values().map(|one| one.key.as_str()).collect();
            if let Err(error) = system.sweep_devices(|key| keys.contains(key)) {
                tracing::warn!(%error, "links of gone devices stay until uninstall");
            }
        }
    }

    /// Writes the class of every claimed cgroup that is there, and forgets the others.
    fn classify(&mut self, scene: &Scene<'_>, system: &mut System) {
        let (mut wanted, disputed) = settle(self.claims(scene));
        if let Some(inherited) = &self.inherited {
            let workloads = &scene.config.workloads;
            inherited.complete(&mut wanted, |class| is_told(workloads, class));
        }
        for cgroup in disputed.difference(&self.disputed) {
            tracing::error!(
                cgroup,
                "two claim this cgroup differently: its protected connects are refused"
            );
        }
        self.disputed = disputed;
        // Of gone cgroups first: the map has room for so many.
        for cgroup in self.classes.keys().filter(|id| !wanted.contains_key(id)) {
            system.remove_class(*cgroup);
        }
        for (cgroup, class) in &wanted {
            if self.classes.get(cgroup) == Some(class) {
                continue;
            }
            if let Err(error) = system.set_class(*cgroup, *class) {
                tracing::error!(cgroup, %error, "a cgroup is not registered: nobody's, so refused");
            }
            // Its first device will not have to wait.
            let warm = (1..=ClassId::WORKLOAD_MAX).contains(&class.0);
            if warm && let Err(error) = system.warm_device(*class, ETHERNET_BYTES) {
                tracing::error!(%error, "the program for devices cannot be loaded");
            }
        }
        self.classes = wanted;
    }

    /// Cgroup ids and classes, of those that are there. A root that a workload claims is the
    /// workload's.
    fn claims(&self, scene: &Scene<'_>) -> Vec<(u64, ClassId)> {
        let config = scene.config;
        let mut claims = Vec::new();
        let mut claim = |path: &str, class: ClassId| {
            // A cgroup that does not exist yet is looked for again.
            if let Ok(id) = cgroup::id(&cgroup::directory(&self.mount, path)) {
                claims.push((id, class));
            }
        };
        for (class, workload) in classes(&config.workloads) {
            if let Selector::Cgroup(path) = &workload.members {
                claim(path, class);
            }
        }
        for path in &config.exempt {
            claim(path, ClassId::EXEMPT);
        }
        for (path, class) in scene.members.claims() {
            claim(path, class);
        }
        let claimed: BTreeSet<u64> = claims.iter().map(|(id, _)| *id).collect();
        for path in &config.governed {
            let id = cgroup::id(&cgroup::directory(&self.mount, path));
            if let Some(id) = id.ok().filter(|id| !claimed.contains(id)) {
                claims.push((id, ClassId::NONE));
            }
        }
        claims
    }

    fn namespaces(
        &self,
        workload: &WorkloadConfig,
        class: ClassId,
        scene: &Scene<'_>,
    ) -> Vec<Namespace> {
        if let Some(path) = &workload.netns {
            return Namespace::open(path).into_iter().collect();
        }
        let mut directories = Vec::new();
        match &workload.members {
            Selector::Cgroup(path) => directories.push(path.clone()),
            Selector::Told => {
                let told = scene.members.claims().filter(|(_, of)| *of == class);
                directories.extend(told.map(|(path, _)| path.to_owned()));
            }
        }
        let mut found: BTreeMap<u64, Namespace> = BTreeMap::new();
        for directory in directories {
            let directory = cgroup::directory(&self.mount, &directory);
            for pid in cgroup::processes(&directory, |id| self.is_of(id, class)) {
                let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
                if let Ok(namespace) = Namespace::open(&path) {
                    found.entry(namespace.inode).or_insert(namespace);
                }
                if found.len() > NAMESPACES_MAX {
                    tracing::error!(workload = %workload.name, "has too many network namespaces");
                    return found.into_values().collect();
                }
            }
        }
        found.into_values().collect()
    }

    /// A process of this cgroup, or below it, is in a namespace of its own that has listeners.
    pub(crate) fn serves(&self, directory: &Path) -> bool {
        let here = cgroup::processes(directory, |_| true);
        let Some(pid) = here.first() else {
            return false;
        };
        let namespace = Namespace::open(Path::new(&format!("/proc/{pid}/ns/net")));
        namespace.is_ok_and(|namespace| {
            namespace.inode != self.host.inode
                && self.by_id.range(all_in(namespace.inode)).next().is_some()
        })
    }

    pub(crate) fn mount(&self) -> &Path {
        &self.mount
    }

    /// Exempt cgroups and those of another workload below this one are not looked into.
    fn is_of(&self, cgroup: u64, class: ClassId) -> bool {
        self.classes.get(&cgroup).is_none_or(|of| *of == class)
    }

    /// An unconnected socket's namespace, by cookie.
    pub(crate) fn namespace(&self, cookie: u64) -> Option<&Namespace> {
        if cookie == self.host_cookie {
            return Some(&self.host);
        }
        let mut all = self.guarded.values();
        all.find(|guarded| guarded.cookie == cookie)
            .map(|guarded| &guarded.namespace)
    }

    /// Every descriptor that says when a device comes.
    pub(crate) fn link_fds(&self) -> impl Iterator<Item = &OwnedFd> {
        self.guarded.values().filter_map(|one| one.links.as_ref())
    }

    /// Guards the devices, opens listeners, and registers last: until then connects are refused, or
    /// go to the listeners that a node still has from the broker before this one. `None`: another
    /// workload had the namespace before, and may have it still.
    fn serve(
        &mut self,
        workload: &WorkloadConfig,
        (class, now_ns): (ClassId, u64),
        namespace: Namespace,
        system: &mut System,
    ) -> Result<Option<Place>, BrokerError> {
        let failed = |source| crate::config::system("entering a namespace", source);
        let inode = namespace.inode;
        let is_host = inode == self.host.inode;
        let cookie = namespace
            .visit(crate::namespace::cookie_here)
            .map_err(failed)?;
        let inherited = self.inherited.as_ref().filter(|_| !is_host);
        if inherited.is_some_and(|inherited| inherited.is_anothers(cookie, class)) {
            return Ok(None);
        }
        let guarded = match self.guarded.entry(inode) {
            Entry::Occupied(guarded) => guarded.into_mut(),
            Entry::Vacant(free) => free.insert(guard(namespace, cookie, (class, is_host), system)?),
        };
        guarded.tried_ns = now_ns;
        let listen = if is_host {
            listen_loopback
        } else {
            listen_here
        };
        let Listening { v4, v6 } = guarded.namespace.visit(listen).map_err(failed)?;
        let entry = ListenerEntry {
            class,
            v4: v4.as_ref().map(|(_, addr, own)| (*own, addr.port())),
            v6: v6.as_ref().map(|(_, addr, own)| (*own, addr.port())),
        };
        let mut sockets = Vec::new();
        sockets.extend(v4.map(|(fd, addr, _)| Socket { fd, addr }));
        sockets.extend(v6.map(|(fd, addr, _)| Socket { fd, addr }));
        let inherited = self.inherited.as_ref();
        let has_others = inherited.is_some_and(|known| known.has(cookie, class, is_host));
        if !has_others {
            redirect(cookie, is_host, &entry, system)?;
        }
        tracing::info!(workload = %workload.name, ?entry, is_host, "listening in a namespace");
        Ok(Some(Place {
            workload: workload.name.clone(),
            cookie,
            sockets,
            entry,
            waits: has_others,
            seen_ns: now_ns,
        }))
    }

    /// A node has the listeners of a place: connects may go there.
    pub(crate) fn has_listeners(&mut self, id: PlaceId, system: &mut System) {
        let is_host = id.0 == self.host.inode;
        let Some(place) = self.by_id.get_mut(&id) else {
            return;
        };
        if place.waits {
            match redirect(place.cookie, is_host, &place.entry, system) {
                Ok(()) => place.waits = false,
                Err(error) => tracing::error!(
                    %error, "connects still go to the listeners of another broker"
                ),
            }
        }
    }
}

fn redirect(
    cookie: u64,
    is_host: bool,
    entry: &ListenerEntry,
    system: &mut System,
) -> Result<(), KernelError> {
    if is_host {
        system.set_host_listeners(entry)
    } else {
        system.set_listeners(cookie, entry)
    }
}

/// Every class of one namespace.
const fn all_in(inode: u64) -> std::ops::RangeInclusive<PlaceId> {
    (inode, ClassId(0))..=(inode, ClassId(u32::MAX))
}

/// Whether the node may tell of cgroups of that class.
fn is_told(workloads: &[WorkloadConfig], class: ClassId) -> bool {
    let configured = classes(workloads).find(|(of, _)| *of == class);
    configured.is_none_or(|(_, workload)| workload.members == Selector::Told)
}

fn classes(workloads: &[WorkloadConfig]) -> impl Iterator<Item = (ClassId, &WorkloadConfig)> {
    (1..).map(ClassId).zip(workloads)
}

fn guard(
    namespace: Namespace,
    cookie: u64,
    (class, is_host): (ClassId, bool),
    system: &System,
) -> Result<Guarded, BrokerError> {
    let failed = |source| crate::config::system("guarding a namespace", source);
    let mut guarded = Guarded {
        cookie,
        key: if is_host {
            HOST_KEY.to_owned()
        } else {
            cookie.to_string()
        },
        class: if is_host { ClassId::HOST } else { class },
        devices: BTreeSet::new(),
        tried_ns: 0,
        // Before the devices are listed: one that comes in between is told.
        links: namespace.visit(links_here).ok(),
        namespace,
    };
    for device in guarded.namespace.visit(devices_here).map_err(failed)? {
        guarded.attach(&device, system).map_err(failed)?;
        guarded.devices.insert(device.index);
    }
    Ok(guarded)
}

impl Guarded {
    /// A device that was added later gets the allow-list as well.
    /// One that lost it, which only its namespace's administrator can do and only where there is
    /// no tcx, gets it back.
    fn watch_devices(&mut self, system: &System) {
        let (key, known) = (&self.key, &self.devices);
        let looked = self.namespace.visit(|| {
            let all = devices_here()?;
            let present: BTreeSet<u32> = all.iter().map(|device| device.index).collect();
            let unguarded: Vec<Device> = all
                .into_iter()
                .filter(|device| {
                    !known.contains(&device.index)
                        || !system.device_stands(key, device.index).unwrap_or(false)
                })
                .collect();
            Ok((present, unguarded))
        });
        let Ok((present, unguarded)) = looked else {
            return;
        };
        self.devices.retain(|index| present.contains(index));
        for device in unguarded {
            if self.devices.contains(&device.index) {
                tracing::error!(
                    key = %self.key, device = %device.name,
                    "the allow-list of a device was taken away: it is put back"
                );
            }
            match self.attach(&device, system) {
                Ok(()) => {
                    self.devices.insert(device.index);
                }
                Err(error) => {
                    tracing::error!(device = %device.name, %error, "a device is not guarded");
                }
            }
        }
    }

    fn leave(&self, system: &System) {
        let detach = || {
            let detached = system.detach_devices(&self.key);
            detached.map_err(std::io::Error::other)
        };
        if let Err(error) = self.namespace.visit(detach) {
            tracing::warn!(%error, "links of a gone namespace stay until uninstall");
        }
    }

    fn attach(&self, device: &Device, system: &System) -> std::io::Result<()> {
        self.namespace.visit(|| {
            system
                .attach_device(
                    self.class,
                    &self.key,
                    &device.name,
                    device.index,
                    device.link_bytes,
                )
                .map_err(std::io::Error::other)
        })
    }
}

/// A namespace's links socket is readable.
pub(crate) fn as_poll(fd: &OwnedFd) -> nix::poll::PollFd<'_> {
    nix::poll::PollFd::new(fd.as_fd(), nix::poll::PollFlags::POLLIN)
}
