//! The broker's loop.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, getsockopt, listen,
    socket, sockopt,
};
use nix::time::{ClockId, clock_gettime};
use weir_kernel::{ClassId, Refusal, Root, System};

use crate::cgroup;
use crate::config::{BrokerConfig, BrokerError, Members as Selector, file, system};
use crate::destinations::{Destinations, Told};
use crate::listeners::{PlaceId, Places, Scene, as_poll};
use crate::members::Members;
use crate::message::{
    Answer, Ask, Asked, ClassReport, FromBroker, RefusalReport, World, receive, send,
};
use crate::namespace::tcp_socket;
use crate::watch::Watch;
use crate::{evidence, tokens};

/// Version of the messages.
pub(crate) const MESSAGES_VERSION: u32 = 2;
/// A heartbeat is good for this long.
const HEARTBEAT_NS: u64 = 2_000_000_000;
/// Cgroups and devices say when they come; a process that changes its namespace does not.
const LOOK_EVERY_NS: u64 = 1_000_000_000;
/// Looks are at least this far apart, whatever a workload does to its cgroups.
const LOOK_APART_NS: u64 = 5_000_000;
/// Refusals that wait for the node; the oldest are dropped first, the counters are not.
const REFUSALS_WAITING_MAX: usize = 4096;
/// Refusals given out at once.
const REFUSALS_MAX: usize = 256;
/// The kernel's reason of a connect in a namespace without listeners.
const NO_LISTENER: &str = "no_listener";

struct Broker {
    config: BrokerConfig,
    mount: PathBuf,
    own_cgroup: PathBuf,
    system: System,
    places: Places,
    members: Members,
    destinations: Destinations,
    watch: Watch,
    /// Ids of the roots that programs are attached to.
    attached: Vec<u64>,
    refusals: VecDeque<Refusal>,
    /// Something was said since the last look.
    due: bool,
    looked_ns: u64,
    thorough_ns: u64,
    admin: UnixListener,
    node: Option<OwnedFd>,
}

/// Runs until `stop` turns true. On the way out nothing is detached: protected connects are
/// refused until a broker and a node are there again, or `weir uninstall` removes everything.
///
/// `ready` is called once everything is attached and the socket is there.
///
/// # Errors
/// What keeps it from starting; afterwards only the loss of its own sockets.
pub fn run(
    config: BrokerConfig,
    stop: &AtomicBool,
    ready: impl FnOnce(),
) -> Result<(), BrokerError> {
    let mount = cgroup::mount()?;
    let own_cgroup = cgroup::directory(&mount, &config.own_cgroup);
    let own_id = cgroup::make(&own_cgroup)?;
    // Before the first socket: sockets keep the cgroup that they were born in.
    cgroup::enter(&own_cgroup, std::process::id())?;
    mount_bpffs()?;
    fs::create_dir_all(&config.pins).map_err(|source| file(&config.pins, source))?;
    let mut kernel = System::load(&config.pins)?;
    kernel.set_own(own_id)?;
    let destinations = Destinations::new(&config);
    destinations.apply(&mut kernel)?;
    let listener = node_socket(&config)?;
    let admin = admin_socket(&config)?;
    let mut broker = Broker {
        places: Places::new(mount.clone(), &mut kernel)?,
        mount,
        own_cgroup,
        system: kernel,
        members: Members::default(),
        destinations,
        watch: Watch::new()?,
        attached: Vec::new(),
        refusals: VecDeque::new(),
        due: true,
        looked_ns: 0,
        thorough_ns: 0,
        admin,
        node: None,
        config,
    };
    broker.look()?;
    ready();
    while !stop.load(Ordering::Relaxed) {
        broker.turn(listener.as_fd())?;
    }
    broker.system.set_heartbeat(0)?;
    Ok(())
}

