//! What broker and node say to each other: JSON over a sequenced-packet socket, one message a
//! packet, descriptors beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::runtimes::RuntimeAsk;

/// Bytes of one message.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// Descriptors beside one message.
const FDS_MAX: usize = 8;
/// Flows told of in one message: far below its bytes.
pub(crate) const FLOWS_TOLD_MAX: usize = 64;

/// Version of the messages: broker and node of different ones do not work together.
pub(crate) const MESSAGES_VERSION: u32 = 5;

/// From the node.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    pub(crate) id: u64,
    pub(crate) ask: Ask,
}

/// The same on its way, by reference: it may have to be said again.
#[derive(Debug, Serialize)]
pub(crate) struct Asking<'a> {
    pub(crate) id: u64,
    pub(crate) ask: &'a Ask,
}

/// What a node says it is, when it comes to a broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Claim {
    /// It starts, and has not served yet.
    #[default]
    New,
    /// It served under the broker before this one, since then (`CLOCK_MONOTONIC`).
    Serving { since_ns: u64 },
    /// It drained already.
    Draining,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// First; `snapshots` is the version of session snapshots that this node reads and writes.
    Hello {
        abi: u32,
        snapshots: u32,
        #[serde(default)]
        claim: Claim,
    },
    /// Everything is set up: new flows are ours, and whoever had them before drains.
    Serving,
    /// A session for the successor; beside it its sockets, its snapshot and its ticket.
    HandOver,
    /// Flows that are served: told to a broker that has come meanwhile.
    Flows(Vec<FlowNote>),
    /// A flow is served, or more is known of it.
    FlowOpened(FlowNote),
    FlowClosed {
        session: String,
    },
    /// For the nodes that still drain: what concerns a session that we do not have.
    Pass(Passed),
    Upstream {
        netns: u64,
        ipv6: bool,
    },
    Identity(AboutIdentity),
    Process {
        pid: u32,
        start_boottime_ns: u64,
        at_ktime_ns: u64,
        cgroup_id: u64,
    },
    Counts,
    Ledger,
    Refusals,
    World(World),
    /// Of a container runtime, by its configured name.
    Runtime {
        name: String,
        ask: RuntimeAsk,
    },
}

/// What the node knows of the world, and the broker writes into the kernel's maps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum World {
    /// A pod or container that runs here, or runs differently now.
    Member(MemberReport),
    MemberGone {
        id: String,
    },
    /// Every member was told; those of an earlier node that were not are gone.
    MembersComplete,
    /// Where a target is; replaces what was told before. Until it is complete, what an earlier run
    /// protected stays.
    Target {
        name: String,
        found: Vec<Found>,
        complete: bool,
    },
    /// The same for what a listed workload may reach.
    Allowed {
        workload: String,
        found: Vec<Found>,
        complete: bool,
    },
}

/// Who runs where, as the authority on it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberReport {
    /// Unique among what this node tells.
    pub id: String,
    pub kind: MemberKind,
    /// `None`: known, and not governed.
    pub workload: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberKind {
    /// `uid` as the kubelet names its cgroup; ids of containers without the runtime's prefix.
    Pod {
        uid: String,
        containers: Vec<String>,
    },
    /// 64 hex digits; the runtime as configured.
    Container { id: String, runtime: String },
}

/// One address and port (0: any) of something that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Found {
    pub addr: IpAddr,
    pub port: u16,
}

/// Whose, and with what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum AboutIdentity {
    Token {
        workload: String,
        /// Of that pod, where each signs in for itself.
        pod: Option<PodToken>,
    },
    /// The member that a cgroup belongs to.
    Member { cgroup: u64 },
    /// That process becomes the workload's, with all it starts.
    Enrol { workload: String, pid: u32 },
    /// A backend's secret, by its configured name.
    Credential { name: String },
}

/// Whose token, and where the kubelet keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodToken {
    /// As the node told of it.
    pub member: String,
    /// Projected volume and the path below it, as the pod's specification says.
    pub volume: Option<(String, String)>,
}

/// From the broker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromBroker {
    Answer {
        id: u64,
        answer: Answer,
    },
    /// A listener of a workload; its descriptor is beside the message.
    Listener {
        workload: String,
        netns: u64,
        addr: SocketAddr,
    },
    ListenerGone {
        workload: String,
        netns: u64,
    },
    /// A successor serves. It reads snapshots of this version.
    Drain {
        snapshots: u32,
    },
    /// A session of the predecessor; beside it its sockets, its snapshot and its ticket.
    Session,
    /// From the successor, about a session that may be here.
    Passed(Passed),
}

