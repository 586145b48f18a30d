//! The node's end.
//!
//! A thread reads what the broker says; whoever asks gives a callback. Nothing here blocks the
//! asker beyond one `sendmsg(2)`.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an answer of any other kind is a misfit, whatever it is"
)]

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use weir_model::flow::ProcessAsk;

use crate::message::{
    AboutIdentity, Answer, Ask, Asked, ClassReport, FlowNote, FromBroker, LedgerReport, Passed,
    ProcessReport, RefusalReport, World, receive, send,
};
use crate::serve::MESSAGES_VERSION;

/// Why the broker did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    #[error("the broker is gone")]
    Gone,
    #[error("the broker refused: {0}")]
    Refused(String),
    #[error("the broker's answer does not fit the question")]
    Confused,
}

/// What the broker says of its own accord.
pub enum Told {
    Listener {
        workload: String,
        netns: u64,
        addr: SocketAddr,
        socket: OwnedFd,
    },
    ListenerGone {
        workload: String,
        netns: u64,
    },
    /// A successor serves, which reads session snapshots of this version.
    Drain {
        snapshots: u32,
    },
    /// A session of the predecessor.
    Session(Box<HandedOver>),
    /// From the successor.
    Passed(Passed),
    /// The broker's socket closed; nothing more comes.
    Gone,
}

/// A session on its way from one node to the next.
#[derive(Debug)]
pub struct HandedOver {
    /// The agent's socket.
    pub client: OwnedFd,
    /// The server's.
    pub server: OwnedFd,
    /// A sealed memory file.
    pub snapshot: OwnedFd,
}

type Callback = Box<dyn FnOnce(Result<(Answer, Vec<OwnedFd>), LinkError>) + Send>;

/// A connected broker.
pub struct NodeLink {
    socket: OwnedFd,
    next: AtomicU64,
    waiting: Arc<Mutex<HashMap<u64, Callback>>>,
}

/// What the first exchange brings.
pub struct Welcome {
    pub accepted_map: OwnedFd,
    pub admin: OwnedFd,
    /// Who speaks on clients' sockets; absent where the kernel does not say.
    pub speakers: Option<OwnedFd>,
    pub pulse: NodePulse,
    told: Vec<Told>,
}

impl NodeLink {
    /// Connects and says hello; the broker moves this process into Weir's cgroup before it
    /// answers. Call before threads and sockets are made. `snapshots` is the version of session
    /// snapshots that this node reads and writes.
    ///
    /// # Errors
    /// No broker, or one that refuses.
    pub fn connect(path: &Path, snapshots: u32) -> io::Result<(Self, Welcome)> {
        let socket = socket(
            AddressFamily::Unix,
            SockType::SeqPacket,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        let hello = Asked {
            id: 0,
            ask: Ask::Hello {
                abi: MESSAGES_VERSION,
                snapshots,
            },
        };
        send(socket.as_fd(), &hello, &[])?;
        let mut told = Vec::new();
        loop {
            let Some((message, fds)) = receive::<FromBroker>(socket.as_fd())? else {
                return Err(io::Error::other(
                    "the broker turned this node away: is one running?",
                ));
            };
            match message {
                FromBroker::Answer {
                    answer: Answer::Hello,
                    ..
                } => {
                    let mut fds = fds.into_iter();
                    let (Some(accepted_map), Some(admin), Some(pulse)) =
                        (fds.next(), fds.next(), fds.next())
                    else {
                        return Err(io::Error::other("the broker's hello lacks descriptors"));
                    };
                    let link = Self {
                        socket,
                        next: AtomicU64::new(1),
                        waiting: Arc::new(Mutex::new(HashMap::new())),
                    };
                    return Ok((
                        link,
                        Welcome {
                            accepted_map,
                            admin,
                            speakers: fds.next(),
                            pulse: NodePulse(pulse),
                            told,
                        },
                    ));
                }
                FromBroker::Answer {
                    answer: Answer::Refused(text),
                    ..
                } => {
                    return Err(io::Error::other(text));
                }
                FromBroker::Answer { .. } => {
                    return Err(io::Error::other("the broker's hello cannot be understood"));
                }
                other => told.extend(unpack(other, fds)),
            }
        }
    }

    /// Starts the reading thread; `tell` gets everything that is not an answer.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn listen(
        &self,
        told: Vec<Told>,
        mut tell: impl FnMut(Told) + Send + 'static,
    ) -> io::Result<()> {
        let socket = self.socket.try_clone()?;
        let waiting = Arc::clone(&self.waiting);
        std::thread::Builder::new()
            .name("weir-broker-link".to_owned())
            .spawn(move || {
                told.into_iter().for_each(&mut tell);
                while let Ok(Some((message, fds))) = receive::<FromBroker>(socket.as_fd()) {
                    match message {
                        FromBroker::Answer { id, answer } => {
                            if let Some(callback) = locked(&waiting).remove(&id) {
                                callback(Ok((answer, fds)));
                            }
                        }
                        other => {
                            if let Some(told) = unpack(other, fds) {
                                tell(told);
                            }
                        }
                    }
                }
                let left: Vec<Callback> = locked(&waiting).drain().map(|(_, one)| one).collect();
                for callback in left {
                    callback(Err(LinkError::Gone));
                }
                tell(Told::Gone);
            })?;
        Ok(())
    }

