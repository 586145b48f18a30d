//! The running system: programs loaded, attached and pinned; maps written.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the object holds no other kind of program"
)]

pub(crate) mod device;
mod sets;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, RingBuf};
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfError, EbpfLoader};
use weir_abi::rule::DESTINATION_FIXED_BITS;
use weir_abi::{
    CLASS_EXEMPT, CLASS_HOST, CLASS_NONE, CLASS_WORKLOAD_MAX, Counter, Destination, Event, FlowKey,
    Netns, Origin, PORT_ANY, PORT_SOME, Reason, counter_index, names,
};
use weir_model::fault::{Fault, FaultKind};

use crate::heartbeat::Heartbeat;
use crate::sys::{self, AttachType};
use crate::{btf, object};

pub(crate) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
/// `BPF_ANY`.
const ANY: u64 = 0;
/// Steps of one walk through the flows.
const WALK_MAX: usize = 200_000;

#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    #[error("this binary was built without the eBPF programs (WEIR_SKIP_EBPF)")]
    NoObject,
    #[error("{VMLINUX} has no {0}: this kernel cannot be supported")]
    NoOffset(&'static str),
    #[error("loading the eBPF object: {0}")]
    Load(#[from] EbpfError),
    #[error("program {name}: {source}")]
    Program {
        name: &'static str,
        source: ProgramError,
    },
    #[error("the object lacks {0}")]
    Missing(&'static str),
    #[error("attaching {name}: {source}")]
    Attach { name: String, source: io::Error },
    #[error("map {name}: {source}")]
    Map {
        name: &'static str,
        source: aya::maps::MapError,
    },
    #[error("{path}: {source}")]
    File { path: String, source: io::Error },
}

impl Fault for KernelError {
    fn kind(&self) -> FaultKind {
        FaultKind::Kernel
    }
}

pub(crate) fn file(path: &Path, source: io::Error) -> KernelError {
    KernelError::File {
        path: path.display().to_string(),
        source,
    }
}

/// Number of a workload in the kernel's maps, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassId(pub u32);

impl ClassId {
    /// Of what lies below a governed cgroup and is known not to be governed.
    pub const EXEMPT: Self = Self(CLASS_EXEMPT);
    /// Of governed cgroups that nobody claims.
    pub const NONE: Self = Self(CLASS_NONE);
    /// For the host's devices: a packet's class is its sender's.
    pub const HOST: Self = Self(CLASS_HOST);
    /// Largest class of a workload.
    pub const WORKLOAD_MAX: u32 = CLASS_WORKLOAD_MAX;
}

/// Listeners of one namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerEntry {
    pub class: ClassId,
    pub v4: Option<(Ipv4Addr, u16)>,
    pub v6: Option<(Ipv6Addr, u16)>,
}

/// What the kernel counted for one class.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassCounts {
    pub redirected: u64,
    pub published: u64,
    pub missed: u64,
    pub accepted: u64,
    pub orphaned: u64,
    pub lost: u64,
    pub abandoned: u64,
    pub expired: u64,
    pub events_lost: u64,
    /// By reason label.
    pub refused: Vec<(&'static str, u64)>,
}

/// One refusal, as the kernel reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: &'static str,
    pub destination: String,
    pub pid: u32,
    pub uid: u32,
    pub class: u32,
    pub cgroup_id: u64,
    pub comm: String,
}

/// Programs on the governed subtree, and where each attaches.
const GOVERNED: &[(&str, AttachType)] = &[
    (names::CONNECT4, AttachType::Connect4),
    (names::CONNECT6, AttachType::Connect6),
    (names::GETPEERNAME4, AttachType::GetPeerName4),
    (names::GETPEERNAME6, AttachType::GetPeerName6),
    (names::SENDMSG4, AttachType::SendMsg4),
    (names::SENDMSG6, AttachType::SendMsg6),
    (names::BIND4, AttachType::Bind4),
    (names::BIND6, AttachType::Bind6),
    (names::SOCK_CREATE, AttachType::SockCreate),
    (names::SETSOCKOPT, AttachType::SetSockOpt),
    (names::GOVERNED_OPS, AttachType::SockOps),
    (names::CGROUP_EGRESS, AttachType::CgroupEgress),
];

