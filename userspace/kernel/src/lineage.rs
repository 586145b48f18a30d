//! Who executes what, from whom: records that outlive their processes, and who speaks on a
//! redirected socket.
//!
//! Links and maps are pinned, so records are kept while no broker runs. A new broker attaches its
//! own programs as another generation and switches over by one write, so that no event is counted
//! twice and none is missed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::{BtfTracePoint, FEntry, ProgramError};
use aya::{Btf, BtfError, Ebpf, EbpfLoader};
use weir_abi::lineage::{LAST, Lost, Offsets, PRESENT, flag, names};
use weir_abi::names as redirect;
use weir_abi::{ABI_VERSION, Process, ProcessKey, Speaker};

use crate::btf::Types;
use crate::system::{KernelError, VMLINUX, file};
use crate::{object, sys};

/// Looks at one record before it counts as unreadable.
const LOOKS_MAX: u32 = 16;
/// Prefix of the pinned links, before their generation.
const LINK: &str = "lineage_";

/// One process, whatever becomes of its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId {
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// Of the thread group leader, since boot.
    pub start_boottime_ns: u64,
}

/// One image of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessRecord {
    pub id: ProcessId,
    /// As it was when the process was made; 0 and 0 when not known.
    pub parent: ProcessId,
    /// Execs of the process up to this image; 0 is the image of whoever forked it.
    pub execs: u32,
    /// `st_dev` and `st_ino`. Some file systems (overlay over several, btrfs) give `stat` another
    /// device than the kernel's own.
    pub exe: Option<(u64, u64)>,
    /// The binary as it was opened: a link or a relative path at times; of a script its
    /// interpreter. At most 127 bytes.
    pub path: String,
    /// At most 511 bytes.
    pub argv: Vec<Vec<u8>>,
    /// There was more, or it could not be read.
    pub argv_cut: bool,
    /// `CLOCK_MONOTONIC` of exec or fork.
    pub since_ns: u64,
    /// At that time.
    pub cgroup_id: u64,
    pub uid: u32,
    pub comm: String,
    /// Forked from a process that ran before the programs: the image is its ancestor's, and
    /// nothing of it is here.
    pub inherited: bool,
}

/// What could not be kept, since the maps were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineageLoss {
    pub processes: u64,
    pub argv: u64,
    pub speakers: u64,
}

/// The attached programs' maps. Dropping it changes nothing in the kernel.
pub struct Lineage {
    directory: PathBuf,
    processes: HashMap<MapData, ProcessKey, Process>,
    past: HashMap<MapData, ProcessKey, Process>,
    lost: PerCpuArray<MapData, u64>,
    speaks: Result<(), String>,
}

fn offsets() -> Result<Offsets, KernelError> {
    let bytes = fs::read(VMLINUX).map_err(|source| file(Path::new(VMLINUX), source))?;
    let types = Types::read(&bytes).ok_or(KernelError::NoOffset("types"))?;
    let of = |name, member: &'static str| {
        types
            .offset(name, member)
            .ok_or(KernelError::NoOffset(member))
    };
    Ok(Offsets {
        task_pid: of("task_struct", "pid")?,
        task_tgid: of("task_struct", "tgid")?,
        task_real_parent: of("task_struct", "real_parent")?,
        task_group_leader: of("task_struct", "group_leader")?,
        task_start_boottime: of("task_struct", "start_boottime")?,
        task_signal: of("task_struct", "signal")?,
        task_mm: of("task_struct", "mm")?,
        signal_live: of("signal_struct", "live")?,
        mm_arg_start: of("mm_struct", "arg_start")?,
        mm_arg_end: of("mm_struct", "arg_end")?,
        bprm_file: of("linux_binprm", "file")?,
        bprm_interp: of("linux_binprm", "interp")?,
        file_inode: of("file", "f_inode")?,
        inode_ino: of("inode", "i_ino")?,
        inode_sb: of("inode", "i_sb")?,
        sb_dev: of("super_block", "s_dev")?,
    })
}

fn program_error(name: &'static str, source: ProgramError) -> KernelError {
    KernelError::Program { name, source }
}

fn map_error(name: &'static str) -> impl FnOnce(MapError) -> KernelError {
    move |source| KernelError::Map { name, source }
}

