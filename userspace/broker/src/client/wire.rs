//! The connection to the broker, over its restarts.
//!
//! A question is kept until it is answered, and asked again of a broker that comes; what the node
//! told is kept as long as it is true, and told again as a whole before anything else.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::pulse::Vital;
use super::standing::{Standing, is_standing};
use super::{AWAY_MAX, LinkError, Told, unpack};
use crate::message::{Answer, Ask, Asking, Claim, FromBroker, MESSAGES_VERSION, receive, send};
use crate::serve::monotonic_ns;

/// Questions at once; more are answered with [`LinkError::Gone`].
const WAITING_MAX: usize = 8192;
/// A broker that is gone is looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// The same once nobody waits for it any more.
const LOOK_LATER_EVERY: Duration = Duration::from_millis(250);
/// A broker that was connected to answers within this, or it is tried again.
const GREETED_WITHIN_S: i64 = 5;

pub(super) type Outcome = Result<(Answer, Vec<OwnedFd>), LinkError>;
pub(super) type Callback = Box<dyn FnOnce(Outcome) + Send>;

/// A question with its descriptors, as it may have to be asked again.
struct Question {
    ask: Ask,
    fds: Vec<OwnedFd>,
}

impl Question {
    fn send(&self, line: &OwnedFd, id: u64) -> io::Result<()> {
        let fds: Vec<BorrowedFd<'_>> = self.fds.iter().map(AsFd::as_fd).collect();
        send(line.as_fd(), &Asking { id, ask: &self.ask }, &fds)
    }
}

struct Waiting {
    question: Arc<Question>,
    callback: Callback,
}

enum Line {
    Up(Arc<OwnedFd>),
    Away {
        since_ns: u64,
    },
    /// The broker that is there now does not take this node.
    Over,
}

struct State {
    line: Line,
    last: u64,
    waiting: BTreeMap<u64, Waiting>,
    standing: Standing,
    /// A broker is being told; what is new meanwhile follows in order.
    news: Option<Vec<Ask>>,
    /// Called once everything was told.
    told_with_all: Vec<Callback>,
    claim: Claim,
}

/// Both ends' memory of one another.
pub(super) struct Wire {
    path: PathBuf,
    snapshots: u32,
    /// Of the maps that this node works with.
    birth: u64,
    vital: Arc<Vital>,
    state: Mutex<State>,
}

/// What a broker's answer to the first message brings.
pub(super) struct Greeted {
    pub(super) socket: OwnedFd,
    pub(super) birth: u64,
    pub(super) accepted_map: OwnedFd,
    pub(super) admin: OwnedFd,
    pub(super) pulse: OwnedFd,
    pub(super) heartbeat: OwnedFd,
    pub(super) speakers: Option<OwnedFd>,
    pub(super) told: Vec<Told>,
}

/// Why a broker was not reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotGreeted {
    /// None is there, or it is busy with another node.
    #[error("{0}")]
    NotNow(#[from] io::Error),
    #[error("the broker turned this node away: {0}")]
    Refused(String),
}

/// There is a broker again.
pub(super) struct Back {
    pub(super) admin: OwnedFd,
    pub(super) told: Vec<Told>,
    /// What it has to be asked again.
    pub(super) unanswered: Vec<u64>,
}

