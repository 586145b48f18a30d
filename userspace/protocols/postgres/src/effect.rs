//! A write whose effect is approved: run in a transaction, shown, then committed or rolled back.
//!
//! Begin → Run → Look → (a reviewer) → End. Outside of a transaction it gets one of ours; inside one
//! of the agent's it runs as part of that, and a denial fails the transaction as any refusal does.
//! Nothing of its answer reaches the agent before the approval. Before-images are what cursors that
//! were opened before it see of the rows that this transaction has superseded; nothing the agent
//! wrote is part of a question of ours.

mod look;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use weir_decide::Permit;
use weir_govern::{ClientBytes, Hold, Output, OwnToClient, OwnToServer, Refusal, Reply, Ruling};
use weir_model::time::Now;

use self::look::{Answer, Table};
use crate::expect_query::{QueryJob, Then};
use crate::pipeline::{Expect, Staged};
use crate::reply;
use crate::session::{PostgresSession, State};
use crate::wire::backend::{self, put_ready};
use crate::wire::{Frame, cstr, message};

/// Bytes of an answer that is kept back until the decision.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// A held write that runs, or has run.
pub(crate) struct Effect {
    hold: Option<Hold>,
    job: Option<QueryJob>,
    /// The transaction is ours, and so is its end.
    own: bool,
    step: Step,
    permit: Option<Arc<Permit>>,
    tables: Vec<Table>,
    /// What the agent gets once it is approved.
    kept: Vec<ClientBytes>,
    kept_bytes: usize,
    rows: u64,
    tag: String,
}

enum Step {
    /// Our transaction, what foreign keys would do, and a cursor for each table.
    Begin,
    Run,
    Look,
    Waits,
    Commit(Arc<Permit>),
    /// What the agent is told behind it.
    Rollback(Bytes),
}

/// Questions of one step, answered one after the other.
pub(crate) struct Asked {
    answers: Vec<Answer>,
    open: Answer,
    left: usize,
}

impl PostgresSession {
    /// Begins with a hold whose effect is approved.
    pub(crate) fn show_effect(&mut self, hold: Hold, then: Then, now: Now) {
        let job = match then {
            Then::Query(job) => job,
            Then::Execute { .. } => {
                let why = "only what is sent as a simple query can be shown before it is approved";
                let Some(governor) = &mut self.governor else {
                    return;
                };
                let refusal = governor.unshowable(&hold, why, now);
                return self.deny_extended(&refusal);
            }
            Then::Effect => return self.confused(),
        };
        let tables = match self.showable(&job) {
            Ok(tables) => tables,
            Err(why) => return self.refuse_unshown((&hold, &job), why, now),
        };
        let own = self.transaction == b'I';
        let mut questions = Vec::new();
        if own {
            questions.push("begin read write".to_owned());
        }
        questions.extend(tables.iter().flat_map(Table::before));
        self.effect = Some(Box::new(Effect {
            hold: Some(hold),
            job: Some(job),
            own,
            step: Step::Begin,
            permit: None,
            tables,
            kept: Vec::new(),
            kept_bytes: 0,
            rows: 0,
            tag: String::new(),
        }));
        self.waiting = true;
        self.ask_about_effect(&questions);
    }

    fn refuse_unshown(&mut self, (hold, job): (&Hold, &QueryJob), why: &str, now: Now) {
        let Some(governor) = &mut self.governor else {
            return;
        };
        let refusal = governor.unshowable(hold, why, now);
        let bytes = reply::denial(&refusal.denial, self.session_id());
        self.not_run(job, now);
        self.refuse_query(bytes);
    }

    /// Each is a message of its own: the answer to one ends with ReadyForQuery.
    fn ask_about_effect(&mut self, questions: &[String]) {
        let mut out = BytesMut::new();
        for question in questions {
            message(&mut out, b'Q', |out| {
                out.extend_from_slice(crate::probe::MARK.as_bytes());
                cstr(out, question);
            });
        }
        self.own_to_server(OwnToServer::Probe, |to| to.extend_from_slice(&out));
        self.expected.push_back(Expect::Effect(Box::new(Asked {
            answers: Vec::new(),
            open: Answer::default(),
            left: questions.len(),
        })));
    }

