//! A write whose effect is approved: run in a transaction, shown, then committed or rolled back.
//!
//! Begin → Run → Look → (a reviewer) → End. A simple query outside of a transaction gets one of ours;
//! inside one of the agent's it runs as part of that, and a denial fails the transaction as any
//! refusal does. A portal runs in the batch that it was sent in: the agent's Sync, which commits an
//! implicit transaction, stays here until the decision, and a denial fails the batch before it.
//! Nothing of its answer reaches the agent before the approval. Before-images are what cursors that
//! were opened before it see of the rows that this transaction has superseded; nothing the agent
//! wrote is part of a question of ours.

mod ask;
mod look;

use std::sync::Arc;

use bytes::Bytes;
use weir_decide::Permit;
use weir_govern::{ClientBytes, Hold, Output, OwnToClient, OwnToServer, Refusal, Reply, Ruling};
use weir_mask::Digest;
use weir_model::time::Now;

pub(crate) use self::ask::Asked;
use self::ask::{Answer, Question};
use self::look::Table;
use crate::expect_query::{QueryJob, Then};
use crate::pipeline::{Expect, Staged};
use crate::reply;
use crate::session::{PostgresSession, State};
use crate::wire::Frame;
use crate::wire::backend::{self, put_ready};

/// Bytes of an answer that is kept back until the decision.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// A held write that runs, or has run.
pub(crate) struct Effect {
    hold: Option<Hold>,
    runs: Runs,
    /// The transaction is ours, and so is its end.
    own: bool,
    /// Of a batch: the server skips the rest of it.
    failed: bool,
    step: Step,
    permit: Option<Arc<Permit>>,
    tables: Vec<Table>,
    /// What the agent gets once it is approved.
    kept: Vec<ClientBytes>,
    kept_bytes: usize,
    rows: u64,
    tag: String,
}

/// What is held.
enum Runs {
    Query(QueryJob),
    /// Its name, and the Execute.
    Portal(String, Bytes),
}