fn taken<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<T, KernelError> {
    let map = ebpf.take_map(name).ok_or(KernelError::Missing(name))?;
    T::try_from(map).map_err(map_error(name))
}

fn no_btf(error: BtfError) -> KernelError {
    KernelError::File {
        path: VMLINUX.to_owned(),
        source: io::Error::other(error),
    }
}

fn load(directory: &Path, generation: u32) -> Result<Ebpf, KernelError> {
    if object::lineage_bytes().is_empty() {
        return Err(KernelError::NoObject);
    }
    let offsets = offsets()?;
    let mut loader = EbpfLoader::new();
    loader
        .default_map_pin_directory(directory)
        // Socket storage says nothing of pins in its definition.
        .map_pin_path(redirect::CLIENT, directory.join(redirect::CLIENT))
        .override_global(names::GENERATION, &generation, true)
        .override_global(names::OFFSETS, &offsets, true);
    Ok(loader.load(object::lineage_bytes())?)
}

/// The generation whose programs work now, of an earlier run.
fn generation(directory: &Path) -> u32 {
    let pinned = MapData::from_pin(directory.join(names::ACTIVE));
    let active = pinned.and_then(|map| Array::<_, u32>::try_from(Map::Array(map)));
    active.and_then(|array| array.get(&0, 0)).unwrap_or(0)
}

impl Lineage {
    /// Attaches the programs, in place of those of an earlier run. [`crate::System`] must be
    /// loaded with the same `pins`.
    ///
    /// # Errors
    /// A kernel that does not take the programs; the redirect does not need them.
    pub fn start(pins: &Path) -> Result<Self, KernelError> {
        let directory = pins.join(format!("v{ABI_VERSION}"));
        let next = generation(&directory).wrapping_add(1);
        let mut ebpf = load(&directory, next)?;
        let mut active: Array<MapData, u32> = taken(&mut ebpf, names::ACTIVE)?;
        let btf = Btf::from_sys_fs().map_err(no_btf)?;
        let own = format!("{LINK}{next}_");
        for (name, point) in [
            (names::EXEC, "sched_process_exec"),
            (names::FORK, "sched_process_fork"),
            (names::EXIT, "sched_process_exit"),
        ] {
            let link = trace(&mut ebpf, name, point, &btf)?;
            pin(link, &directory.join(format!("{own}{name}")))?;
        }
        let speaks = speak(&mut ebpf, &btf)
            .and_then(|link| pin(link, &directory.join(format!("{own}{}", names::SPEAK))));
        active.set(0, next, 0).map_err(map_error(names::ACTIVE))?;
        crate::system::remove_pins(&directory, |name| {
            name.starts_with(LINK) && !name.starts_with(&own)
        })?;
        Ok(Self {
            processes: taken(&mut ebpf, names::PROCESSES)?,
            past: taken(&mut ebpf, names::PAST)?,
            lost: taken(&mut ebpf, names::LOST)?,
            speaks: speaks.map_err(|error| error.to_string()),
            directory,
        })
    }

