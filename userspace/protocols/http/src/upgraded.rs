//! A connection after its upgrade: moves bytes between agent, dialogue and server.

mod pipe;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use hyper::upgrade::{OnUpgrade, Upgraded};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep_until, timeout};
use weir_govern::{Blocked, Cleared, Gate};

use self::pipe::{Sink, Source, ends};
use crate::api::Api;
use crate::dialogue::{Answer, Dialogue, OPENING, Step, Stopped};
use crate::serve::Flow;

/// The agent's connection has to be free for the upgrade within this.
const UPGRADE_TIME_MAX: Duration = Duration::from_secs(20);
/// A connection on which neither side says anything ends; the kubelet's own default.
const IDLE_TIME_MAX: Duration = Duration::from_secs(4 * 3600);
/// What is still underway at the end has to be taken within this.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_secs(1);
/// The server paused: what was kept back is looked at.
const PAUSE: Duration = Duration::from_millis(50);
/// Questions of one connection that wait at a time.
const QUESTIONS_MAX: usize = 64;

/// One upgraded connection and the proofs by which it may go on.
pub(crate) struct Session<G: Gate, A: Api, D> {
    flow: Rc<Flow<G, A, D>>,
    /// By question; the dialogue's bytes go on by these.
    cleared: BTreeMap<u32, Cleared>,
    dialogue: A::Dialogue,
    statement: Arc<str>,
    over: bool,
}

/// The four ends that bytes come from and go to.
struct Ends {
    from_agent: Source,
    to_agent: Sink,
    from_server: Source,
    to_server: Sink,
}

type Asked = JoinSet<(u32, Result<Cleared, Blocked>)>;

/// Why the loop ended.
enum End {
    Agent,
    Server,
    Stopped(Stopped),
}

/// What happened.
enum Woken {
    Moved,
    AgentSaid(usize),
    ServerSaid(usize),
    Answered(u32, Result<Cleared, Blocked>),
    Ticked,
    Ended(End),
}

impl<G: Gate + 'static, A: Api, D: 'static> Session<G, A, D> {
    /// `cleared`: the request that asked for the upgrade, and those that were asked with it.
    pub(crate) fn new(
        flow: Rc<Flow<G, A, D>>,
        cleared: Vec<Cleared>,
        dialogue: A::Dialogue,
        statement: Arc<str>,
    ) -> Self {
        Self {
            flow,
            cleared: (OPENING..).zip(cleared).collect(),
            dialogue,
            statement,
            over: false,
        }
    }

    /// Runs until either side leaves, or the flow is stopped.
    pub(crate) async fn run(mut self, agent: OnUpgrade, server: Upgraded) {
        let agent = match timeout(UPGRADE_TIME_MAX, agent).await {
            Ok(Ok(agent)) => agent,
            Ok(Err(error)) => {
                tracing::info!(%error, "an agent left before its upgrade");
                return;
            }
            Err(_elapsed) => return,
        };
        let (from_agent, to_agent) = ends(agent);
        let (from_server, to_server) = ends(server);
        let mut ends = Ends {
            from_agent,
            to_agent,
            from_server,
            to_server,
        };
        let mut asked = JoinSet::new();
        let end = self.relay(&mut ends, &mut asked).await;
        let mut steps = Vec::new();
        match end {
            End::Agent => {}
            End::Server => self.dialogue.server_left(weir_clock::now(), &mut steps),
            End::Stopped(stopped) => {
                self.flow.gate.refuse(
                    "weir:stream",
                    &format!("weir: {}", stopped.text),
                    Arc::clone(&self.statement),
                );
                self.dialogue.stop(stopped, weir_clock::now(), &mut steps);
            }
        }
        // Questions that still wait are given up.
        drop(asked);
        // The end is recorded in any case; what could not be carried out is not sent.
        let _carried = self.carry_out(steps, &mut ends, &mut JoinSet::new());
        self.finish();
        let drained = async {
            tokio::join!(
                ends.to_agent.drain(&mut ends.from_agent),
                ends.to_server.drain(&mut ends.from_server)
            )
        };
        if timeout(DRAIN_TIME_MAX, drained).await.is_err() {
            tracing::info!("the end of a stream was not taken in time");
        }
    }