const LINK_PIN: &str = "link_";

/// A cgroup that programs are attached to.
#[derive(Clone, Copy, Debug)]
pub struct Root<'a> {
    /// Its directory's inode number.
    pub id: u64,
    pub directory: BorrowedFd<'a>,
}

/// Everything in the kernel. Dropping it changes nothing there: links and maps are pinned.
pub struct System {
    pins: PathBuf,
    ebpf: Ebpf,
    offsets: Offsets,
    devices: device::Devices,
    classes: HashMap<MapData, u64, u32>,
    destinations: LpmTrie<MapData, Destination, u32>,
    netns: HashMap<MapData, u64, Netns>,
    hosts: HashMap<MapData, u32, Netns>,
    listed: Array<MapData, u32>,
    allowed: LpmTrie<MapData, Destination, u32>,
    own: HashMap<MapData, u64, u32>,
    heartbeat: Array<MapData, u64>,
    counts: PerCpuArray<MapData, u64>,
    events: RingBuf<MapData>,
    /// Device programs by class and bytes of the link header, loaded.
    flows: HashMap<MapData, FlowKey, Origin>,
    birth: u64,
}

#[derive(Clone, Copy)]
struct Offsets {
    group_leader: u32,
    start_boottime: u32,
}

impl Offsets {
    fn read() -> Result<Self, KernelError> {
        let bytes = fs::read(VMLINUX).map_err(|source| file(Path::new(VMLINUX), source))?;
        let of = |member| {
            btf::offset(&bytes, "task_struct", member).ok_or(KernelError::NoOffset(member))
        };
        Ok(Self {
            group_leader: of("group_leader")?,
            start_boottime: of("start_boottime")?,
        })
    }
}

fn load_object(
    pins: Option<&Path>,
    offsets: Offsets,
    device: (u32, u32),
) -> Result<Ebpf, KernelError> {
    if object::bytes().is_empty() {
        return Err(KernelError::NoObject);
    }
    let mut loader = EbpfLoader::new();
    loader
        .override_global(names::OFF_GROUP_LEADER, &offsets.group_leader, true)
        .override_global(names::OFF_START_BOOTTIME, &offsets.start_boottime, true)
        .override_global(names::DEVICE_CLASS, &device.0, true)
        .override_global(names::DEVICE_LINK_BYTES, &device.1, true);
    if let Some(pins) = pins {
        loader.default_map_pin_directory(pins);
        loader.map_pin_path(names::CLIENT, pins.join(names::CLIENT));
        loader.map_pin_path(names::ACCEPTED, pins.join(names::ACCEPTED));
        loader.map_pin_path(names::MARKS, pins.join(names::MARKS));
    }
    Ok(loader.load(object::bytes())?)
}

/// An object with maps of its own, for probing.
pub(crate) fn loader_for_probe() -> Result<Ebpf, KernelError> {
    let directory = PathBuf::from(format!("/sys/fs/bpf/weir-probe-{}", std::process::id()));
    fs::create_dir_all(&directory).map_err(|source| file(&directory, source))?;
    let loaded = load_object(Some(&directory), Offsets::read()?, (0, 14));
    fs::remove_dir_all(&directory).map_err(|source| file(&directory, source))?;
    loaded
}

/// Loads whatever kind of program it is.
pub(crate) fn load_program(program: &mut Program) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSockAddr(program) => program.load(),
        Program::CgroupSock(program) => program.load(),
        Program::CgroupSkb(program) => program.load(),
        Program::CgroupSockopt(program) => program.load(),
        Program::SockOps(program) => program.load(),
        Program::SchedClassifier(program) => program.load(),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn take<T>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, KernelError>
where
    T: TryFrom<aya::maps::Map, Error = aya::maps::MapError>,
{
    let map = ebpf.take_map(name).ok_or(KernelError::Missing(name))?;
    T::try_from(map).map_err(|source| KernelError::Map { name, source })
}

