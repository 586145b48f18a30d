//! What a container runtime does for a pod: mounts, `/dev`, `/proc`, capabilities, first process.
//!
//! The host's root stays visible but cannot be written (as with `readOnlyRootFilesystem`), `/tmp`
//! is shared, changes below the home folder are thrown away, and no mount but our own `/dev`
//! honours device nodes, because CAP_MKNOD without a device cgroup would open every disk.

mod mounts;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use caps::{CapSet, Capability, CapsHashSet};
use clap::Args;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::{Gid, Pid, Uid, User, setgid, setgroups, setuid};

pub(crate) use mounts::{bind, build as build_mounts};

/// containerd's default bounding set: neither SYS_ADMIN nor NET_ADMIN.
const CAPABILITIES: [Capability; 14] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FSETID,
    Capability::CAP_FOWNER,
    Capability::CAP_MKNOD,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_KILL,
    Capability::CAP_AUDIT_WRITE,
];

/// Parts of `/proc` that act on the whole machine, as runtimes have them.
const PROC_READ_ONLY: [&str; 5] = [
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/irq",
    "/proc/bus",
    "/proc/fs",
];
const PROC_HIDDEN: [&str; 5] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/timer_list",
    "/proc/kallsyms",
    "/proc/kmsg",
];

#[derive(Args)]
pub(crate) struct InsideArgs {
    #[arg(long)]
    uid: u32,
    #[arg(long)]
    gid: u32,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<String>,
}

/// Whom the command runs as.
pub(crate) struct AgentUser {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) home: String,
}

/// A name or a number; a number need not have a name.
pub(crate) fn find_user(text: &str) -> Result<AgentUser> {
    let known = match text.parse::<u32>() {
        Ok(uid) => User::from_uid(Uid::from_raw(uid))
            .context("looking the user up")?
            .or_else(|| {
                Some(User {
                    name: text.to_owned(),
                    passwd: std::ffi::CString::default(),
                    uid: Uid::from_raw(uid),
                    gid: Gid::from_raw(uid),
                    gecos: std::ffi::CString::default(),
                    dir: "/tmp".into(),
                    shell: "/bin/sh".into(),
                })
            }),
        Err(_) => User::from_name(text).context("looking the user up")?,
    };
    let user = known.with_context(|| format!("no user '{text}'"))?;
    let home = if user.dir.is_dir() {
        user.dir.display().to_string()
    } else {
        "/tmp".to_owned()
    };
    Ok(AgentUser {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
        home,
    })
}

/// The first process of the agent's pid namespace: gives up what a container lacks, starts the
/// command, takes in orphans, ends with the command's exit code.
pub(crate) fn inside(args: &InsideArgs) -> Result<ExitCode> {
    if nix::unistd::getpid() != Pid::from_raw(1) {
        bail!("lab inside is started by lab exec");
    }
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("ending with lab exec")?;
    own_proc()?;
    give_up(args.uid, args.gid)?;
    super::exec::keys()
        .thread_unblock()
        .context("unblocking signals")?;
    let (program, arguments) = args.command.split_first().context("a command")?;
    let child = match Command::new(program).args(arguments).spawn() {
        Ok(child) => Pid::from_raw(i32::try_from(child.id()).context("a pid fits")?),
        Err(error) => {
            crate::say::note(format!("{program}: {error}"));
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            return Ok(ExitCode::from(if missing { 127 } else { 126 }));
        }
    };
    loop {
        let ended = wait().context("waiting for the command")?;
        if ended.pid() != Some(child) {
            continue;
        }
        if let WaitStatus::Exited(_, code) = ended {
            return Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)));
        }
        if let WaitStatus::Signaled(_, signal, _) = ended {
            return Ok(ExitCode::from(
                u8::try_from(128 + signal as i32).unwrap_or(1),
            ));
        }
    }
}

fn own_proc() -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>).context("mounting /proc")?;
    for path in PROC_READ_ONLY {
        if Path::new(path).exists() {
            bind(Path::new(path), Path::new(path))?;
            mounts::change(Path::new(path), flags | MsFlags::MS_RDONLY)?;
        }
    }
    for path in PROC_HIDDEN {
        if Path::new(path).exists() {
            bind(Path::new("/dev/null"), Path::new(path))?;
        }
    }
    Ok(())
}

fn give_up(uid: u32, gid: u32) -> Result<()> {
    let kept: CapsHashSet = CAPABILITIES.into_iter().collect();
    for capability in caps::all() {
        if !kept.contains(&capability) && caps::has_cap(None, CapSet::Bounding, capability)? {
            caps::drop(None, CapSet::Bounding, capability)
                .with_context(|| format!("dropping {capability}"))?;
        }
    }
    caps::clear(None, CapSet::Ambient).context("dropping ambient capabilities")?;
    caps::clear(None, CapSet::Inheritable).context("dropping inheritable capabilities")?;
    setgroups(&[Gid::from_raw(gid)]).context("setting groups")?;
    setgid(Gid::from_raw(gid)).context("setting the group")?;
    caps::set(None, CapSet::Effective, &kept).context("dropping capabilities")?;
    caps::set(None, CapSet::Permitted, &kept).context("dropping capabilities")?;
    setuid(Uid::from_raw(uid)).context("setting the user")
}