impl Effect {
    const fn in_batch(&self) -> bool {
        matches!(self.runs, Runs::Portal(..))
    }
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

impl PostgresSession {
    /// Begins with a hold whose effect is approved.
    pub(crate) fn show_effect(&mut self, hold: Hold, then: Then, now: Now) {
        let runs = match then {
            Then::Query(job) => Runs::Query(job),
            Then::Execute { portal, frame } => Runs::Portal(portal, frame),
            Then::Effect => return self.confused(),
        };
        let tables = match self.showable(&runs) {
            Ok(tables) => tables,
            Err(why) => return self.refuse_unshown((&hold, &runs), why, now),
        };
        let own = matches!(runs, Runs::Query(_)) && self.transaction == b'I';
        let mut questions = Vec::new();
        if own {
            questions.push(Question::Ask("begin read write".to_owned()));
        }
        questions.extend(tables.iter().flat_map(Table::before));
        self.effect = Some(Box::new(Effect {
            hold: Some(hold),
            runs,
            own,
            failed: false,
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

    fn refuse_unshown(&mut self, (hold, runs): (&Hold, &Runs), why: &str, now: Now) {
        let Some(governor) = &mut self.governor else {
            return;
        };
        let refusal = governor.unshowable(hold, why, now);
        let bytes = reply::denial(&refusal.denial, self.session_id());
        match runs {
            Runs::Query(job) => {
                self.not_run(job, now);
                self.refuse_query(bytes);
            }
            Runs::Portal(..) => self.refuse_extended(bytes),
        }
    }

    /// In the protocol that the agent speaks at the moment: a simple query would end its batch.
    fn ask_about_effect(&mut self, questions: &[Question]) {
        let in_batch = self.effect.as_ref().is_some_and(|it| it.in_batch());
        let (bytes, asked) = if in_batch {
            Asked::in_batch(questions)
        } else {
            Asked::simple(questions)
        };
        // Behind what the agent sent before, which may wait for its receipt.
        self.staged.push_back(Staged::Own {
            kind: OwnToServer::Probe,
            bytes,
            expect: vec![Expect::Effect(Box::new(asked))],
        });
        self.release_recorded();
    }

    /// Whether a message answers one of our questions; it is taken then.
    pub(crate) fn effect_frame(&mut self, frame: &Frame, now: Now) -> bool {
        let Some(Expect::Effect(asked)) = self.expected.front_mut() else {
            return false;
        };
        let Some(done) = asked.take(frame) else {
            if !matches!(frame.tag, b'S' | b'A') {
                self.confused();
                return true;
            }
            return false;
        };
        if frame.tag == b'Z' {
            self.transaction = frame.body().first().copied().unwrap_or(0);
        }
        if done && let Some(Expect::Effect(asked)) = self.expected.pop_front() {
            self.effect_answered(asked.answers, now);
        }
        true
    }

    fn effect_answered(&mut self, answers: Vec<Answer>, now: Now) {
        let Some(mut effect) = self.effect.take() else {
            return self.confused();
        };
        let failed = answers.iter().find_map(|answer| answer.failed.clone());
        effect.failed |= failed.is_some() && effect.in_batch();
        let lacks_transaction = self.transaction != b'T' && !effect.in_batch();
        match std::mem::replace(&mut effect.step, Step::Waits) {
            Step::Begin if failed.is_some() || lacks_transaction => {
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
        let (Some(governor), Some(hold)) = (&mut self.governor, &effect.hold) else {
            return self.confused();
        };
        let permit = match governor.rehearse(hold, now) {
            Ruling::Permit(permit) => permit,
            Ruling::Denial(refusal) => return self.roll_effect_back(effect, &refusal, now),
            Ruling::Hold(_) => return self.confused(),
        };
        let Some(statement) = self.statement_of(&effect.runs) else {
            return self.confused();
        };
        if let Some(bytes) = self.unmaskable(&statement, None, &permit, now) {
            return self.undo_effect(effect, bytes);
        }
        effect.permit = Some(Arc::clone(&permit));
        effect.step = Step::Run;
        match &effect.runs {
            Runs::Query(job) => {
                let bytes = job.frame.clone();
                let running = self.running(&statement, &permit, None);
                self.staged.push_back(Staged::Forward {
                    permit,
                    bytes,
                    expect: vec![Expect::Statement(Box::new(running)), Expect::QueryEnd],
                });
                self.batches_sent += 1;
            }
            Runs::Portal(name, frame) => {
                self.run_portal(name, &permit, frame.clone(), now);
                self.flush();
            }
        }
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

    /// The portal has run, or failed together with its batch. Nothing ends a batch but the agent's
    /// Sync, which is not read yet.
    pub(crate) fn effect_ran_in_batch(&mut self, failed: bool) {
        if self.keeps_back()
            && let Some(effect) = &mut self.effect
            && effect.in_batch()
        {
            effect.failed |= failed;
            self.effect_looks = true;
        }
    }

    /// Something that the agent sent before it in the same batch failed.
    pub(crate) fn effect_skipped(&mut self, now: Now) {
        if let Some(effect) = self.effect.take() {
            if let (Some(hold), Some(governor)) = (&effect.hold, &mut self.governor) {
                let why = "an earlier message of its batch failed";
                let _recorded = governor.unshowable(hold, why, now);
            }
            self.waiting = false;
        }
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
        let ended = effect.failed || (self.transaction != b'T' && !effect.in_batch());
        if cut_off || ended {
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
        let questions: Vec<Question> = effect.tables.iter().flat_map(Table::after).collect();
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
                    self.ask_about_effect(&[Question::Ask("commit".to_owned())]);
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
        let mut digest = Digest::default();
        if status == "ok" {
            effect
                .kept
                .iter()
                .for_each(|bytes| digest.add(bytes.as_bytes()));
        }
        let reply = Reply {
            rows: if status == "ok" { effect.rows } else { 0 },
            digest: digest.value(),
            bytes_out: effect.kept_bytes as u64,
            status,
            ..Reply::default()
        };
        let stays = reply.status == "ok";
        if let Some(governor) = &mut self.governor {
            governor.complete(permit.seq(), reply, now);
        }
        if stays {
            let in_batch = effect.in_batch();
            for bytes in effect.kept {
                self.outputs.push_back(Output::ToClient(bytes));
            }
            if in_batch {
                self.waiting = false;
                return;
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
        if let Runs::Query(job) = &effect.runs {
            self.not_run(job, now);
        }
        self.undo_effect(effect, bytes);
    }

    /// Undoes it, and says `bytes` behind that.
    pub(crate) fn undo_effect(&mut self, mut effect: Box<Effect>, bytes: Bytes) {
        if effect.in_batch() {
            self.waiting = false;
            if effect.failed {
                self.skipping = true;
                self.pass_to_client(OwnToClient::Denial, bytes);
            } else {
                self.refuse_extended(bytes);
            }
            return;
        }
        self.waiting = true;
        if effect.own && self.transaction != b'I' {
            effect.step = Step::Rollback(bytes);
            effect.kept.clear();
            self.effect = Some(effect);
            self.ask_about_effect(&[Question::Ask("rollback".to_owned())]);
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
