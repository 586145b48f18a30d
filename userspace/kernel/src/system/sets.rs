//! Who belongs to which class, what each class is kept from, and what it may reach.

use std::collections::HashSet;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, MapData};
use weir_abi::{CLASS_HOST, Destination, Netns, names};

use super::{
    ANY, ClassId, KernelError, ListenerEntry, System, destination_keys, file, listeners,
    remove_pins,
};
use crate::sys;

/// Class, network, prefix length, port (0: any).
type Place = (u32, IpAddr, u8, u16);

impl System {
    /// Puts a cgroup, and all below it that no other entry claims, into a class.
    ///
    /// # Errors
    /// The map is full.
    pub fn set_class(&mut self, cgroup: u64, class: ClassId) -> Result<(), KernelError> {
        let name = names::CLASSES;
        let set = self.classes.insert(cgroup, class.0, ANY);
        set.map_err(|source| KernelError::Map { name, source })
    }

    /// Forgets a cgroup: it has the class of what is above it again.
    pub fn remove_class(&mut self, cgroup: u64) {
        let _unknown = self.classes.remove(&cgroup);
    }

    /// Cgroups in any class, governed roots included.
    #[must_use]
    pub fn classed(&self) -> Vec<(u64, ClassId)> {
        let entries = self.classes.iter().flatten();
        entries.map(|(id, class)| (id, ClassId(class))).collect()
    }

    /// Forgets what an earlier run wrote of namespaces and lists, and makes every cgroup in a class
    /// nobody's: until all is set again, protected connects of governed processes are refused.
    /// Protected destinations stay.
    ///
    /// # Errors
    /// A map cannot be written.
    pub fn forget(&mut self) -> Result<(), KernelError> {
        for (cgroup, _) in self.classed() {
            self.set_class(cgroup, ClassId::NONE)?;
        }
        for (cookie, _) in self.listening() {
            self.remove_listeners(cookie);
        }
        for class in self.host_listening() {
            self.remove_host_listeners(class);
        }
        self.retain_allowed(&[]);
        Ok(())
    }

    /// Namespaces with listeners, by cookie, and whose they are; the host's has [`ClassId::HOST`].
    #[must_use]
    pub fn listening(&self) -> Vec<(u64, ClassId)> {
        let entries = self.netns.iter().flatten();
        entries
            .map(|(cookie, netns)| (cookie, ClassId(netns.class)))
            .collect()
    }

    /// Classes with listeners in the host's namespace.
    #[must_use]
    pub fn host_listening(&self) -> Vec<ClassId> {
        self.hosts.keys().flatten().map(ClassId).collect()
    }

    /// Protects `net/prefix` at `port` (0: any) for a class. Class 0 is governed processes that no
    /// workload claims.
    ///
    /// # Errors
    /// The map is full.
    pub fn protect(
        &mut self,
        class: u32,
        net: IpAddr,
        prefix: u8,
        port: u16,
    ) -> Result<(), KernelError> {
        let place = (class, net, prefix, port);
        insert(&mut self.destinations, names::DESTINATIONS, place)
    }

    /// Forgets protected destinations that are not among `kept` (class, network, prefix length,
    /// port). Call after the kept ones were set: nothing is unprotected in between.
    pub fn retain_destinations(&mut self, kept: &[Place]) {
        retain(&mut self.destinations, kept);
    }

    /// With `listed` a class reaches nothing but its targets and what [`System::allow`] names.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_listed(&mut self, class: u32, listed: bool) -> Result<(), KernelError> {
        let name = names::LISTED;
        let set = self.listed.set(class, u32::from(listed), ANY);
        set.map_err(|source| KernelError::Map { name, source })
    }

    /// Puts `net/prefix` at `port` (0: any) on a class's list.
    ///
    /// # Errors
    /// The map is full.
    pub fn allow(
        &mut self,
        class: u32,
        net: IpAddr,
        prefix: u8,
        port: u16,
    ) -> Result<(), KernelError> {
        let place = (class, net, prefix, port);
        insert(&mut self.allowed, names::ALLOWED, place)
    }

    /// Takes everything off the lists that is not among `kept`.
    pub fn retain_allowed(&mut self, kept: &[Place]) {
        retain(&mut self.allowed, kept);
    }

    /// Says which namespace is the host's: workloads in it have listeners of their own.
    ///
    /// # Errors
    /// The map is full.
    pub fn set_host_namespace(&mut self, cookie: u64) -> Result<(), KernelError> {
        let netns = Netns {
            class: CLASS_HOST,
            ..Netns::default()
        };
        let name = names::NETNS;
        let set = self.netns.insert(cookie, netns, ANY);
        set.map_err(|source| KernelError::Map { name, source })
    }

    /// Registers a class's listeners in the host's namespace.
    ///
    /// # Errors
    /// The map is full.
    pub fn set_host_listeners(&mut self, entry: &ListenerEntry) -> Result<(), KernelError> {
        let name = names::HOSTS;
        let set = self.hosts.insert(entry.class.0, listeners(entry), ANY);
        set.map_err(|source| KernelError::Map { name, source })
    }

    /// Forgets a class's listeners in the host's namespace.
    pub fn remove_host_listeners(&mut self, class: ClassId) {
        let _unknown = self.hosts.remove(&class.0);
    }

    /// Readable when there are refusals to fetch.
    #[must_use]
    pub fn refusals_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }

    /// Forgets pinned device links whose device is gone, of namespaces that are not `kept`. Links
    /// on devices that are still there stay: somebody may be in that namespace.
    ///
    /// # Errors
    /// The pin directory cannot be read.
    pub fn sweep_devices(&self, kept: impl Fn(&str) -> bool) -> Result<(), KernelError> {
        let gone = |name: &str| {
            let key = name
                .strip_prefix("device_")
                .and_then(|rest| rest.split_once('_'));
            let Some((key, _index)) = key else {
                return false;
            };
            let link = sys::get(&self.pins.join(name));
            !kept(key) && link.is_ok_and(|link| is_severed(link.as_fd()))
        };
        remove_pins(&self.pins, gone)?;
        super::device::sweep_filters(&self.pins, &kept)
    }

    /// Names of everything that is pinned, sorted.
    ///
    /// # Errors
    /// The pin directory cannot be read.
    pub fn pinned(&self) -> Result<Vec<String>, KernelError> {
        let entries = std::fs::read_dir(&self.pins).map_err(|source| file(&self.pins, source))?;
        let mut names: Vec<String> = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        Ok(names)
    }
}

fn is_severed(link: BorrowedFd<'_>) -> bool {
    sys::link_device_index(link).is_ok_and(|index| index == 0)
}

type Trie = LpmTrie<MapData, Destination, u32>;

fn insert(trie: &mut Trie, name: &'static str, place: Place) -> Result<(), KernelError> {
    let (class, net, prefix, port) = place;
    for (bits, data) in destination_keys(class, net, prefix, port) {
        trie.insert(&Key::new(bits, data), 1, ANY)
            .map_err(|source| KernelError::Map { name, source })?;
    }
    Ok(())
}

fn retain(trie: &mut Trie, kept: &[Place]) {
    let mut wanted = HashSet::new();
    for (class, net, prefix, port) in kept {
        wanted.extend(destination_keys(*class, *net, *prefix, *port));
    }
    let keys = trie.keys().flatten();
    let stale: Vec<_> = keys
        .filter(|key| !wanted.contains(&(key.prefix_len(), key.data())))
        .collect();
    for key in stale {
        let _gone = trie.remove(&key);
    }
}