    fn ask(&self, ask: Ask, callback: Callback) {
        self.ask_with(ask, &[], callback);
    }

    fn ask_with(&self, ask: Ask, fds: &[BorrowedFd<'_>], callback: Callback) {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        locked(&self.waiting).insert(id, callback);
        if send(self.socket.as_fd(), &Asked { id, ask }, fds).is_err()
            && let Some(callback) = locked(&self.waiting).remove(&id)
        {
            callback(Err(LinkError::Gone));
        }
    }

    fn ask_done(
        &self,
        ask: Ask,
        fds: &[BorrowedFd<'_>],
        done: impl FnOnce(Result<(), LinkError>) + Send + 'static,
    ) {
        self.ask_with(
            ask,
            fds,
            Box::new(move |answer| {
                done(answer.and_then(|(answer, _)| match answer {
                    Answer::Done => Ok(()),
                    other => Err(misfit(other)),
                }));
            }),
        );
    }

    /// New flows are ours from now on; the node before us drains.
    pub fn serving(&self, done: impl FnOnce(Result<(), LinkError>) + Send + 'static) {
        self.ask_done(Ask::Serving, &[], done);
    }

    /// Gives a session to the successor. Done means that it has the sockets; refused, that it is
    /// still ours.
    pub fn hand_over(
        &self,
        session: &HandedOver,
        done: impl FnOnce(Result<(), LinkError>) + Send + 'static,
    ) {
        let fds = [&session.client, &session.server, &session.snapshot].map(AsFd::as_fd);
        self.ask_done(Ask::HandOver, &fds, done);
    }

    /// A flow is served: its connections can be reset without us.
    pub fn flow_opened(&self, note: FlowNote) {
        self.ask_done(Ask::FlowOpened(note), &[], |_outcome| {});
    }

    pub fn flow_closed(&self, session: String) {
        self.ask_done(Ask::FlowClosed { session }, &[], |_outcome| {});
    }

    /// Passes something on to the nodes that drain.
    pub fn pass(&self, passed: Passed, done: impl FnOnce(Result<(), LinkError>) + Send + 'static) {
        self.ask_done(Ask::Pass(passed), &[], done);
    }

    /// Tells of pods, containers and addresses. Addresses are done once they stand in the kernel's
    /// maps, members within some milliseconds. Of a node that drains nothing is taken, which is no
    /// error: its successor tells.
    pub fn world(&self, world: World, done: impl FnOnce(Result<(), LinkError>) + Send + 'static) {
        self.ask_done(Ask::World(world), &[], done);
    }

    /// An unconnected TCP socket made in that namespace.
    pub fn upstream(
        &self,
        netns: u64,
        ipv6: bool,
        done: impl FnOnce(Result<OwnedFd, LinkError>) + Send + 'static,
    ) {
        self.ask(
            Ask::Upstream { netns, ipv6 },
            Box::new(move |answer| {
                done(answer.and_then(|(answer, fds)| match answer {
                    Answer::Upstream => fds.into_iter().next().ok_or(LinkError::Confused),
                    other => Err(misfit(other)),
                }));
            }),
        );
    }

    /// The workload's service-account token.
    pub fn token(
        &self,
        workload: &str,
        done: impl FnOnce(Result<String, LinkError>) + Send + 'static,
    ) {
        self.ask(
            Ask::Identity(AboutIdentity::Token {
                workload: workload.to_owned(),
            }),
            Box::new(move |answer| {
                done(answer.and_then(|(answer, _)| match answer {
                    Answer::Token(token) => Ok(token),
                    other => Err(misfit(other)),
                }));
            }),
        );
    }

    /// Governs a process as `workload`; answers with the id of its cgroup, once listeners are there.
    pub fn enrol(
        &self,
        workload: &str,
        pid: u32,
        done: impl FnOnce(Result<u64, LinkError>) + Send + 'static,
    ) {
        self.ask(
            Ask::Identity(AboutIdentity::Enrol {
                workload: workload.to_owned(),
                pid,
            }),
            Box::new(move |answer| {
                done(answer.and_then(|(answer, _)| match answer {
                    Answer::Enrolled(cgroup) => Ok(cgroup),
                    other => Err(misfit(other)),
                }));
            }),
        );
    }

    /// A backend's secret, by its configured name.
    pub fn credential(
        &self,
        name: &str,
        done: impl FnOnce(Result<String, LinkError>) + Send + 'static,
    ) {
        self.ask(
            Ask::Identity(AboutIdentity::Credential {
                name: name.to_owned(),
            }),
            Box::new(move |answer| {
                done(answer.and_then(|(answer, _)| match answer {
                    Answer::Token(secret) => Ok(secret),
                    other => Err(misfit(other)),
                }));
            }),
        );
    }

    /// Evidence on a process.
    pub fn process(
        &self,
        ask: ProcessAsk,
        done: impl FnOnce(Result<ProcessReport, LinkError>) + Send + 'static,
    ) {
        self.ask(
            Ask::Process {
                pid: ask.pid,
                start_boottime_ns: ask.start_boottime_ns,
                at_ktime_ns: ask.at_ktime_ns,
                cgroup_id: ask.cgroup_id,
            },
            Box::new(move |answer| {
                done(answer.and_then(|(answer, _)| match answer {
                    Answer::Process(report) => Ok(*report),
                    other => Err(misfit(other)),
                }));
            }),
        );
    }

    /// Kernel counters by workload.
    pub fn counts(&self, done: impl FnOnce(Result<Vec<ClassReport>, LinkError>) + Send + 'static) {
        self.ask(
            Ask::Counts,
            Box::new(move |answer| {
                done(answer.and_then(|(answer, _)| match answer {
                    Answer::Counts(reports) => Ok(reports),
                    other => Err(misfit(other)),
                }));
            }),
        );
    }

    /// Kernel counters for the ledger.
    pub fn ledger(&self, done: impl FnOnce(Result<LedgerReport, LinkError>) + Send + 'static) {
        self.ask(
            Ask::Ledger,
            Box::new(move |answer| {
                done(answer.and_then(|(answer, _)| match answer {
                    Answer::Ledger(report) => Ok(report),
                    other => Err(misfit(other)),
                }));
            }),
        );
    }

    /// Refusals since the last call.
    pub fn refusals(
        &self,
        done: impl FnOnce(Result<Vec<RefusalReport>, LinkError>) + Send + 'static,
    ) {
        self.ask(
            Ask::Refusals,
            Box::new(move |answer| {
                done(answer.and_then(|(answer, _)| match answer {
                    Answer::Refusals(reports) => Ok(reports),
                    other => Err(misfit(other)),
                }));
            }),
        );
    }
}

/// The node's sign of life, once it serves.
pub struct NodePulse(OwnedFd);

impl NodePulse {
    /// The node lives. Say so every 100 ms; each is good for 500 ms.
    ///
    /// # Errors
    /// The broker is gone. A broker that does not read is none: it was told already.
    pub fn beat(&self) -> io::Result<()> {
        match nix::unistd::write(&self.0, &[1]) {
            Ok(_) | Err(nix::errno::Errno::EAGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Welcome {
    /// Listeners that were announced before the answer.
    pub fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn misfit(answer: Answer) -> LinkError {
    match answer {
        Answer::Refused(text) => LinkError::Refused(text),
        Answer::Hello
        | Answer::Done
        | Answer::Upstream
        | Answer::Token(_)
        | Answer::Enrolled(_)
        | Answer::Process(_)
        | Answer::Counts(_)
        | Answer::Ledger(_)
        | Answer::Refusals(_) => LinkError::Confused,
    }
}

fn unpack(message: FromBroker, fds: Vec<OwnedFd>) -> Option<Told> {
    match message {
        FromBroker::Listener {
            workload,
            netns,
            addr,
        } => {
            let socket = fds.into_iter().next()?;
            Some(Told::Listener {
                workload,
                netns,
                addr,
                socket,
            })
        }
        FromBroker::ListenerGone { workload, netns } => {
            Some(Told::ListenerGone { workload, netns })
        }
        FromBroker::Drain { snapshots } => Some(Told::Drain { snapshots }),
        FromBroker::Passed(passed) => Some(Told::Passed(passed)),
        FromBroker::Session => {
            let mut fds = fds.into_iter();
            Some(Told::Session(Box::new(HandedOver {
                client: fds.next()?,
                server: fds.next()?,
                snapshot: fds.next()?,
            })))
        }
        FromBroker::Answer { .. } => None,
    }
}