    /// Whether a message answers one of our questions; it is taken then.
    pub(crate) fn effect_frame(&mut self, frame: &Frame, now: Now) -> bool {
        let Some(Expect::Effect(asked)) = self.expected.front_mut() else {
            return false;
        };
        match frame.tag {
            b'T' => match backend::row_description(frame) {
                Ok(fields) => asked.open.fields = fields,
                Err(_) => self.confused(),
            },
            b'D' => asked.open.row(frame),
            b'C' => asked.open.tag = backend::command_tag(frame),
            b'E' => asked.open.failed = Some(backend::sqlstate(frame)),
            b'Z' => {
                let answer = std::mem::take(&mut asked.open);
                asked.answers.push(answer);
                asked.left = asked.left.saturating_sub(1);
                let done = asked.left == 0;
                self.transaction = frame.body().first().copied().unwrap_or(0);
                if done && let Some(Expect::Effect(asked)) = self.expected.pop_front() {
                    self.effect_answered(asked.answers, now);
                }
            }
            b'N' => {}
            b'S' | b'A' => return false,
            _ => self.confused(),
        }
        true
    }

    fn effect_answered(&mut self, answers: Vec<Answer>, now: Now) {
        let Some(mut effect) = self.effect.take() else {
            return self.confused();
        };
        let failed = answers.iter().find_map(|answer| answer.failed.clone());
        match std::mem::replace(&mut effect.step, Step::Waits) {
            Step::Begin if failed.is_some() || self.transaction != b'T' => {
                let why = "the server did not let its effect be looked at";
                self.take_effect_back(effect, why, now);
            }
            Step::Begin if answers.iter().any(Answer::cascades) => {
                let why = "a foreign key may change rows of other tables, which are not shown";
                self.take_effect_back(effect, why, now);
            }
            Step::Begin => self.run_for_effect(effect, now),
            Step::Look if failed.is_some() => {
                let why = "its effect could not be looked at";
                self.take_effect_back(effect, why, now);
            }
            Step::Look => self.ask_reviewer(effect, &answers, now),
            Step::Commit(permit) => {
                let kept = answers.iter().any(|answer| answer.tag == "COMMIT");
                self.effect_committed(*effect, &permit, (kept, failed), now);
            }
            Step::Rollback(bytes) => self.end_effect(bytes),
            Step::Run | Step::Waits => self.confused(),
        }
    }

    /// The agent's own message, now that it can be taken back.
    fn run_for_effect(&mut self, mut effect: Box<Effect>, now: Now) {
        let (Some(governor), Some(hold), Some(job)) =
            (&mut self.governor, &effect.hold, &effect.job)
        else {
            return self.confused();
        };
        let permit = match governor.rehearse(hold, now) {
            Ruling::Permit(permit) => permit,
            Ruling::Denial(refusal) => return self.roll_effect_back(effect, &refusal, now),
            Ruling::Hold(_) => return self.confused(),
        };
        let Some(statement) = job.statements.first() else {
            return self.confused();
        };
        let bytes = job.frame.clone();
        let statement = Arc::clone(statement);
        let running = self.running(&statement, &permit, None);
        self.staged.push_back(Staged::Forward {
            permit: Arc::clone(&permit),
            bytes,
            expect: vec![Expect::Statement(Box::new(running)), Expect::QueryEnd],
        });
        self.batches_sent += 1;
        effect.permit = Some(permit);
        effect.step = Step::Run;
        self.effect = Some(effect);
        self.release_recorded();
    }

    /// The agent's statement runs, and what it answers is kept back.
    pub(crate) fn keeps_back(&self) -> bool {
        let effect = self.effect.as_ref();
        effect.is_some_and(|effect| matches!(effect.step, Step::Run))
    }