    /// Why senders on redirected sockets are not seen, if they are not.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn speaks(&self) -> Result<(), &str> {
        match &self.speaks {
            Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The map of speakers, to be passed to the node, which can only read it.
    ///
    /// # Errors
    /// Its pin is gone.
    pub fn speakers_map(&self) -> Result<OwnedFd, KernelError> {
        let pin = self.directory.join(names::SPEAKERS);
        sys::get_for(&pin, sys::Access::Read).map_err(|source| file(&pin, source))
    }

    /// The image that a process had at `at_ns` (`CLOCK_MONOTONIC`); also of one that has ended.
    /// `None` when it is not known.
    #[must_use]
    pub fn image(&self, id: ProcessId, at_ns: u64) -> Option<ProcessRecord> {
        let mut found = self.latest(id)?;
        while found.since_ns > at_ns && found.execs > 0 {
            // The image before it lies under the number of its own execs, plus one.
            let earlier = key(id, found.execs);
            found = record(id, &whole(&self.past, &earlier)?);
        }
        Some(found)
    }

    /// The last image of a process.
    #[must_use]
    pub fn latest(&self, id: ProcessId) -> Option<ProcessRecord> {
        let last = whole(&self.processes, &key(id, PRESENT))
            .or_else(|| whole(&self.past, &key(id, LAST)))?;
        Some(record(id, &last))
    }

    /// Processes that are known, the living and the ended ones: walks both maps.
    #[must_use]
    pub fn ids(&self) -> BTreeSet<ProcessId> {
        let keys = self.processes.keys().chain(self.past.keys());
        keys.flatten()
            .map(|key| ProcessId {
                pid: key.tgid,
                start_boottime_ns: key.start_ns,
            })
            .collect()
    }

    /// Has a thread of it not ended yet, as far as is known.
    #[must_use]
    pub fn is_living(&self, id: ProcessId) -> bool {
        self.processes.get(&key(id, PRESENT), 0).is_ok()
    }

    /// Living processes: walks their map.
    #[must_use]
    pub fn living(&self) -> usize {
        self.processes.keys().flatten().count()
    }

    /// What could not be kept.
    #[must_use]
    pub fn lost(&self) -> LineageLoss {
        let read = |what: Lost| {
            let values = self.lost.get(&(what as u32), 0);
            values.map_or(0, |values| values.iter().sum())
        };
        LineageLoss {
            processes: read(Lost::Process),
            argv: read(Lost::Argv),
            speakers: read(Lost::Speaker),
        }
    }
}

/// What this kernel takes of it, found out by loading; attaches nothing.
pub(crate) fn try_load() -> Vec<(&'static str, Result<(), String>)> {
    let directory = PathBuf::from(format!("/sys/fs/bpf/weir-lineage-{}", std::process::id()));
    let loaded = fs::create_dir_all(&directory)
        .map_err(|source| file(&directory, source))
        .and_then(|()| load(&directory, 1));
    let mut findings = Vec::new();
    match (loaded, Btf::from_sys_fs()) {
        (Ok(mut ebpf), Ok(btf)) => {
            for (name, point) in [
                (names::EXEC, "sched_process_exec"),
                (names::FORK, "sched_process_fork"),
                (names::EXIT, "sched_process_exit"),
            ] {
                let tried = traced(&mut ebpf, name, point, &btf).map(drop);
                findings.push((name, tried.map_err(|error| error.to_string())));
            }
            findings.push((names::SPEAK, try_speak(&mut ebpf, &btf)));
        }
        (Err(error), _) => findings.push(("lineage", Err(error.to_string()))),
        (_, Err(error)) => findings.push(("lineage", Err(error.to_string()))),
    }
    if let Err(error) = fs::remove_dir_all(&directory) {
        tracing::debug!(%error, "the pins of a probe");
    }
    findings
}

fn traced<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
    point: &str,
    btf: &Btf,
) -> Result<&'a mut BtfTracePoint, KernelError> {
    let program = ebpf.program_mut(name).ok_or(KernelError::Missing(name))?;
    let program: &mut BtfTracePoint = program
        .try_into()
        .map_err(|source| program_error(name, source))?;
    program
        .load(point, btf)
        .map_err(|source| program_error(name, source))?;
    Ok(program)
}

fn trace(
    ebpf: &mut Ebpf,
    name: &'static str,
    point: &str,
    btf: &Btf,
) -> Result<FdLink, KernelError> {
    let program = traced(ebpf, name, point, btf)?;
    let link = program
        .attach()
        .and_then(|id| program.take_link(id))
        .map_err(|source| program_error(name, source))?;
    Ok(link.into())
}

/// The tracepoint in front of every copy into a TCP socket, by the names it had since Linux 6.16.
const SEND_POINTS: [&str; 2] = ["tcp_sendmsg_locked", "tcp_sendmsg_locked_tp"];

fn entered<'a>(ebpf: &'a mut Ebpf, btf: &Btf) -> Result<&'a mut FEntry, KernelError> {
    let name = names::SPEAK;
    let program = ebpf.program_mut(name).ok_or(KernelError::Missing(name))?;
    let program: &mut FEntry = program
        .try_into()
        .map_err(|source| program_error(name, source))?;
    program
        .load("tcp_sendmsg", btf)
        .map_err(|source| program_error(name, source))?;
    Ok(program)
}