/// When the pinned counters were made, as Unix time in nanoseconds: set once.
fn birth(ebpf: &mut Ebpf) -> Result<u64, KernelError> {
    let name = names::BIRTH;
    let mut map: Array<MapData, u64> = take(ebpf, name)?;
    let error = |source| KernelError::Map { name, source };
    let known = map.get(&0, 0).map_err(error)?;
    if known != 0 {
        return Ok(known);
    }
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME)
        .map_err(|errno| file(Path::new("clock"), errno.into()))?;
    let now = u64::try_from(now.tv_sec()).unwrap_or(0) * 1_000_000_000
        + u64::try_from(now.tv_nsec()).unwrap_or(0);
    map.set(0, now, ANY).map_err(error)?;
    Ok(now)
}

impl System {
    /// Loads the object with the pinned maps below `pins`. Nothing is attached yet, so that the
    /// maps can be filled first. What an earlier run wrote stays in force meanwhile: its programs
    /// go on by it, for a node that is still alive. [`System::forget`] is for a run that cannot
    /// vouch for it.
    ///
    /// # Errors
    /// See [`KernelError`].
    pub fn load(pins: &Path) -> Result<Self, KernelError> {
        let pins = device::versioned(pins);
        fs::create_dir_all(&pins).map_err(|source| file(&pins, source))?;
        let offsets = Offsets::read()?;
        let mut ebpf = load_object(Some(&pins), offsets, (0, 14))?;
        Ok(Self {
            classes: take(&mut ebpf, names::CLASSES)?,
            destinations: take(&mut ebpf, names::DESTINATIONS)?,
            netns: take(&mut ebpf, names::NETNS)?,
            hosts: take(&mut ebpf, names::HOSTS)?,
            listed: take(&mut ebpf, names::LISTED)?,
            allowed: take(&mut ebpf, names::ALLOWED)?,
            own: take(&mut ebpf, names::OWN_CGROUPS)?,
            heartbeat: take(&mut ebpf, names::HEARTBEAT)?,
            counts: take(&mut ebpf, names::COUNTS)?,
            events: take(&mut ebpf, names::EVENTS)?,
            flows: take(&mut ebpf, names::FLOWS)?,
            birth: birth(&mut ebpf)?,
            pins,
            ebpf,
            offsets,
            devices: device::Devices::default(),
        })
    }

    /// Attaches every program to every governed root, or takes over the pinned links of an earlier
    /// run; roots that are not governed any more are let go. Call once destinations and Weir's own
    /// cgroup are set. Roots must not lie in one another: the programs would run twice.
    ///
    /// # Errors
    /// See [`KernelError`]; what was attached before stays attached.
    pub fn attach(&mut self, governed: &[Root<'_>], own: &Root<'_>) -> Result<(), KernelError> {
        let mut wanted = vec![self.attach_cgroup(names::OWN_OPS, AttachType::SockOps, own)?];
        for root in governed {
            // A root may be a workload's own cgroup.
            if self.classes.get(&root.id, 0).is_err() {
                self.set_class(root.id, ClassId::NONE)?;
            }
            for (name, kind) in GOVERNED {
                match self.attach_cgroup(name, *kind, root) {
                    Err(error) if names::OPTIONAL.contains(name) => {
                        tracing::warn!(%error, "this kernel does without an optional program");
                    }
                    outcome => wanted.push(outcome?),
                }
            }
        }
        remove_pins(&self.pins, |pin| {
            pin.starts_with(LINK_PIN) && !wanted.iter().any(|name| name == pin)
        })
    }

    fn attach_cgroup(
        &mut self,
        name: &'static str,
        kind: AttachType,
        cgroup: &Root<'_>,
    ) -> Result<String, KernelError> {
        let program = self
            .ebpf
            .program_mut(name)
            .ok_or(KernelError::Missing(name))?;
        match load_program(program) {
            // For an earlier root.
            Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
            Err(source) => return Err(KernelError::Program { name, source }),
        }
        let fd = program
            .fd()
            .map_err(|source| KernelError::Program { name, source })?;
        let pin = format!("{LINK_PIN}{name}_{}", cgroup.id);
        take_over(&self.pins.join(&pin), fd.as_fd(), || {
            sys::link_cgroup(fd.as_fd(), cgroup.directory, kind)
        })
        .map_err(|source| KernelError::Attach {
            name: name.to_owned(),
            source,
        })?;
        Ok(pin)
    }

    /// Says which cgroup is Weir's own: this one and no other. There is none without in between.
    ///
    /// # Errors
    /// The map is full.
    pub fn set_own(&mut self, cgroup: u64) -> Result<(), KernelError> {
        let name = names::OWN_CGROUPS;
        let set = self.own.insert(cgroup, 1, ANY);
        set.map_err(|source| KernelError::Map { name, source })?;
        let all = self.own.keys().flatten().collect::<Vec<_>>();
        for other in all.into_iter().filter(|other| *other != cgroup) {
            let _gone = self.own.remove(&other);
        }
        Ok(())
    }

    /// Registers a namespace's listeners; from here on its protected connects are redirected.
    ///
    /// # Errors
    /// The map is full.
    pub fn set_listeners(&mut self, cookie: u64, entry: &ListenerEntry) -> Result<(), KernelError> {
        let netns = listeners(entry);
        let name = names::NETNS;
        self.netns
            .insert(cookie, netns, ANY)
            .map_err(|source| KernelError::Map { name, source })
    }

    /// Forgets a namespace; unknown ones are no error.
    pub fn remove_listeners(&mut self, cookie: u64) {
        let _unknown = self.netns.remove(&cookie);
    }

    /// Sets the instant until which the enforcer is believed alive; 0 means it is gone.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_heartbeat(&mut self, deadline_ns: u64) -> Result<(), KernelError> {
        let name = names::HEARTBEAT;
        let set = self.heartbeat.set(0, deadline_ns, ANY);
        set.map_err(|source| KernelError::Map { name, source })
    }

