//! Real eBPF on a real cgroup, over loopback: refusal without an enforcer, redirect with one, the
//! origin on the accepted socket, and nothing left behind. Needs root and a kernel that loads the
//! programs; it fails, and is not skipped, where that is not so.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use weir_kernel::{ClassId, ListenerEntry, Origins, OwnHeartbeat, Root, System, uninstall};

const CLASS: ClassId = ClassId(1);

/// Two cgroups and a pin directory, removed at the end whatever happens.
struct Ground {
    root: PathBuf,
    governed: PathBuf,
    own: PathBuf,
    home: PathBuf,
    pins: PathBuf,
}

impl Ground {
    fn new() -> Self {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = text
            .lines()
            .find_map(|line| {
                let (before, after) = line.split_once(" - ")?;
                after
                    .starts_with("cgroup2 ")
                    .then(|| before.split(' ').nth(4).unwrap().to_owned())
            })
            .expect("cgroup v2 is mounted");
        let own_path = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own_path = own_path
            .lines()
            .find_map(|line| line.strip_prefix("0::"))
            .unwrap();
        let home = Path::new(&mount).join(own_path.trim_start_matches('/'));
        let root = Path::new(&mount).join(format!("weir-kernel-test-{}", std::process::id()));
        let (governed, own) = (root.join("governed"), root.join("own"));
        fs::create_dir_all(&governed).unwrap();
        fs::create_dir_all(&own).unwrap();
        let pins = PathBuf::from(format!(
            "/sys/fs/bpf/weir-kernel-test-{}",
            std::process::id()
        ));
        if !fs::read_to_string("/proc/self/mounts")
            .unwrap()
            .contains(" /sys/fs/bpf bpf ")
        {
            let none: Option<&str> = None;
            let flags = nix::mount::MsFlags::empty();
            nix::mount::mount(none, "/sys/fs/bpf", Some("bpf"), flags, none).unwrap();
        }
        fs::write(own.join("cgroup.procs"), std::process::id().to_string()).unwrap();
        Self {
            root,
            governed,
            own,
            home,
            pins,
        }
    }

    /// A connect from inside the governed cgroup: exit 0 and what the listener said, or not.
    fn connect(&self, addr: SocketAddr) -> Output {
        let script = format!(
            "echo $$ > {}/cgroup.procs && exec 3<>/dev/tcp/{}/{} && head -c 5 <&3",
            self.governed.display(),
            addr.ip(),
            addr.port()
        );
        Command::new("bash").args(["-c", &script]).output().unwrap()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        uninstall(&self.pins).unwrap();
        fs::write(
            self.home.join("cgroup.procs"),
            std::process::id().to_string(),
        )
        .unwrap();
        for path in [&self.governed, &self.own, &self.root] {
            fs::remove_dir(path).unwrap();
        }
        assert!(!self.pins.exists(), "pins are left");
    }
}

/// Greets whoever connects, until dropped with the process.
fn greeter() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // The client may be gone already.
            let _gone = stream.unwrap().write_all(b"hello");
        }
    });
    addr
}

fn root(directory: &fs::File) -> Root<'_> {
    Root {
        id: directory.metadata().unwrap().ino(),
        directory: directory.as_fd(),
    }
}

fn monotonic_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

fn refused(system: &System, reason: &str) -> u64 {
    let counts = system.counts(CLASS.0);
    counts
        .refused
        .iter()
        .find(|(label, _)| *label == reason)
        .map_or(0, |(_, count)| *count)
}