/// Both fail on a kernel before 6.16 that takes no programs at function entries.
fn speak(ebpf: &mut Ebpf, btf: &Btf) -> Result<FdLink, KernelError> {
    for point in SEND_POINTS {
        match trace(ebpf, names::SPEAK_TRACE, point, btf) {
            Ok(link) => return Ok(link),
            Err(error) => tracing::debug!(point, %error, "no such tracepoint"),
        }
    }
    let program = entered(ebpf, btf)?;
    let link = program
        .attach()
        .and_then(|id| program.take_link(id))
        .map_err(|source| program_error(names::SPEAK, source))?;
    Ok(link.into())
}

/// One of the two ways is enough.
fn try_speak(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), String> {
    for point in SEND_POINTS {
        if traced(ebpf, names::SPEAK_TRACE, point, btf).is_ok() {
            return Ok(());
        }
    }
    entered(ebpf, btf)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Keeps a link for as long as its pin is there.
fn pin(link: FdLink, path: &Path) -> Result<(), KernelError> {
    // Of a run that was killed between pinning and switching over.
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(file(path, source)),
    }
    let pinned: Result<PinnedLink, _> = link.pin(path);
    pinned.map(drop).map_err(|error| match error {
        aya::pin::PinError::SyscallError(error) => file(path, error.io_error),
        other @ (aya::pin::PinError::NoFd { .. } | aya::pin::PinError::InvalidPinPath { .. }) => {
            file(path, io::Error::other(other))
        }
    })
}

const fn key(id: ProcessId, image: u32) -> ProcessKey {
    ProcessKey {
        tgid: id.pid,
        image,
        start_ns: id.start_boottime_ns,
    }
}

/// A record is written in place: only one that two looks agree on is whole.
fn whole(map: &HashMap<MapData, ProcessKey, Process>, key: &ProcessKey) -> Option<Process> {
    let mut before = map.get(key, 0).ok()?;
    for _ in 0..LOOKS_MAX {
        let now = map.get(key, 0).ok()?;
        if now == before && now.begun == now.done {
            return Some(now);
        }
        before = now;
    }
    None
}

/// `st_dev` of the kernel's own form.
fn device(s_dev: u32) -> u64 {
    libc::makedev(s_dev >> 20, s_dev & 0x000f_ffff)
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    let kept = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
    String::from_utf8_lossy(kept).into_owned()
}

fn record(id: ProcessId, raw: &Process) -> ProcessRecord {
    let kept = raw.argv.get(..raw.argv_bytes as usize).unwrap_or_default();
    // Every argument ends with a zero; the last one may be cut.
    let ended = kept.strip_suffix(&[0]).unwrap_or(kept);
    let argv = if kept.is_empty() {
        Vec::new()
    } else {
        ended.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
    };
    let has = |bit| raw.flags & bit != 0;
    let known = !has(flag::INHERITED) && !has(flag::NO_EXE);
    ProcessRecord {
        id,
        parent: ProcessId {
            pid: raw.parent_tgid,
            start_boottime_ns: raw.parent_start_ns,
        },
        execs: raw.execs,
        exe: known.then(|| (device(raw.exe_dev), raw.exe_inode)),
        path: text(&raw.path),
        argv,
        argv_cut: raw.argv_total > raw.argv_bytes || has(flag::NO_ARGV),
        since_ns: raw.since_ns,
        cgroup_id: raw.cgroup_id,
        uid: raw.uid,
        comm: text(&raw.comm),
        inherited: has(flag::INHERITED),
    }
}

/// Who speaks on redirected sockets, for the node.
pub struct Speakers(OwnedFd);

impl Speakers {
    #[must_use]
    pub const fn new(map: OwnedFd) -> Self {
        Self(map)
    }

    /// The process that sent last on a client's socket, and since when (`CLOCK_MONOTONIC`); `None`
    /// while that is the one that connected. Bytes that were received were sent before.
    ///
    /// # Errors
    /// The kernel does not answer.
    pub fn last(&self, socket_cookie: u64) -> io::Result<Option<(ProcessId, u32, u64)>> {
        let found: Option<Speaker> = sys::value(self.0.as_fd(), &socket_cookie)?;
        Ok(found.map(|speaker| {
            let id = ProcessId {
                pid: speaker.tgid,
                start_boottime_ns: speaker.start_ns,
            };
            (id, speaker.uid, speaker.since_ns)
        }))
    }
}
