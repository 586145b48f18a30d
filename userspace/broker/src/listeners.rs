//! Workloads, their namespaces, and the listeners in them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use weir_kernel::{ClassId, ListenerEntry, System};

use crate::cgroup;
use crate::config::{BrokerConfig, BrokerError, WorkloadConfig};
use crate::namespace::{Device, Listening, Namespace, devices_here, listen_here};

/// Namespaces of one workload; a workload with more is not one that was thought of.
const NAMESPACES_MAX: usize = 256;

/// A namespace without a process stays guarded for this many looks (30 s), so that the next
/// process in it finds the guard in place.
const UNSEEN_MAX: u32 = 150;

/// One listening socket.
pub(crate) struct Socket {
    pub(crate) fd: OwnedFd,
    pub(crate) addr: SocketAddr,
}

/// One namespace that is being served.
pub(crate) struct Place {
    pub(crate) workload: String,
    pub(crate) cookie: u64,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) namespace: Namespace,
    class: ClassId,
    devices: BTreeSet<u32>,
    /// Looks in which nothing was seen of it.
    unseen: u32,
}

/// All of them, by the namespace's inode.
pub(crate) struct Places {
    mount: PathBuf,
    own_inode: u64,
    pub(crate) by_inode: BTreeMap<u64, Place>,
    classed: BTreeSet<(String, u64)>,
}

/// What changed in one look.
#[derive(Default)]
pub(crate) struct Changes {
    pub(crate) added: Vec<u64>,
    /// Cookies.
    pub(crate) removed: Vec<u64>,
}

impl Places {
    pub(crate) fn new(mount: PathBuf) -> Result<Self, BrokerError> {
        let own = Namespace::open(Path::new("/proc/self/ns/net"))
            .map_err(|source| crate::config::system("opening our namespace", source))?;
        Ok(Self {
            mount,
            own_inode: own.inode,
            by_inode: BTreeMap::new(),
            classed: BTreeSet::new(),
        })
    }

    /// Looks for new and gone namespaces. Errors of one workload do not stop another: its
    /// protected connects stay refused, and the next look tries again.
    pub(crate) fn look(&mut self, config: &BrokerConfig, system: &mut System) -> Changes {
        let mut changes = Changes::default();
        let mut present = BTreeSet::new();
        for (index, workload) in config.workloads.iter().enumerate() {
            let class = ClassId(u32::try_from(index + 1).unwrap_or(u32::MAX));
            self.register_class(workload, class, system);
            for namespace in self.namespaces(workload) {
                if namespace.inode == self.own_inode {
                    // The host's namespace: its listeners would be everybody's.
                    continue;
                }
                present.insert(namespace.inode);
                if let Some(place) = self.by_inode.get_mut(&namespace.inode) {
                    place.watch_devices(system);
                    continue;
                }
                match serve_namespace(workload, class, namespace, system) {
                    Ok(place) => {
                        let inode = place.namespace.inode;
                        changes.added.push(inode);
                        self.by_inode.insert(inode, place);
                    }
                    Err(error) => tracing::error!(
                        workload = %workload.name, %error,
                        "no listener in this namespace: its protected connects are refused"
                    ),
                }
            }
        }
        let mut gone = Vec::new();
        for (inode, place) in &mut self.by_inode {
            if present.contains(inode) {
                place.unseen = 0;
                continue;
            }
            place.unseen += 1;
            if place.unseen > UNSEEN_MAX {
                gone.push(*inode);
            }
        }
        for inode in gone {
            if let Some(place) = self.by_inode.remove(&inode) {
                system.remove_listeners(place.cookie);
                if let Err(error) = system.detach_devices(&place.cookie.to_string()) {
                    tracing::warn!(%error, "links of a gone namespace stay until uninstall");
                }
                tracing::info!(workload = %place.workload, "a namespace is gone");
                changes.removed.push(place.cookie);
            }
        }
        changes
    }