    /// Another handle on the heartbeat.
    ///
    /// # Errors
    /// Its pin is gone.
    pub fn heartbeat(&self) -> Result<Heartbeat, KernelError> {
        Heartbeat::open(&self.pins)
    }

    /// The heartbeat for the node: a descriptor by which it can be written and nothing else.
    ///
    /// # Errors
    /// Its pin is gone.
    pub fn heartbeat_map(&self) -> Result<OwnedFd, KernelError> {
        let pin = self.pins.join(names::HEARTBEAT);
        sys::get_for(&pin, sys::Access::Write).map_err(|source| file(&pin, source))
    }

    /// The map of accepted sockets' origins, to be passed to the node, which can only read it.
    ///
    /// # Errors
    /// Its pin is gone.
    pub fn accepted_map(&self) -> Result<OwnedFd, KernelError> {
        let pin = self.pins.join(names::ACCEPTED);
        sys::get_for(&pin, sys::Access::Read).map_err(|source| file(&pin, source))
    }

    /// Sums over all processors.
    #[must_use]
    pub fn counts(&self, class: u32) -> ClassCounts {
        let read = |counter: u32| -> u64 {
            let index = counter_index(class, counter);
            self.counts
                .get(&index, 0)
                .map_or(0, |values| values.iter().sum())
        };
        ClassCounts {
            redirected: read(Counter::Redirected as u32),
            published: read(Counter::Published as u32),
            missed: read(Counter::Missed as u32),
            accepted: read(Counter::Accepted as u32),
            orphaned: read(Counter::Orphaned as u32),
            lost: read(Counter::FlowLost as u32),
            abandoned: read(Counter::Abandoned as u32),
            expired: read(Counter::Expired as u32),
            events_lost: read(Counter::EventLost as u32),
            refused: Reason::ALL
                .iter()
                .map(|reason| (reason.label(), read(*reason as u32)))
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }

    /// Identifies the pinned counters: others begin anew.
    #[must_use]
    pub const fn birth(&self) -> u64 {
        self.birth
    }

    /// Flows that wait for somebody to accept them, by class.
    #[must_use]
    pub fn pending(&self) -> BTreeMap<u32, u64> {
        // A key that vanishes under the walk starts it again: seen ones are counted once.
        let keys: HashSet<FlowKey> = self.flows.keys().flatten().take(WALK_MAX).collect();
        let mut pending = BTreeMap::new();
        for key in keys {
            if let Ok(flow) = self.flows.get(&key, 0) {
                *pending.entry(flow.class).or_default() += 1;
            }
        }
        pending
    }

    /// Refusals since the last call, at most `max`.
    pub fn refusals(&mut self, max: usize) -> Vec<Refusal> {
        let mut found = Vec::new();
        while found.len() < max {
            let Some(item) = self.events.next() else {
                break;
            };
            found.extend(refusal(&item));
        }
        found
    }
}

fn listeners(entry: &ListenerEntry) -> Netns {
    let mut netns = Netns {
        class: entry.class.0,
        ..Netns::default()
    };
    if let Some((addr, port)) = entry.v4 {
        netns.v4 = u32::from_ne_bytes(addr.octets());
        netns.port4 = u32::from(port);
    }
    if let Some((addr, port)) = entry.v6 {
        let octets = addr.octets();
        for (word, bytes) in netns.v6.iter_mut().zip(octets.chunks_exact(4)) {
            *word = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        netns.port6 = u32::from(port);
    }
    netns
}

/// The entries of one destination: its port, and the one that says that some port is protected.
fn destination_keys(class: u32, net: IpAddr, prefix: u8, port: u16) -> [(u32, Destination); 2] {
    let (addr, bits) = match net {
        IpAddr::V4(addr) => (addr.to_ipv6_mapped().octets(), u32::from(prefix) + 96),
        IpAddr::V6(addr) => (addr.octets(), u32::from(prefix)),
    };
    let port = if port == 0 { PORT_ANY } else { u32::from(port) };
    [port, PORT_SOME].map(|port| {
        (
            DESTINATION_FIXED_BITS + bits,
            Destination { class, port, addr },
        )
    })
}

fn refusal(bytes: &[u8]) -> Option<Refusal> {
    let at = |index: usize| -> Option<u32> {
        let bytes: [u8; 4] = bytes.get(index..index + 4)?.try_into().ok()?;
        Some(u32::from_ne_bytes(bytes))
    };
    if bytes.len() < size_of::<Event>() {
        return None;
    }
    let addr: [u8; 16] = bytes.get(..16)?.try_into().ok()?;
    let ip = IpAddr::V6(Ipv6Addr::from(addr)).to_canonical();
    let comm = bytes.get(56..72)?;
    let end = comm
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(comm.len());
    let cgroup: [u8; 8] = bytes.get(40..48)?.try_into().ok()?;
    Some(Refusal {
        reason: Reason::try_from(at(20)?).map_or("unknown", Reason::label),
        destination: format!("{ip} port {}", at(16)?),
        pid: at(24)?,
        uid: at(28)?,
        class: at(32)?,
        cgroup_id: u64::from_ne_bytes(cgroup),
        comm: String::from_utf8_lossy(comm.get(..end)?).into_owned(),
    })
}

/// Replaces the program of a pinned link, or makes and pins a new one. A severed link (its cgroup
/// or device is gone) is made anew.
fn take_over(
    pin: &Path,
    program: BorrowedFd<'_>,
    create: impl FnOnce() -> io::Result<OwnedFd>,
) -> io::Result<()> {
    match sys::get(pin) {
        Ok(link) => match sys::link_update(link.as_fd(), program) {
            Ok(()) => return Ok(()),
            // Its cgroup or device is gone, so nothing is guarded by it any more. Any other error
            // leaves the old program where it is.
            Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => fs::remove_file(pin)?,
            Err(error) => return Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    sys::pin(create()?.as_fd(), pin)
}

pub(crate) fn remove_pins(
    directory: &Path,
    which: impl Fn(&str) -> bool,
) -> Result<(), KernelError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(file(directory, source)),
    };
    for entry in entries {
        let path = entry.map_err(|source| file(directory, source))?.path();
        let matches = path
            .file_name()
            .is_some_and(|name| which(&name.to_string_lossy()));
        if matches {
            fs::remove_file(&path).map_err(|source| file(&path, source))?;
        }
    }
    Ok(())
}

/// Removes every pinned program, map and link, which detaches them.
///
/// # Errors
/// A pin cannot be removed.
pub fn uninstall(pins: &Path) -> Result<(), KernelError> {
    let versioned = device::versioned(pins);
    device::uninstall_filters(&versioned)?;
    remove_pins(&versioned, |_| true)?;
    for directory in [versioned.as_path(), pins] {
        match fs::remove_dir(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(file(directory, source)),
        }
    }
    Ok(())
}