/// Connects and says hello; the broker moves this process into Weir's cgroup before it answers.
pub(super) fn greet(path: &Path, snapshots: u32, claim: Claim) -> Result<Greeted, NotGreeted> {
    let socket = dial(path)?;
    let hello = Ask::Hello {
        abi: MESSAGES_VERSION,
        snapshots,
        claim,
    };
    send(socket.as_fd(), &Asking { id: 0, ask: &hello }, &[])?;
    let mut told = Vec::new();
    let (birth, fds) = loop {
        let (message, fds) = next(&socket)?;
        match message {
            FromBroker::Answer {
                answer: Answer::Hello { birth },
                ..
            } => break (birth, fds),
            FromBroker::Answer {
                answer: Answer::Refused(text),
                ..
            } => return Err(NotGreeted::Refused(text)),
            FromBroker::Answer { .. } => {
                let text = "its answer cannot be understood".to_owned();
                return Err(NotGreeted::Refused(text));
            }
            other => told.extend(unpack(other, fds)),
        }
    };
    let mut fds = fds.into_iter();
    let (Some(accepted_map), Some(admin), Some(pulse), Some(heartbeat)) =
        (fds.next(), fds.next(), fds.next(), fds.next())
    else {
        let text = "its hello lacks descriptors".to_owned();
        return Err(NotGreeted::Refused(text));
    };
    Ok(Greeted {
        socket,
        birth,
        accepted_map,
        admin,
        pulse,
        heartbeat,
        speakers: fds.next(),
        told,
    })
}