    async fn relay(&mut self, ends: &mut Ends, asked: &mut Asked) -> End {
        let mut steps = Vec::new();
        let mut tick = Instant::now() + TICK;
        let mut idle = Instant::now() + IDLE_TIME_MAX;
        loop {
            let wants_agent = ends.to_server.has_room()
                && !ends.to_agent.is_crowded()
                && self.dialogue.wants_agent();
            let wants_server = ends.to_agent.has_room();
            let (agent_waits, server_waits) =
                (ends.to_agent.has_bytes(), ends.to_server.has_bytes());
            let woken = tokio::select! {
                read = ends.from_agent.read(), if wants_agent => {
                    read.map_or(Woken::Ended(End::Agent), Woken::AgentSaid)
                }
                read = ends.from_server.read(), if wants_server => {
                    read.map_or(Woken::Ended(End::Server), Woken::ServerSaid)
                }
                wrote = ends.to_agent.write(), if agent_waits => {
                    wrote.map_or(Woken::Ended(End::Agent), |()| Woken::Moved)
                }
                wrote = ends.to_server.write(), if server_waits => {
                    wrote.map_or(Woken::Ended(End::Server), |()| Woken::Moved)
                }
                Some(Ok((question, answer))) = asked.join_next() => Woken::Answered(question, answer),
                text = self.flow.stopped() => {
                    Woken::Ended(End::Stopped(Stopped { text, status: "killed" }))
                }
                () = sleep_until(tick) => Woken::Ticked,
            };
            let now = weir_clock::now();
            let said = match woken {
                Woken::Moved => continue,
                Woken::Ended(end) => return end,
                Woken::AgentSaid(_) | Woken::ServerSaid(_) => {
                    idle = Instant::now() + IDLE_TIME_MAX;
                    if matches!(woken, Woken::ServerSaid(_)) {
                        tick = Instant::now() + PAUSE;
                    }
                    self.said(&woken, ends, &mut steps)
                }
                Woken::Answered(question, answer) => {
                    let answer = self.answer(question, answer);
                    self.dialogue.answered(question, answer, now, &mut steps)
                }
                Woken::Ticked => {
                    tick = Instant::now() + TICK;
                    if tick > idle {
                        Err(Stopped {
                            text: "nothing was said for four hours",
                            status: "idle",
                        })
                    } else {
                        self.dialogue.tick(now, &mut steps)
                    }
                }
            };
            let carried = self.carry_out(std::mem::take(&mut steps), ends, asked);
            if let Err(stopped) = said.and(carried) {
                return End::Stopped(stopped);
            }
        }
    }

    fn said(&mut self, woken: &Woken, ends: &Ends, steps: &mut Vec<Step>) -> Result<(), Stopped> {
        let now = weir_clock::now();
        match woken {
            Woken::AgentSaid(count) => {
                let bytes = ends.from_agent.taken(*count);
                self.dialogue.agent_said(bytes, now, steps)
            }
            Woken::ServerSaid(count) => {
                let bytes = ends.from_server.taken(*count);
                self.dialogue.server_said(bytes, now, steps)
            }
            Woken::Moved | Woken::Answered(..) | Woken::Ticked | Woken::Ended(_) => Ok(()),
        }
    }

    fn answer(&mut self, question: u32, answer: Result<Cleared, Blocked>) -> Answer {
        match answer {
            Ok(cleared) => {
                self.flow.gate.first_byte(cleared.seq());
                self.cleared.insert(question, cleared);
                Answer::Cleared
            }
            Err(Blocked::Refused(refusal)) => Answer::Refused(refusal.text()),
            Err(Blocked::NotRecorded) => Answer::Refused(
                "weir: the request could not be recorded and was not sent".to_owned(),
            ),
        }
    }

    fn carry_out(
        &self,
        steps: Vec<Step>,
        ends: &mut Ends,
        asked: &mut Asked,
    ) -> Result<(), Stopped> {
        const UNPROVEN: Stopped = Stopped {
            text: "a part of the stream has no permit",
            status: "internal",
        };
        for step in steps {
            match step {
                Step::Record(piece) => self.record(piece)?,
                Step::ToServer(question, bytes) => {
                    let cleared = self.cleared.get(&question).ok_or(UNPROVEN)?;
                    ends.to_server.forward(cleared.forward(bytes));
                }
                Step::ToAgent(bytes) => ends.to_agent.show(&bytes),
                Step::Ask(question, request) => {
                    if asked.len() >= QUESTIONS_MAX {
                        return Err(Stopped {
                            text: "too many ports wait for a decision",
                            status: "limit",
                        });
                    }
                    let flow = Rc::clone(&self.flow);
                    asked.spawn_local(async move { (question, flow.gate.ask(request).await) });
                }
            }
        }
        Ok(())
    }

    fn record(&self, piece: String) -> Result<(), Stopped> {
        const NOT_RECORDED: Stopped = Stopped {
            text: "the terminal could not be recorded",
            status: "internal",
        };
        let cleared = self.cleared.get(&OPENING).ok_or(NOT_RECORDED)?;
        self.flow
            .gate
            .terminal(cleared.seq(), piece)
            .map_err(|_| NOT_RECORDED)
    }
}

impl<G: Gate, A: Api, D> Session<G, A, D> {
    /// Records how all ended.
    fn finish(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let (piece, replies) = self.dialogue.replies();
        if let (Some(piece), Some(cleared)) = (piece, self.cleared.get(&OPENING))
            && self.flow.gate.terminal(cleared.seq(), piece).is_err()
        {
            tracing::error!("the end of a terminal is not recorded");
        }
        for (question, reply) in replies {
            if let Some(cleared) = self.cleared.get(&question) {
                self.flow.gate.complete(cleared.seq(), reply);
            }
        }
    }
}

impl<G: Gate, A: Api, D> Drop for Session<G, A, D> {
    fn drop(&mut self) {
        self.finish();
    }
}
