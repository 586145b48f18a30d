//! The link over brokers that come and go, which are fakes at a real socket.

use std::fs::File;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};

use nix::sys::socket::{Backlog, accept, bind, listen};

use super::*;
use crate::client::NodeLink;
use crate::message::{Asked, FlowNote, World, adopt_accepted};

const BIRTH: u64 = 7;
const SOON: Duration = Duration::from_secs(20);

/// A place for brokers, one after the other.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static LAST: AtomicU32 = AtomicU32::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir-wire-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.join("broker.sock")
    }

    fn broker(&self) -> Broker {
        let _none = std::fs::remove_file(self.path());
        let (kind, flags) = (SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
        let socket = socket(AddressFamily::Unix, kind, flags, None).unwrap();
        bind(socket.as_raw_fd(), &UnixAddr::new(&self.path()).unwrap()).unwrap();
        listen(&socket, Backlog::new(4).unwrap()).unwrap();
        Broker { socket }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

struct Broker {
    socket: OwnedFd,
}

/// One node at it. Dropped, it is a broker that died.
struct Peer(OwnedFd);

impl Broker {
    fn meets(&self) -> Peer {
        let peer = adopt_accepted(accept(self.socket.as_raw_fd()).unwrap());
        setsockopt(&peer, sockopt::ReceiveTimeout, &TimeVal::new(20, 0)).unwrap();
        Peer(peer)
    }

    /// Meets a node and answers its hello; what the node says that it is.
    fn greets(&self, birth: u64) -> (Peer, Claim) {
        let peer = self.meets();
        let Asked { id, ask } = peer.hears();
        let Ask::Hello { abi, claim, .. } = ask else {
            panic!("{ask:?}");
        };
        assert_eq!(abi, MESSAGES_VERSION);
        let file = File::open("/dev/null").unwrap();
        let (_read, pulse) = crate::pulse::pair().unwrap();
        let fds = [file.as_fd(), file.as_fd(), pulse.as_fd(), file.as_fd()];
        let answer = Answer::Hello { birth };
        send(peer.0.as_fd(), &FromBroker::Answer { id, answer }, &fds).unwrap();
        (peer, claim)
    }
}

impl Peer {
    fn hears(&self) -> Asked {
        receive(self.0.as_fd()).unwrap().expect("a message").0
    }

    fn answers(&self, id: u64, answer: Answer) {
        self.says(&FromBroker::Answer { id, answer });
    }

    fn says(&self, message: &FromBroker) {
        send(self.0.as_fd(), message, &[]).unwrap();
    }

    /// Takes what is told, each with its answer.
    fn is_told(&self, count: usize) -> Vec<Ask> {
        let mut told = Vec::new();
        while told.len() < count {
            let Asked { id, ask } = self.hears();
            self.answers(id, Answer::Done);
            told.push(ask);
        }
        told
    }
}

/// A node that joined, what it is told, and the broker that it met.
fn joined(place: &Place) -> (NodeLink, Receiver<Told>, Peer) {
    let broker = place.broker();
    let path = place.path();
    let node = std::thread::spawn(move || NodeLink::connect(&path, 1).unwrap());
    let (peer, claim) = broker.greets(BIRTH);
    assert_eq!(claim, Claim::New);
    let (link, mut welcome) = node.join().unwrap();
    let (sender, told) = channel();
    link.listen(welcome.take_told(), move |told| {
        // A test that ended does not listen.
        let _over = sender.send(told);
    })
    .unwrap();
    (link, told, peer)
}

fn note(session: &str) -> FlowNote {
    FlowNote {
        session: session.to_owned(),
        netns: 1,
        client: ([10, 0, 0, 1], 5).into(),
        upstream: None,
        workload: "analyst".to_owned(),
        principal: "p".to_owned(),
    }
}

fn is_away(told: &Receiver<Told>) -> bool {
    matches!(told.recv_timeout(SOON), Ok(Told::Away))
}

fn is_back(told: &Receiver<Told>) -> bool {
    matches!(told.recv_timeout(SOON), Ok(Told::Back { .. }))
}

#[test]
fn what_was_not_answered_is_asked_again_after_everything_was_told() {
    let place = Place::new();
    let (link, told, peer) = joined(&place);
    let (sender, outcomes) = channel();
    let counted = sender.clone();
    link.counts(move |counts| counted.send(("counts", counts.is_ok())).unwrap());
    let Asked { id: counts, .. } = peer.hears();
    link.flow_opened(note("a"));
    link.flow_opened(note("b"));
    drop(peer);
    assert!(is_away(&told));
    // While nobody is there.
    link.flow_closed("a".to_owned());
    let (world, upstream) = (sender.clone(), sender);
    link.world(World::MembersComplete, move |done| {
        world.send(("world", done.is_ok())).unwrap();
    });
    link.upstream(5, false, move |socket| {
        let refused = matches!(socket, Err(LinkError::Refused(_)));
        upstream.send(("upstream", refused)).unwrap();
    });
    let broker = place.broker();
    let (peer, _claim) = broker.greets(BIRTH);
    let everything = [
        Ask::Flows(vec![note("b")]),
        Ask::World(World::MembersComplete),
    ];
    assert_eq!(peer.is_told(2), everything);
    assert!(is_back(&told));
    assert_eq!(outcomes.recv_timeout(SOON), Ok(("world", true)));
    let again = peer.hears();
    assert_eq!((again.id, again.ask), (counts, Ask::Counts));
    peer.answers(counts, Answer::Counts(Vec::new()));
    assert_eq!(outcomes.recv_timeout(SOON), Ok(("counts", true)));
    let last = peer.hears();
    peer.answers(last.id, Answer::Refused("no".to_owned()));
    assert_eq!(outcomes.recv_timeout(SOON), Ok(("upstream", true)));
}

#[test]
fn news_while_a_broker_is_being_told_reach_it_before_it_is_asked_anything() {
    let place = Place::new();
    let (link, told, peer) = joined(&place);
    link.flow_opened(note("a"));
    drop(peer);
    assert!(is_away(&told));
    link.counts(|_counts| {});
    let broker = place.broker();
    let (peer, _claim) = broker.greets(BIRTH);
    let first = peer.hears();
    // It is in the middle of it: this is neither told yet nor lost.
    link.flow_closed("a".to_owned());
    peer.answers(first.id, Answer::Done);
    let closed = Ask::FlowClosed {
        session: "a".to_owned(),
    };
    assert_eq!(peer.is_told(1), [closed]);
    assert_eq!(peer.hears().ask, Ask::Counts);
}

#[test]
fn a_node_comes_back_as_what_it_was() {
    let place = Place::new();
    let (link, told, peer) = joined(&place);
    let (sender, serving) = channel();
    link.serving(move |done| sender.send(done.is_ok()).unwrap());
    peer.answers(peer.hears().id, Answer::Done);
    assert_eq!(serving.recv_timeout(SOON), Ok(true));
    drop(peer);
    assert!(is_away(&told));
    let broker = place.broker();
    let (peer, claim) = broker.greets(BIRTH);
    let Claim::Serving { since_ns } = claim else {
        panic!("{claim:?}");
    };
    assert!(since_ns > 0 && is_back(&told));
    // Another one served meanwhile, later.
    peer.says(&FromBroker::Drain { snapshots: 3 });
    let drained = told.recv_timeout(SOON);
    assert!(matches!(drained, Ok(Told::Drain { snapshots: 3 })));
    drop((peer, broker));
    assert!(is_away(&told));
    assert_eq!(place.broker().greets(BIRTH).1, Claim::Draining);
}

#[test]
fn a_broker_that_ends_before_its_answer_is_no_reason_to_give_up() {
    let place = Place::new();
    let (_link, told, peer) = joined(&place);
    drop(peer);
    assert!(is_away(&told));
    let broker = place.broker();
    // One that does not even read, one that does not answer, one that ends while it is told.
    drop(broker.meets());
    let silent = broker.meets();
    let _hello = silent.hears();
    drop(silent);
    let (peer, _claim) = broker.greets(BIRTH);
    assert!(is_back(&told));
    drop(peer);
    assert!(is_away(&told));
}

#[test]
fn a_broker_of_another_version_or_with_other_maps_ends_it() {
    for birth in [None, Some(BIRTH + 1)] {
        let place = Place::new();
        let (link, told, peer) = joined(&place);
        let (sender, outcomes) = channel();
        link.counts(move |counts| sender.send(counts).unwrap());
        drop(peer);
        assert!(is_away(&told));
        let broker = place.broker();
        if let Some(birth) = birth {
            broker.greets(birth);
        } else {
            let peer = broker.meets();
            let text = "the node speaks version 4, the broker 5";
            peer.answers(peer.hears().id, Answer::Refused(text.to_owned()));
        }
        let gone = told.recv_timeout(SOON);
        assert!(matches!(gone, Ok(Told::Gone(_))), "{birth:?}");
        assert_eq!(outcomes.recv_timeout(SOON), Ok(Err(LinkError::Gone)));
        let (sender, outcomes) = channel();
        link.ledger(move |report| sender.send(report).unwrap());
        assert_eq!(outcomes.recv_timeout(SOON), Ok(Err(LinkError::Gone)));
    }
}

#[test]
fn nobody_waits_for_a_broker_that_has_been_gone_for_long() {
    let mut state = State {
        line: Line::Away { since_ns: 0 },
        last: 0,
        waiting: BTreeMap::new(),
        standing: Standing::default(),
        news: None,
        told_with_all: Vec::new(),
        claim: Claim::New,
    };
    let kept = |state: &mut State, ask, too_long| {
        let callback: Callback = Box::new(|_outcome| {});
        state
            .ask_later(ask, Vec::new(), callback, too_long)
            .is_none()
    };
    assert!(kept(&mut state, Ask::Counts, false));
    assert!(!kept(&mut state, Ask::Counts, true));
    // What is so has to be told whenever one comes.
    assert!(kept(&mut state, Ask::World(World::MembersComplete), true));
    while state.waiting.len() + state.told_with_all.len() < WAITING_MAX {
        assert!(kept(&mut state, Ask::Counts, false));
    }
    assert!(!kept(&mut state, Ask::Counts, false));
}