    /// Moves what was meant for the agent since `mark` to what is kept. When the session ends
    /// meanwhile, its last word alone goes out.
    pub(crate) fn keep_back(&mut self, mark: usize) {
        let ended = matches!(self.state, State::Closed);
        let mut last = None;
        for output in self.outputs.split_off(mark.min(self.outputs.len())) {
            let Output::ToClient(bytes) = output else {
                if let (Output::Close(_), Some(bytes)) = (&output, last.take()) {
                    self.outputs.push_back(Output::ToClient(bytes));
                }
                self.outputs.push_back(output);
                continue;
            };
            if ended {
                last = Some(bytes);
            } else if let Some(effect) = &mut self.effect {
                effect.kept_bytes += bytes.as_bytes().len();
                effect.kept.push(bytes);
                if effect.kept_bytes > KEPT_BYTES_MAX {
                    effect.kept.clear();
                }
            }
        }
    }

    /// Counted before the answer is complete: its tag is for the reviewer, too.
    pub(crate) fn effect_tag(&mut self, frame: &Frame) {
        if let Some(effect) = &mut self.effect
            && matches!(effect.step, Step::Run)
        {
            effect.tag = backend::command_tag(frame);
            let count = effect.tag.rsplit(' ').next().and_then(|n| n.parse().ok());
            effect.rows = count.unwrap_or(0);
        }
    }

    /// ReadyForQuery behind the agent's statement. False when it is not ours to take.
    pub(crate) fn effect_ran(&mut self, status: u8) -> bool {
        if !self.keeps_back() {
            return false;
        }
        self.transaction = status;
        // What was meant for the agent is still among the outputs: it is moved first.
        self.effect_looks = true;
        true
    }

    /// Behind [`Self::keep_back`]: looks at what it did.
    pub(crate) fn look_at_effect(&mut self, now: Now) {
        if !std::mem::take(&mut self.effect_looks) {
            return;
        }
        let Some(mut effect) = self.effect.take() else {
            return;
        };
        let cut_off = std::mem::take(&mut self.fail_transaction);
        if cut_off || self.transaction != b'T' {
            // The server's error, or that of a limit, is the last thing that it said.
            let said = effect.kept.pop().map(ClientBytes::into_bytes);
            let said = said.filter(|said| said.first() == Some(&b'E'));
            let why = "the statement itself failed";
            return self.effect_failed(effect, said, why, now);
        }
        if effect.kept_bytes > KEPT_BYTES_MAX {
            let why = "its answer is too large to be kept back until a decision";
            return self.take_effect_back(effect, why, now);
        }
        effect.step = Step::Look;
        let questions: Vec<String> = effect.tables.iter().flat_map(Table::after).collect();
        self.effect = Some(effect);
        self.ask_about_effect(&questions);
    }

    fn effect_failed(&mut self, effect: Box<Effect>, said: Option<Bytes>, why: &str, now: Now) {
        match (said, &effect.hold, &mut self.governor) {
            (Some(said), Some(hold), Some(governor)) => {
                let _recorded = governor.unshowable(hold, why, now);
                self.undo_effect(effect, said);
            }
            _ => self.take_effect_back(effect, why, now),
        }
    }

    fn ask_reviewer(&mut self, mut effect: Box<Effect>, answers: &[Answer], now: Now) {
        let Some(hold) = effect.hold.take() else {
            return self.confused();
        };
        let shown = weir_model::effect::Effect {
            tag: effect.tag.clone(),
            changed: self.changed(&effect.tables, answers, now),
        };
        effect.step = Step::Waits;
        self.effect = Some(effect);
        // What still runs until the decision is the transaction, not the client.
        self.waiting = false;
        self.ask_for_approval(hold, Then::Effect, Some(shown));
    }

