//! The node's end.
//!
//! A thread reads what the broker says; whoever asks gives a callback. Nothing here blocks the
//! asker beyond one `sendmsg(2)`. A broker that ends is waited for: see [`AWAY_MAX`].

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "an answer of any other kind is a misfit, whatever it is"
)]

mod pulse;
mod standing;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use weir_model::flow::ProcessAsk;

use self::pulse::Vital;
pub use self::pulse::{Beat, NodePulse};
use self::wire::{Callback, NotGreeted, Outcome, Wire, greet};
use crate::message::{
    AboutIdentity, Answer, Ask, Claim, ClassReport, FlowNote, FromBroker, LedgerReport, Passed,
    PodToken, ProcessReport, RefusalReport, World,
};
use crate::runtimes::RuntimeAsk;

/// For this long a broker that is gone is waited for: questions wait, and the node says by itself
/// that it lives. Then questions are answered with [`LinkError::Gone`], and the kernel refuses
/// protected connects; both end when a broker is there.
pub const AWAY_MAX: Duration = Duration::from_secs(10);

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
    /// The broker's socket closed; another one is looked for.
    Away,
    /// Another one is there, with an admin listener of its own. Its listeners follow; those of the
    /// one before it are good for flows under way, and are to be closed after a minute.
    Back {
        admin: OwnedFd,
    },
    /// The one that is there does not work with this node, and says why; nothing more comes.
    Gone(String),
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
    /// An `eventfd(2)` of value 1: whoever reads it has the session, and the other one has not.
    pub ticket: OwnedFd,
}

