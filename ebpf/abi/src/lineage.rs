//! What the lineage programs record of processes, and of who speaks on a redirected socket.

/// Bytes of the path that are kept.
pub const PATH_BYTES: usize = 128;
/// Bytes of the argument vector that are kept, less one.
pub const ARGV_BYTES: usize = 512;

/// Living processes. A full map is counted in [`Lost::Process`].
pub const PROCESSES_MAX: u32 = 65_536;
/// Images that ended, by exit or by another exec; the oldest are forgotten.
pub const PAST_MAX: u32 = 16_384;
/// Redirected sockets that somebody else than their maker spoke on; the oldest are forgotten.
pub const SPEAKERS_MAX: u32 = 16_384;

/// `image` of a living process' present image.
pub const PRESENT: u32 = 0;
/// `image` under which the last image of a process that has ended is kept.
pub const LAST: u32 = u32::MAX;

/// Key of `PROCESSES` and `PAST`: one process, whatever happens to its number later.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProcessKey {
    /// Thread group id in the initial pid namespace.
    pub tgid: u32,
    /// [`PRESENT`] in `PROCESSES`. In `PAST` the number of execs before the image ended, plus one,
    /// or [`LAST`].
    pub image: u32,
    /// `start_boottime` of the thread group leader, nanoseconds.
    pub start_ns: u64,
}

/// One image of a process. Written in place: a copy is whole when `begun` equals `done` and a
/// second look gives the same bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pub begun: u32,
    /// Execs that were seen.
    pub execs: u32,
    pub parent_tgid: u32,
    /// `s_dev` as the kernel writes it: major << 20 | minor.
    pub exe_dev: u32,
    pub parent_start_ns: u64,
    pub exe_inode: u64,
    /// `CLOCK_MONOTONIC` of the exec; of the fork when there was none.
    pub since_ns: u64,
    /// Of the task that forked or executed.
    pub cgroup_id: u64,
    pub uid: u32,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Bytes of `argv` that are set, and what there was.
    pub argv_bytes: u32,
    pub argv_total: u32,
    pub comm: [u8; 16],
    /// The binary as it was opened, ended by zero: a link, or a relative path. For a script that
    /// of its interpreter.
    pub path: [u8; PATH_BYTES],
    pub argv: [u8; ARGV_BYTES],
    pub done: u32,
    pub pad: u32,
}

/// Bits of [`Process::flags`].
pub mod flag {
    /// Forked from a process that was there before the programs were, so its image is not here.
    pub const INHERITED: u32 = 1;
    /// The argument vector could not be read.
    pub const NO_ARGV: u32 = 2;
    /// The executable's inode could not be read.
    pub const NO_EXE: u32 = 4;
}

/// Value of `SPEAKERS`, by cookie of the client's socket: who sent last, when that is another
/// process than the one that connected.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaker {
    pub start_ns: u64,
    /// `CLOCK_MONOTONIC`.
    pub since_ns: u64,
    pub tgid: u32,
    pub uid: u32,
}

/// Index into the per-CPU counters of what could not be kept.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// `PROCESSES` was full.
    Process = 0,
    /// An argument vector could not be read.
    Argv = 1,
    /// A speaker could not be kept.
    Speaker = 2,
}

/// Number of [`Lost`] counters.
pub const LOST: u32 = 3;

/// Offsets of kernel struct members, bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets {
    pub task_pid: u32,
    pub task_tgid: u32,
    pub task_real_parent: u32,
    pub task_group_leader: u32,
    pub task_start_boottime: u32,
    pub task_signal: u32,
    pub task_mm: u32,
    pub signal_live: u32,
    pub mm_arg_start: u32,
    pub mm_arg_end: u32,
    pub bprm_file: u32,
    pub bprm_interp: u32,
    pub file_inode: u32,
    pub inode_ino: u32,
    pub inode_sb: u32,
    pub sb_dev: u32,
}

/// Programs, maps and globals of the lineage object.
pub mod names {
    pub const EXEC: &str = "weir_exec";
    pub const FORK: &str = "weir_fork";
    pub const EXIT: &str = "weir_exit";
    /// Two ways to see a sender: a tracepoint, and where there is none the function's entry.
    pub const SPEAK_TRACE: &str = "weir_speak_tp";
    pub const SPEAK: &str = "weir_speak";

    pub const PROCESSES: &str = "PROCESSES";
    pub const PAST: &str = "PAST";
    pub const SPEAKERS: &str = "SPEAKERS";
    pub const LOST: &str = "LOST";
    /// Index 0: the generation whose programs work; others return at once.
    pub const ACTIVE: &str = "ACTIVE";
    pub const GENERATION: &str = "GENERATION";
    pub const OFFSETS: &str = "OFFSETS";
}

const _: () = assert!(size_of::<ProcessKey>() == 16);
const _: () = assert!(size_of::<Process>() == 728);
const _: () = assert!(size_of::<Speaker>() == 24);
const _: () = assert!(size_of::<Offsets>() == 64);