#[test]
fn a_protected_connect_is_refused_without_an_enforcer_and_redirected_with_one() {
    let ground = Ground::new();
    let (governed, own) = (
        fs::File::open(&ground.governed).unwrap(),
        fs::File::open(&ground.own).unwrap(),
    );
    let protected = greeter();
    let open = greeter();
    assert!(
        ground.connect(protected).status.success(),
        "the control case fails without Weir"
    );

    let mut system = System::load(&ground.pins).unwrap();
    system.set_own(own.metadata().unwrap().ino()).unwrap();
    system
        .set_class(governed.metadata().unwrap().ino(), CLASS)
        .unwrap();
    system
        .protect(CLASS.0, protected.ip(), 32, protected.port())
        .unwrap();

    system.attach(&[root(&governed)], &root(&own)).unwrap();
    assert!(
        !ground.connect(protected).status.success(),
        "direct without an enforcer"
    );
    assert_eq!(
        refused(&system, "no_heartbeat"),
        1,
        "it was not our program that refused"
    );
    assert!(
        ground.connect(open).status.success(),
        "an unprotected connect is touched"
    );

    system
        .set_heartbeat(monotonic_ns() + 60_000_000_000)
        .unwrap();
    assert!(
        !ground.connect(protected).status.success(),
        "direct without a listener"
    );
    assert_eq!(refused(&system, "no_listener"), 1);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let cookie = weir_kernel::netns_cookie(listener.as_fd()).unwrap();
    let entry = ListenerEntry {
        class: CLASS,
        v4: Some((Ipv4Addr::LOCALHOST, port)),
        v6: None,
    };
    system.set_listeners(cookie, &entry).unwrap();
    let origins = Origins::new(system.accepted_map().unwrap());
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let origin = origins.lookup(stream.as_fd()).unwrap();
        stream.write_all(b"weir!").unwrap();
        (origin, listener, origins)
    });
    let answered = ground.connect(protected);
    assert_eq!(answered.stdout, b"weir!", "the connect was not redirected");
    let (origin, listener, origins) = serving.join().unwrap();
    let origin = origin.expect("the accepted socket has an origin");
    assert_eq!(origin.dst.0, protected);
    assert_eq!(origin.cgroup.0, governed.metadata().unwrap().ino());
    assert_eq!(origin.comm, "bash");
    assert_eq!(system.counts(CLASS.0).redirected, 1);

    // Straight to the listener: refused from inside, without an origin from outside.
    let direct = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    assert!(
        !ground.connect(direct).status.success(),
        "a governed process reached the listener"
    );
    let mut outside = std::net::TcpStream::connect(direct).unwrap();
    let (stream, _) = listener.accept().unwrap();
    assert!(
        origins.lookup(stream.as_fd()).unwrap().is_none(),
        "an origin out of nothing"
    );
    drop(stream);
    assert_eq!(outside.read(&mut [0; 1]).unwrap(), 0);

    // As the node does while no broker is there.
    let own_heartbeat = OwnHeartbeat::new(system.heartbeat_map().unwrap());
    own_heartbeat.set(1).unwrap();
    assert_eq!(system.heartbeat().unwrap().deadline().unwrap(), 1);
    // Each descriptor that a node is given is good for one thing.
    let read = Origins::new(system.heartbeat_map().unwrap()).lookup(outside.as_fd());
    let written = OwnHeartbeat::new(system.accepted_map().unwrap()).set(1);
    for refused in [read.map(drop), written] {
        let kind = refused.unwrap_err().kind();
        assert_eq!(kind, std::io::ErrorKind::PermissionDenied);
    }
    assert!(
        !ground.connect(protected).status.success(),
        "direct after the deadline"
    );
    assert_eq!(refused(&system, "no_heartbeat"), 2);

    // A second start takes the pinned links over; the counters live on.
    drop(system);
    let mut system = System::load(&ground.pins).unwrap();
    system.set_own(own.metadata().unwrap().ino()).unwrap();
    system
        .set_class(governed.metadata().unwrap().ino(), CLASS)
        .unwrap();
    system.attach(&[root(&governed)], &root(&own)).unwrap();
    assert!(
        !ground.connect(protected).status.success(),
        "direct after a take-over"
    );
    assert_eq!(refused(&system, "no_heartbeat"), 3);

    // It goes on by what the first one wrote, until that is forgotten: then it is nobody's.
    let class = || system.classed().into_iter().map(|(_, class)| class);
    assert!(class().eq([CLASS]), "the class was lost by a start");
    assert_eq!(system.listening(), [(cookie, CLASS)]);
    system.forget().unwrap();
    let class = || system.classed().into_iter().map(|(_, class)| class);
    assert!(class().eq([ClassId::NONE]));
    assert_eq!(system.listening(), []);
    assert_eq!(system.host_listening(), []);

    system.retain_destinations(&[]);
    assert!(
        ground.connect(protected).status.success(),
        "a dropped target stays protected"
    );
}

#[test]
fn every_program_loads_on_this_kernel() {
    for probe in weir_kernel::probe() {
        let fine = probe.works || !probe.required;
        assert!(fine, "{}: {}", probe.what, probe.detail);
    }
}