/// A connected broker.
pub struct NodeLink {
    wire: Arc<Wire>,
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
        let greeted = greet(path, snapshots, Claim::New).map_err(|error| match error {
            NotGreeted::NotNow(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                io::Error::other("the broker turned this node away: another one is starting")
            }
            NotGreeted::NotNow(error) => error,
            NotGreeted::Refused(_) => io::Error::other(error),
        })?;
        let vital = Arc::new(Vital::new(greeted.pulse, greeted.heartbeat));
        let connection = (greeted.socket, greeted.birth);
        let wire = Wire::new((path, snapshots), connection, Arc::clone(&vital))?;
        let link = Self {
            wire: Arc::new(wire),
        };
        let welcome = Welcome {
            accepted_map: greeted.accepted_map,
            admin: greeted.admin,
            speakers: greeted.speakers,
            pulse: NodePulse(vital),
            told: greeted.told,
        };
        Ok((link, welcome))
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
        let wire = Arc::clone(&self.wire);
        std::thread::Builder::new()
            .name("weir-broker-link".to_owned())
            .spawn(move || {
                told.into_iter().for_each(&mut tell);
                loop {
                    wire.read(&mut tell);
                    tell(Told::Away);
                    let back = match wire.rejoin() {
                        Ok(back) => back,
                        Err(why) => {
                            tell(Told::Gone(why));
                            return;
                        }
                    };
                    tell(Told::Back { admin: back.admin });
                    back.told.into_iter().for_each(&mut tell);
                    wire.ask_again(back.unanswered);
                }
            })?;
        Ok(())
    }

    fn ask(&self, ask: Ask, callback: Callback) {
        self.wire.ask(ask, Vec::new(), callback);
    }

    fn ask_done(
        &self,
        ask: Ask,
        fds: Vec<OwnedFd>,
        done: impl FnOnce(Result<(), LinkError>) + Send + 'static,
    ) {
        let callback = Box::new(move |answer: Outcome| {
            done(answer.and_then(|(answer, _)| match answer {
                Answer::Done => Ok(()),
                other => Err(misfit(other)),
            }));
        });
        self.wire.ask(ask, fds, callback);
    }

    /// New flows are ours from now on; the node before us drains.
    pub fn serving(&self, done: impl FnOnce(Result<(), LinkError>) + Send + 'static) {
        let wire = Arc::clone(&self.wire);
        self.ask_done(Ask::Serving, Vec::new(), move |outcome| {
            if outcome.is_ok() {
                wire.serves();
            }
            done(outcome);
        });
    }

    /// Gives a session to the successor. Done means that it was sent there. After anything else it
    /// is whoever's that reads the ticket.
    pub fn hand_over(
        &self,
        session: HandedOver,
        done: impl FnOnce(Result<(), LinkError>) + Send + 'static,
    ) {
        let HandedOver {
            client,
            server,
            snapshot,
            ticket,
        } = session;
        let fds = vec![client, server, snapshot, ticket];
        self.ask_done(Ask::HandOver, fds, done);
    }

    /// A flow is the successor's now, which has told of it: a broker that comes does not hear of
    /// it from us.
    pub fn flow_moved(&self, session: &str) {
        self.wire.flow_moved(session);
    }

    /// A flow is served: its connections can be reset without us.
    pub fn flow_opened(&self, note: FlowNote) {
        self.ask_done(Ask::FlowOpened(note), Vec::new(), |_outcome| {});
    }

    pub fn flow_closed(&self, session: String) {
        self.ask_done(Ask::FlowClosed { session }, Vec::new(), |_outcome| {});
    }

    /// Passes something on to the nodes that drain.
    pub fn pass(&self, passed: Passed, done: impl FnOnce(Result<(), LinkError>) + Send + 'static) {
        self.ask_done(Ask::Pass(passed), Vec::new(), done);
    }

    /// Tells of pods, containers and addresses. Addresses are done once they stand in the kernel's
    /// maps, members within some milliseconds. Of a node that drains nothing is taken, which is no
    /// error: its successor tells.
    pub fn world(&self, world: World, done: impl FnOnce(Result<(), LinkError>) + Send + 'static) {
        self.ask_done(Ask::World(world), Vec::new(), done);
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

    /// The member that a cgroup belongs to, by the name that it was told with.
    pub fn member(
        &self,
        cgroup: u64,
        done: impl FnOnce(Result<Option<String>, LinkError>) + Send + 'static,
    ) {
        self.ask(
            Ask::Identity(AboutIdentity::Member { cgroup }),
            Box::new(move |answer| {
                done(answer.and_then(|(answer, _)| match answer {
                    Answer::Member(member) => Ok(member),
                    other => Err(misfit(other)),
                }));
            }),
        );
    }

    /// The service-account token of the workload, or of one of its pods.
    pub fn token(
        &self,
        workload: &str,
        pod: Option<PodToken>,
        done: impl FnOnce(Result<String, LinkError>) + Send + 'static,
    ) {
        self.ask(
            Ask::Identity(AboutIdentity::Token {
                workload: workload.to_owned(),
                pod,
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

    /// Asks a container runtime; the answer is read from the descriptor, which is non-blocking and
    /// ends with it.
    pub fn runtime(
        &self,
        name: &str,
        ask: RuntimeAsk,
        done: impl FnOnce(Result<OwnedFd, LinkError>) + Send + 'static,
    ) {
        self.ask(
            Ask::Runtime {
                name: name.to_owned(),
                ask,
            },
            Box::new(move |answer| {
                done(answer.and_then(|(answer, fds)| match answer {
                    Answer::Runtime => fds.into_iter().next().ok_or(LinkError::Confused),
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

impl Welcome {
    /// Listeners that were announced before the answer.
    pub fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }
}

fn misfit(answer: Answer) -> LinkError {
    match answer {
        Answer::Refused(text) => LinkError::Refused(text),
        Answer::Hello { .. }
        | Answer::Done
        | Answer::Upstream
        | Answer::Token(_)
        | Answer::Member(_)
        | Answer::Enrolled(_)
        | Answer::Process(_)
        | Answer::Counts(_)
        | Answer::Ledger(_)
        | Answer::Refusals(_)
        | Answer::Runtime => LinkError::Confused,
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
                ticket: fds.next()?,
            })))
        }
        FromBroker::Answer { .. } => None,
    }
}
