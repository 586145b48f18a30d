//! What `weir node` gives up before it reads a byte of anybody's.
//!
//! Own uid, no capabilities, no new privileges, Landlock on files, seccomp on calls that a node
//! never makes. Started without root (a unit with `User=`), it does what is left to do.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr,
};
use nix::unistd::{Gid, Uid, User, setgroups, setresgid, setresuid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// A node's only uses of `bpf(2)`: `BPF_MAP_LOOKUP_ELEM` reads an accepted socket's origin, and
/// `BPF_MAP_UPDATE_ELEM` says that the node lives while no broker is there. What can be read or
/// written is a matter of the descriptors that the broker passed, each good for one of the two.
const BPF_COMMANDS: [u64; 2] = [1, 2];

/// Directories that the node may use after the drop.
pub(crate) struct Reach {
    pub(crate) read_write: Vec<PathBuf>,
    pub(crate) read_only: Vec<PathBuf>,
}

/// Looks a user up.
pub(crate) fn user(name: &str) -> Result<(Uid, Gid)> {
    let user = User::from_name(name)
        .with_context(|| format!("looking up user {name}"))?
        .with_context(|| format!("there is no user {name}: create it, or set node.user"))?;
    if user.uid.is_root() {
        bail!("node.user must not be root: the node parses hostile bytes");
    }
    Ok((user.uid, user.gid))
}

/// Memory that holds secrets is never written to a file by the kernel, nor read by another process.
pub(crate) fn no_core_dumps() -> Result<()> {
    use nix::sys::resource::{Resource, setrlimit};
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("refusing core dumps")?;
    nix::sys::prctl::set_dumpable(false).context("refusing core dumps")
}

/// Gives everything up, for good. Call before any thread is started.
pub(crate) fn drop_all(user_name: &str, reach: &Reach) -> Result<()> {
    if Uid::effective().is_root() {
        let (uid, gid) = user(user_name)?;
        setgroups(&[]).context("dropping supplementary groups")?;
        setresgid(gid, gid, gid).context("changing group")?;
        setresuid(uid, uid, uid).context("changing user")?;
    }
    for set in [
        caps::CapSet::Ambient,
        caps::CapSet::Inheritable,
        caps::CapSet::Effective,
        caps::CapSet::Permitted,
    ] {
        caps::clear(None, set).context("dropping capabilities")?;
    }
    if Uid::effective().is_root() {
        bail!("weir node must not run as root: set node.user to an unprivileged user");
    }
    nix::sys::prctl::set_no_new_privs().context("setting no_new_privs")?;
    nix::sys::prctl::set_dumpable(false).context("refusing to be traced")?;
    landlock_files(reach)?;
    seccomp_calls()
}

fn landlock_files(reach: &Reach) -> Result<()> {
    let abi = ABI::V3;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .context("landlock")?
        .create()
        .context("landlock")?;
    let read = AccessFs::from_read(abi) & !AccessFs::Execute;
    for path in &reach.read_only {
        if let Ok(fd) = PathFd::new(path) {
            ruleset = ruleset
                .add_rule(PathBeneath::new(fd, read))
                .context("landlock rule")?;
        }
    }
    for path in &reach.read_write {
        let fd = PathFd::new(path).with_context(|| format!("opening {}", path.display()))?;
        let all = AccessFs::from_all(abi) & !AccessFs::Execute;
        ruleset = ruleset
            .add_rule(PathBeneath::new(fd, all))
            .context("landlock rule")?;
    }
    let status = ruleset.restrict_self().context("landlock")?;
    if status.ruleset == landlock::RulesetStatus::NotEnforced {
        tracing::warn!("this kernel has no Landlock: files are fenced by ownership only");
    }
    Ok(())
}

/// Calls that a node never makes; each answers EPERM.
const REFUSED_CALLS: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_perf_event_open,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_userfaultfd,
    libc::SYS_open_by_handle_at,
    libc::SYS_io_uring_setup,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_sethostname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
];

fn seccomp_calls() -> Result<()> {
    let mut rules: std::collections::BTreeMap<i64, Vec<SeccompRule>> = REFUSED_CALLS
        .iter()
        .map(|call| (*call, Vec::new()))
        .collect();
    let mut others = Vec::new();
    for command in BPF_COMMANDS {
        let (dword, other) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Ne);
        let condition = SeccompCondition::new(0, dword, other, command);
        others.push(condition.context("seccomp condition")?);
    }
    let rule = SeccompRule::new(others).context("seccomp rule")?;
    rules.insert(libc::SYS_bpf, vec![rule]);
    let arch = std::env::consts::ARCH
        .try_into()
        .context("seccomp on this architecture")?;
    let refused = u32::try_from(libc::EPERM).unwrap_or(1);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(refused),
        arch,
    )
    .context("seccomp filter")?;
    let program: BpfProgram = filter.try_into().context("compiling the seccomp filter")?;
    seccompiler::apply_filter_all_threads(&program).context("applying the seccomp filter")
}
