//! The broker's loop.

mod attest;
mod join;
mod look;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::time::{ClockId, clock_gettime};
use weir_kernel::{Lineage, Refusal, System};
use weir_model::flow::ProcessAsk;

use crate::arrivals::Arrivals;
use crate::cgroup;
use crate::config::{BrokerConfig, BrokerError, file, system};
use crate::destinations::Destinations;
use crate::evidence::{Desk as EvidenceDesk, Evidence};
use crate::ledger;
use crate::listeners::{Places, as_poll};
use crate::members::Members;
use crate::message::{
    AboutIdentity, Answer, Ask, Asked, ClassReport, FromBroker, RefusalReport, World, receive,
};
use crate::namespace::tcp_socket;
use crate::nodes::{NodeId, Nodes, Role};
use crate::plugins;
use crate::pulse::Pulse;
use crate::revoke::{Desk, Flows};
use crate::runtimes;
use crate::takeover::{self, Takeover};
use crate::watch::Watch;

/// Refusals given out at once.
const REFUSALS_MAX: usize = 256;

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
    /// Paths of the governed cgroups below the mount, as of the last look.
    cgroups: HashMap<u64, String>,
    arrivals: Arrivals,
    refusals: VecDeque<Refusal>,
    /// Something was said since the last look.
    due: bool,
    looked_ns: u64,
    thorough_ns: u64,
    evidence: EvidenceDesk,
    /// Of the lineage programs: who speaks on a client's socket.
    speakers: Option<OwnedFd>,
    admin: UnixListener,
    nodes: Nodes,
    credentials: plugins::Desk<(NodeId, u64)>,
    pulse: Pulse,
    flows: Flows,
    desk: Desk,
    runtimes: runtimes::Desk,
}

/// Runs until `stop` turns true. On the way out everything stays as it is: a node that serves goes
/// on doing so until the next broker is there, for ten seconds at most, and `weir uninstall` removes
/// everything.
///
/// `ready` is called once everything is attached and the socket is there.
///
/// # Errors
/// What keeps it from starting, another broker among it; afterwards only the loss of its own
/// sockets.
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
    let alone = takeover::alone(&config.pins)?;
    let mut kernel = System::load(&config.pins)?;
    let before = Takeover::begin(&config, &mut kernel)?;
    kernel.set_own(own_id)?;
    let destinations = Destinations::new(&config);
    destinations.apply(&mut kernel)?;
    let (lineage, speakers) = lineage(&config.pins);
    let evidence = Evidence::new(lineage, mount.clone(), &config.governed, monotonic_ns());
    let evidence =
        EvidenceDesk::start(evidence).map_err(|source| system("the evidence thread", source))?;
    let pulse =
        Pulse::start(kernel.heartbeat()?).map_err(|source| system("the pulse thread", source))?;
    let inherited = before.inherited(&kernel, monotonic_ns());
    let mut broker = Broker {
        credentials: plugins::Desk::new(plugins::place(&mount, &config.own_cgroup)),
        places: Places::new(mount.clone(), &mut kernel, inherited)?,
        evidence,
        speakers,
        mount,
        own_cgroup,
        system: kernel,
        members: Members::default(),
        destinations,
        watch: Watch::new()?,
        attached: Vec::new(),
        cgroups: HashMap::new(),
        arrivals: Arrivals::default(),
        refusals: VecDeque::new(),
        due: true,
        looked_ns: 0,
        thorough_ns: 0,
        admin: admin_socket(&config)?,
        nodes: Nodes::default(),
        pulse,
        flows: Flows::default(),
        desk: Desk::new(
            packet_socket(&config.run_dir.join("revoke.sock"), None)?,
            config.governed.clone(),
        ),
        runtimes: runtimes::Desk::default(),
        config,
    };
    broker.attach()?;
    broker.look();
    before.noted(&broker.config)?;
    // Last: whoever waits for a broker finds one that answers.
    let group = fs::metadata(&broker.config.run_dir).map(|metadata| metadata.gid());
    let listener = packet_socket(&broker.config.run_dir.join("broker.sock"), group.ok())?;
    ready();
    while !stop.load(Ordering::Relaxed) {
        broker.turn(listener.as_fd())?;
    }
    drop(alone);
    Ok(())
}

