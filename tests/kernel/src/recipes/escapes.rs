//! Out of the namespace, out of the cgroup, and hands on Weir's own objects.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::Expect::{Dropped, Impossible, Redirected};
use super::{Carry, Expect, Recipe, Scene, reach, recipe};
use crate::{calls, jail};

const NO: Expect = Impossible;

pub(super) const TABLE: &[Recipe] = &[
    recipe(
        "unshare_net",
        "a network namespace of one's own",
        NO,
        |s, _| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            reach(s.v4())
        },
    ),
    recipe(
        "unshare_user_net",
        "the same in a user namespace",
        NO,
        |s, _| {
            unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
            reach(s.v4())
        },
    ),
    recipe(
        "enter_other_net",
        "setns to a namespace without Weir",
        NO,
        |s, _| {
            jail::enter_namespace(outside_net().as_ref())?;
            reach(s.v4())
        },
    ),
    Recipe {
        name: "enter_passed_net",
        tries: "setns by a descriptor that was passed in",
        expect: NO,
        before: |_| {
            Ok(Carry {
                socket: Some(OwnedFd::from(fs::File::open(outside_net())?)),
                pid: None,
            })
        },
        attack: |s, c| {
            let file = c.socket.ok_or(io::ErrorKind::NotFound)?;
            nix::sched::setns(file, CloneFlags::CLONE_NEWNET)?;
            reach(s.v4())
        },
    },
    recipe(
        "user_namespace",
        "connect from a user namespace",
        Redirected,
        |s, _| {
            unshare(CloneFlags::CLONE_NEWUSER)?;
            reach(s.v4())
        },
    ),
    recipe(
        "cgroup_namespace",
        "a cgroup tree of one's own, a child of it",
        Redirected,
        |s, _| {
            own_cgroup_tree()?;
            reach(s.v4())
        },
    ),
    recipe(
        "leave_cgroup",
        "writing the root's cgroup.procs",
        NO,
        |s, _| {
            leave_cgroup()?;
            reach(s.v4())
        },
    ),
    recipe(
        "mount_cgroupfs",
        "mounting the host's cgroup tree",
        NO,
        |s, _| {
            let none: Option<&str> = None;
            mount(none, "/tmp", Some("cgroup2"), MsFlags::empty(), none)?;
            reach(s.v4())
        },
    ),
    Recipe {
        name: "moved_out_of_cgroup",
        tries: "a host root that moves the attempt out",
        expect: Dropped(&["device_egress"]),
        before: |_| {
            let root = nix::fcntl::OFlag::O_WRONLY;
            let path = cgroup_root()?.join("cgroup.procs");
            let file = nix::fcntl::open(&path, root, nix::sys::stat::Mode::empty())?;
            Ok(Carry {
                socket: Some(file),
                pid: None,
            })
        },
        attack: |s, c| {
            let file = c.socket.ok_or(io::ErrorKind::NotFound)?;
            nix::unistd::write(&file, b"0")?;
            reach(s.v4())
        },
    },
    recipe("mount_bpffs", "mounting the BPF file system", NO, |s, _| {
        let none: Option<&str> = None;
        mount(none, "/tmp", Some("bpf"), MsFlags::empty(), none)?;
        reach(s.v4())
    }),
    recipe(
        "bpf_links",
        "walking the links of the system",
        NO,
        |s, _| {
            // BPF_LINK_GET_NEXT_ID.
            calls::bpf_ids(31)?;
            reach(s.v4())
        },
    ),
    recipe("bpf_maps", "walking the maps of the system", NO, |s, _| {
        // BPF_MAP_GET_NEXT_ID.
        calls::bpf_ids(12)?;
        reach(s.v4())
    }),
    recipe("device_down", "changing the device", NO, |s, _| {
        command(s, &["ip", "link", "set", "eth0", "mtu", "1400"])
    }),
    recipe(
        "device_filter",
        "removing the device's filters",
        NO,
        |s, _| {
            command(
                s,
                &["tc", "qdisc", "replace", "dev", "eth0", "root", "pfifo"],
            )
        },
    ),
    recipe("device_new", "a second device on the first", NO, |s, _| {
        command(
            s,
            &[
                "ip", "link", "add", "mv0", "link", "eth0", "type", "macvlan",
            ],
        )
    }),
    recipe("device_tun", "a tunnel device", NO, |s, _| {
        command(s, &["ip", "tuntap", "add", "tun9", "mode", "tun"])
    }),
    recipe("route", "a route of one's own", NO, |s, _| {
        command(s, &["ip", "route", "add", "10.99.0.10/32", "dev", "lo"])
    }),
    recipe(
        "ptrace_outside",
        "ptrace of a process of the host",
        NO,
        |s, _| {
            calls::ptrace_attach(outside())?;
            reach(s.v4())
        },
    ),
    recipe(
        "fd_of_outside",
        "pidfd_getfd on a process of the host",
        NO,
        |s, _| {
            let process = calls::plain(libc::SYS_pidfd_open, [outside().into(), 0, 0])?;
            calls::plain(libc::SYS_pidfd_getfd, [process, 0, 0])?;
            reach(s.v4())
        },
    ),
];

/// Whoever started the attempt: host root, in the host's namespaces.
fn outside() -> i32 {
    nix::unistd::getppid().as_raw()
}

fn outside_net() -> String {
    format!("/proc/{}/ns/net", outside())
}

fn command(scene: &Scene, words: &[&str]) -> io::Result<String> {
    let (name, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let output = Command::new(name).args(arguments).output()?;
    if !output.status.success() {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    reach(scene.v4())
}

/// The host's tree; only the step before the jail can see it.
fn cgroup_root() -> io::Result<std::path::PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo")?;
    let found = text.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        after
            .starts_with("cgroup2 ")
            .then(|| before.split(' ').nth(4))?
    });
    found
        .map(Into::into)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

fn leave_cgroup() -> io::Result<()> {
    for place in [
        "/sys/fs/cgroup/cgroup.procs",
        "/sys/fs/cgroup/unified/cgroup.procs",
    ] {
        if fs::write(place, "0").is_ok() {
            return Ok(());
        }
    }
    Err(io::Error::from_raw_os_error(libc::ENOENT))
}

/// A user namespace may mount the tree as its cgroup namespace shows it.
fn own_cgroup_tree() -> io::Result<()> {
    let flags = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWCGROUP | CloneFlags::CLONE_NEWNS;
    unshare(flags)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", "0 0 1")?;
    fs::write("/proc/self/gid_map", "0 0 1")?;
    let none: Option<&str> = None;
    mount(none, "/tmp", Some("cgroup2"), MsFlags::empty(), none)?;
    let child = std::path::Path::new("/tmp").join(format!("child-{}", std::process::id()));
    fs::create_dir(&child)?;
    fs::write(child.join("cgroup.procs"), "0")
}