    /// The reviewers' word, or that there will be none.
    pub(crate) fn effect_settled(&mut self, ruling: Ruling, now: Now) {
        let Some(mut effect) = self.effect.take() else {
            return;
        };
        self.waiting = true;
        match ruling {
            Ruling::Permit(permit) => {
                let same = (effect.permit.as_ref())
                    .is_some_and(|before| before.obligations() == permit.obligations());
                if !same {
                    // It is not what was shown, and masked otherwise.
                    self.finish_unrun(permit.seq(), "weir:effect", now);
                    let why = "policy changed while it was looked at";
                    return self.take_effect_back(effect, why, now);
                }
                if effect.own {
                    effect.step = Step::Commit(permit);
                    self.effect = Some(effect);
                    self.ask_about_effect(&["commit".to_owned()]);
                } else {
                    self.effect_committed(*effect, &permit, (true, None), now);
                }
            }
            Ruling::Denial(refusal) => self.roll_effect_back(effect, &refusal, now),
            Ruling::Hold(hold) => {
                effect.hold = Some(*hold);
                let why = "policy changed while it was looked at";
                self.take_effect_back(effect, why, now);
            }
        }
    }

    fn effect_committed(
        &mut self,
        effect: Effect,
        permit: &Permit,
        (kept, failed): (bool, Option<String>),
        now: Now,
    ) {
        let status = match &failed {
            None if kept => "ok".to_owned(),
            None => "weir:effect".to_owned(),
            Some(code) => code.clone(),
        };
        let reply = Reply {
            rows: if status == "ok" { effect.rows } else { 0 },
            bytes_out: effect.kept_bytes as u64,
            status,
            ..Reply::default()
        };
        let stays = reply.status == "ok";
        if let Some(governor) = &mut self.governor {
            governor.complete(permit.seq(), reply, now);
        }
        if stays {
            for bytes in effect.kept {
                self.outputs.push_back(Output::ToClient(bytes));
            }
            return self.end_effect(Bytes::new());
        }
        let code = failed.unwrap_or_else(|| "40000".to_owned());
        let text = "weir: the approved statement could not be committed; nothing of it stays";
        self.end_effect(reply::error(&code, text, ""));
    }

    /// Nothing of it stays, for a reason of ours.
    fn take_effect_back(&mut self, effect: Box<Effect>, why: &str, now: Now) {
        let Some(governor) = &mut self.governor else {
            return;
        };
        let refusal = match &effect.hold {
            Some(hold) => governor.unshowable(hold, why, now),
            None => governor.refuse("weir:effect", why, Arc::from(""), now),
        };
        self.roll_effect_back(effect, &refusal, now);
    }

    fn roll_effect_back(&mut self, effect: Box<Effect>, refusal: &Refusal, now: Now) {
        let bytes = reply::denial(&refusal.denial, self.session_id());
        if let Some(job) = &effect.job {
            self.not_run(job, now);
        }
        self.undo_effect(effect, bytes);
    }

    /// Undoes it, and says `bytes` behind that.
    pub(crate) fn undo_effect(&mut self, mut effect: Box<Effect>, bytes: Bytes) {
        self.waiting = true;
        if effect.own && self.transaction != b'I' {
            effect.step = Step::Rollback(bytes);
            effect.kept.clear();
            self.effect = Some(effect);
            self.ask_about_effect(&["rollback".to_owned()]);
        } else if self.transaction == b'T' {
            self.waiting = false;
            self.refuse_query(bytes);
        } else {
            self.end_effect(bytes);
        }
    }

    /// The client cancelled while a reviewer was asked.
    pub(crate) fn effect_cancelled(&mut self, bytes: Bytes) {
        if let Some(effect) = self.effect.take() {
            self.undo_effect(effect, bytes);
        }
    }

    fn end_effect(&mut self, bytes: Bytes) {
        let status = self.transaction;
        if !bytes.is_empty() {
            self.pass_to_client(OwnToClient::Denial, bytes);
        }
        self.batch_ended(status);
        self.tell_client(OwnToClient::Status, |out| put_ready(out, status));
        self.waiting = false;
        self.waits_idle = false;
    }
}