/// Who executed what; the redirect does without. Beside it the map of speakers.
fn lineage(pins: &Path) -> (Option<Lineage>, Option<OwnedFd>) {
    let lineage = match Lineage::start(pins) {
        Ok(lineage) => lineage,
        Err(error) => {
            tracing::warn!(%error, "no process lineage: evidence is what /proc says later");
            return (None, None);
        }
    };
    let speakers = match lineage.speaks() {
        Ok(()) => lineage.speakers_map().ok(),
        Err(error) => {
            tracing::warn!(error, "other processes on a flow's socket are not seen");
            None
        }
    };
    (Some(lineage), speakers)
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

/// A listening socket for packets, which only root may connect to, and the group that is named.
fn packet_socket(path: &Path, group: Option<u32>) -> Result<OwnedFd, BrokerError> {
    remove(path)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made = || -> nix::Result<OwnedFd> {
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        listen(&fd, Backlog::new(4)?)?;
        Ok(fd)
    };
    let fd = made().map_err(|source| file(path, source))?;
    let mode = if group.is_some() { 0o660 } else { 0o600 };
    std::os::unix::fs::chown(path, None, group)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(|source| file(path, source))?;
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
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap_or_else(|_| Duration::ZERO.into());
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap_or(0)
}

impl Broker {
    fn turn(&mut self, listener: BorrowedFd<'_>) -> Result<(), BrokerError> {
        let (new_node, revokes, spoken) = {
            let mut fds = vec![
                PollFd::new(listener, PollFlags::POLLIN),
                PollFd::new(self.desk.fd(), PollFlags::POLLIN),
            ];
            let mut ids = Vec::new();
            for (id, fd) in self.nodes.fds() {
                ids.push(id);
                fds.push(PollFd::new(fd, PollFlags::POLLIN));
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
            let readable = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
            self.due |= fds.iter().skip(told + 1).any(readable);
            let spoken: Vec<NodeId> = ids
                .into_iter()
                .zip(fds.iter().skip(2))
                .filter_map(|(id, fd)| readable(fd).then_some(id))
                .collect();
            let asked = |index: usize| fds.get(index).is_some_and(readable);
            (asked(0), asked(1), spoken)
        };
        self.take_refusals();
        if revokes {
            self.desk.serve(&self.flows, &self.places);
        }
        for id in spoken {
            self.node_message(id)?;
        }
        if new_node {
            self.node_arrives(listener);
        }
        while let Some(((node, id), outcome)) = self.credentials.done() {
            let answer = match outcome {
                Ok(secret) => Answer::Token(secret.as_str().to_owned()),
                Err(error) => Answer::Refused(format!("the credential: {error}")),
            };
            self.reply(node, id, answer, &[]);
        }
        if self.patience_ns(monotonic_ns()) == 0 {
            self.look();
        }
        Ok(())
    }

    fn node_message(&mut self, id: NodeId) -> Result<(), BrokerError> {
        let Some(node) = self.nodes.fd(id) else {
            return Ok(());
        };
        match receive::<Asked>(node) {
            Ok(Some((asked, fds))) => self.answer(id, asked, fds),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Ok(None) | Err(_) => {
                self.node_leaves(id);
                Ok(())
            }
        }
    }

    fn answer(&mut self, node: NodeId, asked: Asked, fds: Vec<OwnedFd>) -> Result<(), BrokerError> {
        let Asked { id, ask } = asked;
        match ask {
            Ask::Hello {
                abi,
                snapshots,
                claim,
            } => self.hello((node, id), abi, (snapshots, claim)),
            Ask::Serving => self.serves(node, id),
            Ask::HandOver => {
                self.hand_over(node, id, &fds);
                Ok(())
            }
            Ask::FlowOpened(note) => {
                self.flows.note(note);
                self.answered(node, id, Answer::Done)
            }
            Ask::Flows(notes) => {
                notes.into_iter().for_each(|note| self.flows.note(note));
                self.answered(node, id, Answer::Done)
            }
            Ask::FlowClosed { session } => {
                self.flows.forget(&session);
                self.answered(node, id, Answer::Done)
            }
            Ask::Pass(passed) => {
                self.pass(node, id, &passed);
                Ok(())
            }
            Ask::Upstream { netns, ipv6 } => {
                self.upstream(node, (id, netns), ipv6);
                Ok(())
            }
            Ask::Identity(about) => {
                self.identity(node, id, &about);
                Ok(())
            }
            Ask::Process {
                pid,
                start_boottime_ns,
                at_ktime_ns,
                cgroup_id,
            } => {
                let ask = ProcessAsk {
                    pid,
                    start_boottime_ns,
                    at_ktime_ns,
                    cgroup_id,
                };
                self.process(node, id, ask);
                Ok(())
            }
            Ask::Counts => self.answered(node, id, Answer::Counts(self.counts())),
            Ask::Ledger => {
                let names = (0..=self.classes()).map(|class| self.workload_of(class));
                let report = ledger::read(&self.system, &self.places, names.collect());
                self.answered(node, id, Answer::Ledger(report))
            }
            Ask::Refusals => {
                let reports = self.refusals();
                self.answered(node, id, Answer::Refusals(reports))
            }
            Ask::World(world) => {
                let answer = self.world(node, world);
                self.answered(node, id, answer)
            }
            Ask::Runtime { name, ask } => {
                self.runtime((node, id), &name, ask);
                Ok(())
            }
        }
    }

    fn runtime(&mut self, (node, id): (NodeId, u64), name: &str, ask: runtimes::RuntimeAsk) {
        let mut known = self.config.runtimes.iter();
        let asked = match known.find(|(runtime, _)| runtime == name) {
            Some((_, socket)) => self.runtimes.ask(socket, ask),
            None => Err(io::Error::other("no such container runtime is configured")),
        };
        match asked {
            Ok(answer) => self.reply(node, id, Answer::Runtime, &[answer.as_fd()]),
            Err(error) => self.reply(node, id, Answer::Refused(error.to_string()), &[]),
        }
    }

    /// Of a node that drains nothing is taken: its successor tells.
    fn world(&mut self, node: NodeId, world: World) -> Answer {
        if self.nodes.role(node) != Some(Role::Serving) {
            return Answer::Done;
        }
        match self.told(world) {
            Ok(()) => Answer::Done,
            Err(text) => {
                tracing::warn!(text, "what the node told was not taken");
                Answer::Refused(text)
            }
        }
    }

    fn answered(&mut self, node: NodeId, id: u64, answer: Answer) -> Result<(), BrokerError> {
        self.reply(node, id, answer, &[]);
        Ok(())
    }

    fn reply(&mut self, node: NodeId, id: u64, answer: Answer, fds: &[BorrowedFd<'_>]) {
        self.tell(node, &FromBroker::Answer { id, answer }, fds);
    }

    fn upstream(&mut self, node: NodeId, (id, netns): (u64, u64), ipv6: bool) {
        if self.due && self.places.namespace(netns).is_none() {
            // What was told of its pod a moment ago says where it is.
            self.look();
        }
        let made = match self.places.namespace(netns) {
            Some(namespace) => namespace.visit(|| tcp_socket(ipv6)),
            None => Err(io::Error::other("that namespace is not served")),
        };
        match made {
            Ok(socket) => self.reply(node, id, Answer::Upstream, &[socket.as_fd()]),
            Err(error) => self.reply(node, id, Answer::Refused(error.to_string()), &[]),
        }
    }

    fn process(&mut self, node: NodeId, id: u64, ask: ProcessAsk) {
        let taken = match self.nodes.fd(node) {
            Some(fd) => self.evidence.ask(id, ask, fd),
            None => return,
        };
        if !taken {
            let text = "too many questions wait".to_owned();
            self.reply(node, id, Answer::Refused(text), &[]);
        }
    }

    fn identity(&mut self, node: NodeId, id: u64, about: &AboutIdentity) {
        let answer = match about {
            AboutIdentity::Token { workload, pod } => self.token(workload, pod.as_ref()),
            AboutIdentity::Member { cgroup } => Answer::Member(self.holder(*cgroup)),
            AboutIdentity::Enrol { workload, pid } => self.enrol(workload, *pid),
            AboutIdentity::Credential { name } => {
                self.credential(node, id, name);
                return;
            }
        };
        self.reply(node, id, answer, &[]);
    }

    /// Answered when it is there: see [`Broker::turn`].
    fn credential(&mut self, node: NodeId, id: u64, name: &str) {
        let mut known = self.config.credentials.iter();
        let source = known.find(|one| one.name == name);
        let refusal = match source {
            Some(one) => {
                if self.credentials.ask((node, id), one.source.clone()) {
                    return;
                }
                "too many credentials are being read"
            }
            None => "no such credential",
        };
        self.reply(node, id, Answer::Refused(refusal.to_owned()), &[]);
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

    fn classes(&self) -> u32 {
        u32::try_from(self.config.workloads.len()).unwrap_or(0)
    }

    fn counts(&self) -> Vec<ClassReport> {
        (0..=self.classes())
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