/// Mounts the BPF file system when nobody did.
fn mount_bpffs() -> Result<(), BrokerError> {
    let path = Path::new("/sys/fs/bpf");
    let text = fs::read_to_string("/proc/self/mounts").map_err(|source| file(path, source))?;
    if text
        .lines()
        .any(|line| line.split(' ').nth(1) == Some("/sys/fs/bpf"))
    {
        return Ok(());
    }
    nix::mount::mount(
        Some("bpf"),
        path,
        Some("bpf"),
        nix::mount::MsFlags::MS_NOSUID | nix::mount::MsFlags::MS_NODEV,
        Some("mode=0700"),
    )
    .map_err(|source| file(path, source))?;
    tracing::info!("mounted the BPF file system at /sys/fs/bpf");
    Ok(())
}

fn node_socket(config: &BrokerConfig) -> Result<OwnedFd, BrokerError> {
    let path = config.run_dir.join("broker.sock");
    remove(&path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made = || -> nix::Result<OwnedFd> {
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        bind(fd.as_raw_fd(), &UnixAddr::new(&path)?)?;
        listen(&fd, Backlog::new(4)?)?;
        Ok(fd)
    };
    let fd = made().map_err(|source| file(&path, source))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
        .map_err(|source| file(&path, source))?;
    Ok(fd)
}

fn admin_socket(config: &BrokerConfig) -> Result<UnixListener, BrokerError> {
    let path = config.run_dir.join("admin.sock");
    remove(&path)?;
    let listener = UnixListener::bind(&path).map_err(|source| file(&path, source))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
        .map_err(|source| file(&path, source))?;
    Ok(listener)
}

fn remove(path: &Path) -> Result<(), BrokerError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(file(path, source)),
    }
}

/// `CLOCK_MONOTONIC`, which is what `bpf_ktime_get_ns` reads.
fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap_or_else(|_| Duration::ZERO.into());
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap_or(0)
}

fn root_of((id, directory): &(u64, fs::File)) -> Root<'_> {
    Root {
        id: *id,
        directory: directory.as_fd(),
    }
}