    fn register_class(&mut self, workload: &WorkloadConfig, class: ClassId, system: &mut System) {
        let path = cgroup::directory(&self.mount, &workload.cgroup);
        // A cgroup that does not exist yet is looked for again.
        let Ok(id) = cgroup::id(&path) else { return };
        let key = (workload.name.clone(), id);
        if self.classed.contains(&key) {
            return;
        }
        match system.set_class(id, class) {
            Ok(()) => {
                self.classed.insert(key);
            }
            Err(error) => tracing::error!(workload = %workload.name, %error, "not registered"),
        }
    }

    fn namespaces(&self, workload: &WorkloadConfig) -> Vec<Namespace> {
        if let Some(path) = &workload.netns {
            return Namespace::open(path).into_iter().collect();
        }
        let directory = cgroup::directory(&self.mount, &workload.cgroup);
        let mut found: BTreeMap<u64, Namespace> = BTreeMap::new();
        for pid in cgroup::processes(&directory) {
            let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
            if let Ok(namespace) = Namespace::open(&path) {
                found.entry(namespace.inode).or_insert(namespace);
            }
            if found.len() > NAMESPACES_MAX {
                tracing::error!(workload = %workload.name, "has too many network namespaces");
                break;
            }
        }
        found.into_values().collect()
    }

    pub(crate) fn mount(&self) -> &Path {
        &self.mount
    }

    pub(crate) fn by_cookie(&self, cookie: u64) -> Option<&Place> {
        self.by_inode.values().find(|place| place.cookie == cookie)
    }
}

impl Place {
    /// A device that was added later gets the allow-list as well.
    fn watch_devices(&mut self, system: &System) {
        let Ok(devices) = self.namespace.visit(devices_here) else {
            return;
        };
        for device in devices {
            if self.devices.contains(&device.index) {
                continue;
            }
            match attach(&self.namespace, self.class, self.cookie, &device, system) {
                Ok(()) => {
                    self.devices.insert(device.index);
                }
                Err(error) => {
                    tracing::error!(workload = %self.workload, %error, "device not guarded");
                }
            }
        }
    }
}

fn attach(
    namespace: &Namespace,
    class: ClassId,
    cookie: u64,
    device: &Device,
    system: &System,
) -> std::io::Result<()> {
    let key = cookie.to_string();
    namespace.visit(|| {
        system
            .attach_device(class, &key, &device.name, device.index, device.link_bytes)
            .map_err(std::io::Error::other)
    })
}

/// Guards the devices, opens listeners, and registers last: until then connects are refused.
fn serve_namespace(
    workload: &WorkloadConfig,
    class: ClassId,
    namespace: Namespace,
    system: &mut System,
) -> Result<Place, BrokerError> {
    let failed = |source| crate::config::system("entering a namespace", source);
    let Listening { cookie, v4, v6 } = namespace.visit(listen_here).map_err(failed)?;
    let mut guarded = BTreeSet::new();
    for device in namespace.visit(devices_here).map_err(failed)? {
        attach(&namespace, class, cookie, &device, system).map_err(failed)?;
        guarded.insert(device.index);
    }
    let entry = ListenerEntry {
        class,
        v4: v4.as_ref().map(|(_, addr, own)| (*own, addr.port())),
        v6: v6.as_ref().map(|(_, addr, own)| (*own, addr.port())),
    };
    let mut sockets = Vec::new();
    sockets.extend(v4.map(|(fd, addr, _)| Socket { fd, addr }));
    sockets.extend(v6.map(|(fd, addr, _)| Socket { fd, addr }));
    system.set_listeners(cookie, &entry)?;
    tracing::info!(workload = %workload.name, ?entry, "listening in a namespace");
    Ok(Place {
        workload: workload.name.clone(),
        cookie,
        sockets,
        namespace,
        class,
        devices: guarded,
        unseen: 0,
    })
}