/// What a node passes on to those that drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Passed {
    /// End that session; its id as 32 hexadecimal digits.
    Kill { session: String },
    /// The agent of that workload cancels what the session with this key runs.
    Cancel {
        pid: i32,
        secret: Vec<u8>,
        workload: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// Beside it: the map of accepted sockets, the admin listener, the pulse, the heartbeat, and the
    /// map of speakers where the kernel has one. `birth` identifies the maps.
    Hello {
        #[serde(default)]
        birth: u64,
    },
    Done,
    /// Beside it: the socket.
    Upstream,
    Token(String),
    /// `None`: nobody's that was told of.
    Member(Option<String>),
    /// Id of the cgroup.
    Enrolled(u64),
    Process(Box<ProcessReport>),
    Counts(Vec<ClassReport>),
    Ledger(LedgerReport),
    Refusals(Vec<RefusalReport>),
    /// Beside it: the end of a pipe that the answer is read from.
    Runtime,
    Refused(String),
}

/// By what a flow's connections are found when they have to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowNote {
    /// Id as 32 hexadecimal digits.
    pub session: String,
    /// Cookie of its network namespace.
    pub netns: u64,
    /// The agent's end.
    pub client: SocketAddr,
    /// Weir's end towards the server, once there is one.
    pub upstream: Option<SocketAddr>,
    pub workload: String,
    /// `oid`.
    pub principal: String,
}

/// Evidence on a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessReport {
    pub pid: u32,
    pub ppid: u32,
    pub uid: u32,
    pub comm: String,
    pub exe: String,
    pub exe_id: String,
    pub exe_sha256: String,
    /// With whatever secrets stand in it.
    pub argv: Vec<String>,
    pub parents: Vec<String>,
    pub cgroup_path: String,
    pub container: String,
    pub pod: String,
    pub netns_inode: u64,
    /// `kernel`, `seed` or `proc`.
    pub lineage: String,
}

/// Kernel counters of one workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassReport {
    /// Empty for governed processes that no workload claims.
    pub workload: String,
    pub redirected: u64,
    pub published: u64,
    pub missed: u64,
    pub accepted: u64,
    pub orphaned: u64,
    pub lost: u64,
    pub refused: Vec<(String, u64)>,
}

/// What the kernel counted, for the comparison with what was served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerReport {
    /// Identifies the counters: others begin anew.
    pub birth: u64,
    pub classes: Vec<LedgerClass>,
}

/// One workload's counters. What comes later on a connect's way is read before and after what
/// comes earlier, so that the truth lies between, however much is under way meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerClass {
    /// Empty for governed processes that no workload claims.
    pub workload: String,
    /// Connects that the connect hook sent to the listener.
    pub redirected: u64,
    /// SYNs towards protected destinations, on the independent hook.
    pub seen: u64,
    /// Those of them that were not redirected.
    pub missed: u64,
    /// Accepted by the kernel with an origin, before and after.
    pub accepted: [u64; 2],
    /// Ended before that, before and after: the client gave up, too old, no memory.
    pub abandoned: [u64; 2],
    /// Under way between the two, before and after.
    pub pending: [u64; 2],
    /// Accepted by the kernel and not by the node.
    pub queued: u64,
    pub refused: Vec<(String, u64)>,
    /// Refusals that were counted and not reported.
    pub events_lost: u64,
}

/// One refusal of the kernel programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusalReport {
    pub reason: String,
    pub destination: String,
    pub workload: String,
    pub pid: u32,
    pub uid: u32,
    pub comm: String,
    pub cgroup_id: u64,
}

/// Sends one message.
pub(crate) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = Zeroizing::new(serde_json::to_vec(message).map_err(io::Error::other)?);
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(io::Error::other("a message is larger than 64 KiB"));
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let iov = [IoSlice::new(&bytes)];
    let flags = MsgFlags::MSG_NOSIGNAL;
    sendmsg::<UnixAddr>(socket.as_raw_fd(), &iov, control, flags, None)?;
    Ok(())
}

/// Receives one message; `None` at the end.
pub(crate) fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    let mut space = nix::cmsg_space!([RawFd; FDS_MAX]);
    let (count, fds) = {
        let mut iov = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags)?;
        let mut fds = Vec::new();
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = message {
                fds.extend(raw.into_iter().map(adopt_accepted));
            }
        }
        if received.flags.contains(MsgFlags::MSG_TRUNC) {
            return Err(io::Error::other("a message is larger than 64 KiB"));
        }
        (received.bytes, fds)
    };
    if count == 0 {
        return Ok(None);
    }
    let text = bytes.get_mut(..count).unwrap_or_default();
    let message = serde_json::from_slice(text).map_err(io::Error::other);
    // It may have held a secret.
    text.zeroize();
    Ok(Some((message?, fds)))
}

#[expect(unsafe_code, reason = "the kernel just gave us this descriptor")]
pub(crate) fn adopt_accepted(fd: RawFd) -> OwnedFd {
    // SAFETY: just received or accepted, and owned by nobody else.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