impl Broker {
    fn turn(&mut self, listener: BorrowedFd<'_>) -> Result<(), BrokerError> {
        let (new_node, message) = {
            let mut fds = vec![PollFd::new(listener, PollFlags::POLLIN)];
            if let Some(node) = &self.node {
                fds.push(PollFd::new(node.as_fd(), PollFlags::POLLIN));
            }
            let told = fds.len();
            fds.push(PollFd::new(self.system.refusals_fd(), PollFlags::POLLIN));
            if !self.due {
                // They say so until somebody looks.
                fds.push(PollFd::new(self.watch.fd(), PollFlags::POLLIN));
                fds.extend(self.places.link_fds().map(as_poll));
            }
            match poll(&mut fds, self.patience()) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(source) => return Err(system("waiting", source)),
            }
            let readable = |index: usize| {
                fds.get(index)
                    .and_then(PollFd::revents)
                    .is_some_and(|events| !events.is_empty())
            };
            self.due |= (told + 1..fds.len()).any(readable);
            (readable(0), told == 2 && readable(1))
        };
        self.take_refusals();
        if message {
            self.node_message()?;
        }
        if new_node {
            self.node_arrives(listener);
        }
        if self.patience_ns(monotonic_ns()) == 0 {
            self.look()?;
        }
        Ok(())
    }

    /// Until the next look, when nothing more is said.
    fn patience_ns(&self, now: u64) -> u64 {
        let apart = if self.due {
            LOOK_APART_NS
        } else {
            LOOK_EVERY_NS
        };
        (self.looked_ns + apart).saturating_sub(now)
    }

    fn patience(&self) -> PollTimeout {
        // Up to the next millisecond: a look is then due.
        let ms = self.patience_ns(monotonic_ns()).div_ceil(1_000_000);
        PollTimeout::from(u16::try_from(ms).unwrap_or(u16::MAX))
    }

    /// A governed process that found no listener may be in a namespace that nobody has seen.
    fn take_refusals(&mut self) {
        for refusal in self.system.refusals(REFUSALS_MAX) {
            self.due |= refusal.reason == NO_LISTENER;
            if self.refusals.len() >= REFUSALS_WAITING_MAX {
                self.refusals.pop_front();
            }
            self.refusals.push_back(refusal);
        }
    }

    /// Attaches to the roots, which are made when they are not there: whoever comes into one that
    /// was removed and made again finds it governed.
    fn attach(&mut self) -> Result<(), BrokerError> {
        let open = |path: &Path| fs::File::open(path).map_err(|source| file(path, source));
        let mut directories = Vec::new();
        for path in &self.config.governed {
            let path = cgroup::directory(&self.mount, path);
            directories.push((cgroup::ensure(&path)?, open(&path)?));
        }
        let ids: Vec<u64> = directories.iter().map(|(id, _)| *id).collect();
        if ids == self.attached {
            return Ok(());
        }
        let own = (cgroup::id(&self.own_cgroup)?, open(&self.own_cgroup)?);
        let roots: Vec<Root<'_>> = directories.iter().map(root_of).collect();
        self.system.attach(&roots, &root_of(&own))?;
        self.attached = ids;
        Ok(())
    }

    fn look(&mut self) -> Result<(), BrokerError> {
        let now_ns = monotonic_ns();
        let thorough = now_ns.saturating_sub(self.thorough_ns) >= LOOK_EVERY_NS;
        self.watch.drain();
        self.attach()?;
        let scene = Scene {
            config: &self.config,
            members: &self.members,
            now_ns,
            thorough,
        };
        let changes = self.places.look(&scene, &mut self.system);
        // What was made while we looked is seen by the next look.
        self.due = self.watch.follow(&self.directories());
        self.looked_ns = now_ns;
        if thorough {
            self.thorough_ns = now_ns;
        }
        for (workload, netns) in changes.removed {
            self.tell(&FromBroker::ListenerGone { workload, netns }, &[]);
        }
        for id in changes.added {
            self.tell_listeners(id);
        }
        Ok(())
    }

    /// Every governed cgroup, and what the roots lie in.
    fn directories(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for path in &self.config.governed {
            let root = cgroup::directory(&self.mount, path);
            found.extend(root.parent().map(Path::to_owned));
            found.extend(cgroup::tree(&root, |_| true));
        }
        found
    }

    fn tell_listeners(&mut self, id: PlaceId) {
        let mut failed = false;
        if let (Some(node), Some(place)) = (&self.node, self.places.by_id.get(&id)) {
            for socket in &place.sockets {
                let message = FromBroker::Listener {
                    workload: place.workload.clone(),
                    netns: place.cookie,
                    addr: socket.addr,
                };
                failed |= send(node.as_fd(), &message, &[socket.fd.as_fd()]).is_err();
            }
        }
        if failed {
            self.node_leaves();
        }
    }

    fn tell(&mut self, message: &FromBroker, fds: &[BorrowedFd<'_>]) {
        let failed = self
            .node
            .as_ref()
            .is_some_and(|node| send(node.as_fd(), message, fds).is_err());
        if failed {
            self.node_leaves();
        }
    }

    /// One node at a time, and only root (before it drops) or the node's own user.
    fn node_arrives(&mut self, listener: BorrowedFd<'_>) {
        // Not blocking: a stopped node with a full buffer must not stop the broker.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = match accept4(listener.as_raw_fd(), flags) {
            Ok(fd) => crate::message::adopt_accepted(fd),
            Err(error) => {
                tracing::warn!(%error, "a node could not be accepted");
                return;
            }
        };
        let peer = match getsockopt(&fd, sockopt::PeerCredentials) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::warn!(%error, "a peer cannot be looked at");
                return;
            }
        };
        if peer.uid() != 0 && peer.uid() != self.config.node_uid {
            tracing::warn!(uid = peer.uid(), "a stranger at the broker's socket");
            return;
        }
        if self.node.is_some() {
            tracing::warn!("a second node was turned away");
            return;
        }
        let pid = u32::try_from(peer.pid()).unwrap_or(0);
        if let Err(error) = cgroup::enter(&self.own_cgroup, pid) {
            tracing::warn!(%error, "the node left before it was let in");
            return;
        }
        tracing::info!(pid, "a node is here");
        self.node = Some(fd);
    }

    fn node_leaves(&mut self) {
        tracing::warn!("the node is gone: protected connects are refused");
        self.node = None;
        if let Err(error) = self.system.set_heartbeat(0) {
            tracing::error!(%error, "the heartbeat cannot be stopped; it runs out by itself");
        }
    }

    fn node_message(&mut self) -> Result<(), BrokerError> {
        let Some(node) = &self.node else {
            return Ok(());
        };
        match receive::<Asked>(node.as_fd()) {
            Ok(Some((asked, _fds))) => self.answer(asked),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Ok(None) | Err(_) => {
                self.node_leaves();
                Ok(())
            }
        }
    }

    fn answer(&mut self, asked: Asked) -> Result<(), BrokerError> {
        let Asked { id, ask } = asked;
        match ask {
            Ask::Hello { abi } => self.hello(id, abi),
            Ask::Heartbeat => {
                self.system.set_heartbeat(monotonic_ns() + HEARTBEAT_NS)?;
                self.reply(id, Answer::Done, &[]);
                Ok(())
            }
            Ask::Upstream { netns, ipv6 } => {
                self.upstream(id, netns, ipv6);
                Ok(())
            }
            Ask::Token { workload } => {
                let answer = self.token(&workload);
                self.reply(id, answer, &[]);
                Ok(())
            }
            Ask::Process {
                pid,
                start_boottime_ns,
            } => {
                let answer = match evidence::gather(pid, start_boottime_ns, &self.config.governed) {
                    Some(report) => Answer::Process(Box::new(report)),
                    None => Answer::Refused("the process is gone".to_owned()),
                };
                self.reply(id, answer, &[]);
                Ok(())
            }
            Ask::Counts => {
                let reports = self.counts();
                self.reply(id, Answer::Counts(reports), &[]);
                Ok(())
            }
            Ask::Refusals => {
                let reports = self.refusals();
                self.reply(id, Answer::Refusals(reports), &[]);
                Ok(())
            }
            Ask::World(world) => {
                let answer = match self.told(world) {
                    Ok(()) => Answer::Done,
                    Err(text) => {
                        tracing::warn!(text, "what the node told was not taken");
                        Answer::Refused(text)
                    }
                };
                self.reply(id, answer, &[]);
                Ok(())
            }
        }
    }

    /// Members stand in the kernel's maps with the next look.
    fn told(&mut self, world: World) -> Result<(), String> {
        match world {
            World::Member(report) => {
                let class = report.workload.as_deref();
                let class = class.and_then(|name| self.told_class(name));
                let put = self.members.put(&report, class);
                put.map_err(|error| error.to_string())?;
            }
            World::MemberGone { id } => self.members.remove(&id),
            World::MembersComplete => {
                self.members.complete();
                return self.look().map_err(|error| error.to_string());
            }
            World::Target {
                name,
                found,
                complete,
            } => {
                let told = Told { found, complete };
                let set = self.destinations.set_target(&name, told, &mut self.system);
                return set.map_err(|error| error.to_string());
            }
            World::Allowed {
                workload,
                found,
                complete,
            } => {
                let class = self.class_of(&workload).unwrap_or(ClassId::NONE);
                let (told, of) = (Told { found, complete }, (class.0, workload.as_str()));
                let set = self.destinations.set_allowed(of, told, &mut self.system);
                return set.map_err(|error| error.to_string());
            }
        }
        self.due = true;
        Ok(())
    }

    fn class_of(&self, name: &str) -> Option<ClassId> {
        let mut all = (1..).map(ClassId).zip(&self.config.workloads);
        all.find(|(_, workload)| workload.name == name)
            .map(|(class, _)| class)
    }

    /// Of a workload whose members the node tells of, and no other: a cgroup of the configuration
    /// is nobody's to give away.
    fn told_class(&self, name: &str) -> Option<ClassId> {
        let mut workloads = self.config.workloads.iter();
        let told = workloads.any(|one| one.name == name && one.members == Selector::Told);
        self.class_of(name).filter(|_| told)
    }

    fn reply(&mut self, id: u64, answer: Answer, fds: &[BorrowedFd<'_>]) {
        self.tell(&FromBroker::Answer { id, answer }, fds);
    }

    fn hello(&mut self, id: u64, abi: u32) -> Result<(), BrokerError> {
        if abi != MESSAGES_VERSION {
            let text = format!("the node speaks version {abi}, the broker {MESSAGES_VERSION}");
            self.reply(id, Answer::Refused(text), &[]);
            return Ok(());
        }
        let map = self.system.accepted_map()?;
        let admin = self
            .admin
            .try_clone()
            .map_err(|source| system("admin socket", source))?;
        self.members.begin();
        self.reply(id, Answer::Hello, &[map.as_fd(), admin.as_fd()]);
        let ids: Vec<PlaceId> = self.places.by_id.keys().copied().collect();
        for id in ids {
            self.tell_listeners(id);
        }
        Ok(())
    }

    fn upstream(&mut self, id: u64, netns: u64, ipv6: bool) {
        let made = match self.places.namespace(netns) {
            Some(namespace) => namespace.visit(|| tcp_socket(ipv6)),
            None => Err(io::Error::other("that namespace is not served")),
        };
        match made {
            Ok(socket) => self.reply(id, Answer::Upstream, &[socket.as_fd()]),
            Err(error) => self.reply(id, Answer::Refused(error.to_string()), &[]),
        }
    }

    fn token(&self, name: &str) -> Answer {
        match self
            .config
            .workloads
            .iter()
            .find(|workload| workload.name == name)
        {
            Some(workload) => match tokens::read(&workload.token_file) {
                Ok(token) => Answer::Token(token),
                Err(error) => Answer::Refused(format!("the token file: {error}")),
            },
            None => Answer::Refused("no such workload".to_owned()),
        }
    }

    fn workload_of(&self, class: u32) -> String {
        let index = usize::try_from(class)
            .ok()
            .and_then(|class| class.checked_sub(1));
        index
            .and_then(|index| self.config.workloads.get(index))
            .map(|workload| workload.name.clone())
            .unwrap_or_default()
    }

    fn counts(&self) -> Vec<ClassReport> {
        let classes = u32::try_from(self.config.workloads.len()).unwrap_or(0);
        (0..=classes)
            .map(|class| {
                let counts = self.system.counts(class);
                ClassReport {
                    workload: self.workload_of(class),
                    redirected: counts.redirected,
                    published: counts.published,
                    missed: counts.missed,
                    accepted: counts.accepted,
                    orphaned: counts.orphaned,
                    lost: counts.lost,
                    refused: counts
                        .refused
                        .into_iter()
                        .map(|(reason, count)| (reason.to_owned(), count))
                        .collect(),
                }
            })
            .collect()
    }

    fn refusals(&mut self) -> Vec<RefusalReport> {
        let count = self.refusals.len().min(REFUSALS_MAX);
        let found: Vec<Refusal> = self.refusals.drain(..count).collect();
        found
            .into_iter()
            .map(|refusal| RefusalReport {
                reason: refusal.reason.to_owned(),
                destination: refusal.destination,
                workload: self.workload_of(refusal.class),
                pid: refusal.pid,
                uid: refusal.uid,
                comm: refusal.comm,
                cgroup_id: refusal.cgroup_id,
            })
            .collect()
    }
}