fn dial(path: &Path) -> io::Result<OwnedFd> {
    let (kind, flags) = (SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
    let socket = socket(AddressFamily::Unix, kind, flags, None)?;
    patience(&socket, GREETED_WITHIN_S)?;
    connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// For how long a broker is waited for, seconds; 0 means for ever.
fn patience(socket: &OwnedFd, seconds: i64) -> io::Result<()> {
    let within = TimeVal::new(seconds, 0);
    setsockopt(socket, sockopt::ReceiveTimeout, &within)?;
    Ok(setsockopt(socket, sockopt::SendTimeout, &within)?)
}

/// The next message; an error at the end.
fn next(socket: &OwnedFd) -> io::Result<(FromBroker, Vec<OwnedFd>)> {
    loop {
        match receive::<FromBroker>(socket.as_fd()) {
            Ok(Some(received)) => return Ok(received),
            Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn is_lost(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected
    )
}

impl Wire {
    pub(super) fn new(
        (path, snapshots): (&Path, u32),
        (socket, birth): (OwnedFd, u64),
        vital: Arc<Vital>,
    ) -> io::Result<Self> {
        patience(&socket, 0)?;
        Ok(Self {
            path: path.to_owned(),
            snapshots,
            birth,
            vital,
            state: Mutex::new(State {
                line: Line::Up(Arc::new(socket)),
                last: 0,
                waiting: BTreeMap::new(),
                standing: Standing::default(),
                news: None,
                told_with_all: Vec::new(),
                claim: Claim::New,
            }),
        })
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        // Every change is made in one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Never blocks beyond one `sendmsg(2)`.
    pub(super) fn ask(&self, ask: Ask, fds: Vec<OwnedFd>, callback: Callback) {
        let mut state = self.locked();
        state.standing.note(&ask);
        let line = match &state.line {
            Line::Up(line) => Arc::clone(line),
            Line::Away { since_ns } => {
                let too_long = too_long(*since_ns);
                if let Some(callback) = state.ask_later(ask, fds, callback, too_long) {
                    drop(state);
                    callback(Err(LinkError::Gone));
                }
                return;
            }
            Line::Over => {
                drop(state);
                callback(Err(LinkError::Gone));
                return;
            }
        };
        if state.waiting.len() >= WAITING_MAX {
            drop(state);
            callback(Err(LinkError::Gone));
            return;
        }
        let (id, question) = state.wait(ask, fds, callback);
        drop(state);
        match question.send(&line, id) {
            Ok(()) => {}
            // The reading thread hears of it, and it is asked again.
            Err(error) if is_lost(&error) => {}
            Err(error) => self.answered(id, Err(LinkError::Refused(error.to_string()))),
        }
    }

    fn answered(&self, id: u64, outcome: Outcome) {
        let waiting = self.locked().waiting.remove(&id);
        if let Some(waiting) = waiting {
            (waiting.callback)(outcome);
        }
    }

    /// The broker let this node serve.
    pub(super) fn serves(&self) {
        let since_ns = monotonic_ns();
        let mut state = self.locked();
        if state.claim == Claim::New {
            state.claim = Claim::Serving { since_ns };
        }
    }

    fn drains(&self) {
        self.locked().claim = Claim::Draining;
        self.vital.drains();
    }

    /// A flow is another node's by now: it has told of it.
    pub(super) fn flow_moved(&self, session: &str) {
        self.locked().standing.forget_flow(session);
    }

    /// Reads until the broker is gone.
    pub(super) fn read(&self, tell: &mut impl FnMut(Told)) {
        let line = match &self.locked().line {
            Line::Up(line) => Arc::clone(line),
            Line::Away { .. } | Line::Over => return,
        };
        loop {
            match next(&line) {
                Ok((FromBroker::Answer { id, answer }, fds)) => {
                    self.answered(id, Ok((answer, fds)));
                }
                Ok((other, fds)) => {
                    if let Some(told) = unpack(other, fds) {
                        self.heed(&told);
                        tell(told);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "the broker's socket has ended");
                    break;
                }
            }
        }
        self.locked().lost();
    }

    fn heed(&self, told: &Told) {
        if matches!(told, Told::Drain { .. }) {
            self.drains();
        }
    }

    /// Looks for a broker until one is there. The error is a broker that does not take this node:
    /// then nothing more is asked.
    pub(super) fn rejoin(&self) -> Result<Back, String> {
        let mut waited_for = true;
        loop {
            match self.try_again() {
                Ok(back) => return Ok(back),
                Err(NotGreeted::Refused(text)) => {
                    self.over();
                    return Err(text);
                }
                Err(NotGreeted::NotNow(error)) => {
                    tracing::trace!(%error, "no broker yet");
                }
            }
            self.locked().news = None;
            if waited_for && self.is_away_too_long() {
                waited_for = false;
                tracing::error!(
                    "no broker for {} s: protected connects are refused until one is there",
                    AWAY_MAX.as_secs()
                );
                self.give_up();
            }
            std::thread::sleep(if waited_for {
                LOOK_EVERY
            } else {
                LOOK_LATER_EVERY
            });
        }
    }

    fn try_again(&self) -> Result<Back, NotGreeted> {
        let claim = self.locked().claim;
        let mut greeted = greet(&self.path, self.snapshots, claim)?;
        if greeted.birth != self.birth {
            let text = "it has other maps than this node: everything was removed meanwhile";
            return Err(NotGreeted::Refused(text.to_owned()));
        }
        for told in &greeted.told {
            self.heed(told);
        }
        self.vital.follow(greeted.pulse);
        let unanswered = self.tell_all(greeted.socket, &mut greeted.told)?;
        Ok(Back {
            admin: greeted.admin,
            told: greeted.told,
            unanswered,
        })
    }

    /// Tells a broker everything, one message after the other so that neither side's queue fills,
    /// and takes it for ours in the same step in which nothing is left to be told.
    fn tell_all(&self, socket: OwnedFd, told: &mut Vec<Told>) -> io::Result<Vec<u64>> {
        let mut round = {
            let mut state = self.locked();
            state.news = Some(Vec::new());
            state.standing.all()
        };
        loop {
            for ask in round {
                self.tell(&socket, &ask, told)?;
            }
            let mut state = self.locked();
            round = state.news.replace(Vec::new()).unwrap_or_default();
            if !round.is_empty() {
                continue;
            }
            state.news = None;
            patience(&socket, 0)?;
            state.line = Line::Up(Arc::new(socket));
            let unanswered = state.waiting.keys().copied().collect();
            let called = std::mem::take(&mut state.told_with_all);
            drop(state);
            for callback in called {
                callback(Ok((Answer::Done, Vec::new())));
            }
            return Ok(unanswered);
        }
    }

    fn tell(&self, socket: &OwnedFd, ask: &Ask, told: &mut Vec<Told>) -> io::Result<()> {
        let own = self.locked().next();
        send(socket.as_fd(), &Asking { id: own, ask }, &[])?;
        loop {
            let (message, fds) = next(socket)?;
            match message {
                FromBroker::Answer { id, answer } if id == own => {
                    if let Answer::Refused(text) = answer {
                        tracing::error!(text, "the broker that came did not take what was told");
                    }
                    return Ok(());
                }
                // Nothing else was asked yet.
                FromBroker::Answer { .. } => {}
                other => {
                    let new = unpack(other, fds);
                    new.iter().for_each(|one| self.heed(one));
                    told.extend(new);
                }
            }
        }
    }

    /// Asks again what the broker before this one has not answered, on a thread of its own: this
    /// one has to read the answers.
    pub(super) fn ask_again(self: &Arc<Self>, unanswered: Vec<u64>) {
        let wire = Arc::clone(self);
        if unanswered.is_empty() {
            return;
        }
        tracing::info!(questions = unanswered.len(), "asking the new broker again");
        let asking = std::thread::Builder::new().name("weir-ask-again".to_owned());
        let started = asking.spawn(move || {
            for id in unanswered {
                let state = wire.locked();
                let (Line::Up(line), Some(waiting)) = (&state.line, state.waiting.get(&id)) else {
                    continue;
                };
                let (line, question) = (Arc::clone(line), Arc::clone(&waiting.question));
                drop(state);
                if let Err(error) = question.send(&line, id)
                    && !is_lost(&error)
                {
                    wire.answered(id, Err(LinkError::Refused(error.to_string())));
                }
            }
        });
        if let Err(error) = started {
            tracing::error!(%error, "nothing is asked again");
            self.give_up();
        }
    }

    fn is_away_too_long(&self) -> bool {
        match self.locked().line {
            Line::Away { since_ns } => too_long(since_ns),
            Line::Up(_) | Line::Over => false,
        }
    }

    fn over(&self) {
        self.locked().line = Line::Over;
        self.give_up();
    }

    /// Whoever waits hears that no broker is there.
    fn give_up(&self) {
        let (waiting, told) = {
            let mut state = self.locked();
            let told = std::mem::take(&mut state.told_with_all);
            (std::mem::take(&mut state.waiting), told)
        };
        let waiting = waiting.into_values().map(|one| one.callback);
        for callback in waiting.chain(told) {
            callback(Err(LinkError::Gone));
        }
    }
}

fn too_long(since_ns: u64) -> bool {
    let away_ns = monotonic_ns().saturating_sub(since_ns);
    u128::from(away_ns) > AWAY_MAX.as_nanos()
}

impl State {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn wait(&mut self, ask: Ask, fds: Vec<OwnedFd>, callback: Callback) -> (u64, Arc<Question>) {
        let id = self.next();
        let question = Arc::new(Question { ask, fds });
        let waiting = Waiting {
            question: Arc::clone(&question),
            callback,
        };
        self.waiting.insert(id, waiting);
        (id, question)
    }

    /// Keeps it for the broker that comes. Gives the callback back when nobody may wait.
    fn ask_later(
        &mut self,
        ask: Ask,
        fds: Vec<OwnedFd>,
        callback: Callback,
        too_long: bool,
    ) -> Option<Callback> {
        let full = self.waiting.len() + self.told_with_all.len() >= WAITING_MAX;
        if is_standing(&ask) {
            if let Some(news) = &mut self.news {
                news.push(ask);
            }
            if full {
                return Some(callback);
            }
            self.told_with_all.push(callback);
            return None;
        }
        if full || too_long {
            return Some(callback);
        }
        let _later = self.wait(ask, fds, callback);
        None
    }

    /// The broker is gone.
    fn lost(&mut self) {
        self.line = Line::Away {
            since_ns: monotonic_ns(),
        };
        let (told, asked) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(_, waiting)| is_standing(&waiting.question.ask));
        self.waiting = asked;
        let told: BTreeMap<u64, Waiting> = told;
        let callbacks = told.into_values().map(|waiting| waiting.callback);
        self.told_with_all.extend(callbacks);
    }
}

#[cfg(test)]
mod tests;
