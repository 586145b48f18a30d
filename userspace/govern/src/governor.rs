//! One session's requests, from submission to completion.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use weir_decide::{
    Bound, Denial, HoldNeeded, Lifted, Never, Obligations, Outcome, Permit, SavedAccounts,
    Spending, Would,
};
use weir_mask::Shown;
use weir_model::fact::{DecisionKind, Fact, FactContext, FactKind};
use weir_model::ident::{ApprovalId, SessionId};
use weir_model::request::{Intent, Object, Request};
use weir_model::time::Now;

use crate::large::Known;
use crate::stages::{self, Stages};

/// Requests that may be open (forwarded, reply not finished) at once; a protocol stops reading
/// from its client at this limit.
const OPEN_MAX: usize = 65_536;

/// Decides, numbers and records the requests of one session.
pub struct Governor {
    session: SessionId,
    context: Arc<FactContext>,
    pub(crate) bound: Box<Bound>,
    last_seq: u32,
    /// The protocol's code for a refusal, as the client sees it.
    refused_status: &'static str,
    facts: Vec<Fact>,
    open: VecDeque<OpenRequest>,
    pub(crate) known: Known,
    stages: Stages,
}

/// A forwarded request whose reply is not complete.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct OpenRequest {
    seq: u32,
    started_us: u64,
    server_us: u64,
    held_ms: u32,
    /// What lifted a hold for it.
    #[serde(default)]
    approval: Option<ApprovalId>,
    /// With budgets only.
    #[serde(default)]
    charged: Option<Charged>,
}

/// What a request is charged to, and what of it still has to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Charged {
    obligations: Arc<Obligations>,
    /// The protocol charges rows and bytes while they flow.
    metered: bool,
    #[serde(skip)]
    spending: Spending,
}

/// What policy said of one request.
#[derive(Debug)]
pub enum Ruling {
    /// Forward it once a receipt covers `permit.seq()`.
    Permit(Arc<Permit>),
    /// Tell the client; it is recorded already.
    Denial(Refusal),
    /// Ask a human; nothing is forwarded meanwhile.
    Hold(Box<Hold>),
}

/// A denial and its place in the session.
#[derive(Debug)]
pub struct Refusal {
    pub seq: u32,
    pub denial: Denial,
}

impl Reply {
    /// What the agent was shown. Where it was recorded otherwise, `recorded` is false.
    #[must_use]
    pub fn showing(mut self, shown: Shown, recorded: bool) -> Self {
        self.bytes_out = shown.bytes();
        let (text, truncated, digest) = shown.finish();
        self.digest = digest;
        if recorded {
            (self.response_masked, self.truncated) = (text, truncated);
        }
        self
    }
}

impl Refusal {
    /// What an agent reads of it, where its protocol has room for a sentence.
    #[must_use]
    pub fn text(&self) -> String {
        if self.denial.reason.starts_with("weir: ") {
            self.denial.reason.clone()
        } else {
            format!("weir: {} (rule {})", self.denial.reason, self.denial.rule)
        }
    }
}

/// A request that waits. Consumed by [`Governor::resolve`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hold {
    pub seq: u32,
    pub request: Request,
    pub needed: HoldNeeded,
    since_us: u64,
}

/// What came of a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Approved {
        approval: ApprovalId,
        approver: String,
    },
    Rejected {
        approval: ApprovalId,
        approver: String,
        justification: String,
    },
    Expired {
        approval: ApprovalId,
    },
    /// The client cancelled or left.
    Abandoned {
        approval: ApprovalId,
    },
}

impl Verdict {
    /// Which hold it is about.
    #[must_use]
    pub const fn approval(&self) -> ApprovalId {
        match self {
            Self::Approved { approval, .. }
            | Self::Rejected { approval, .. }
            | Self::Expired { approval }
            | Self::Abandoned { approval } => *approval,
        }
    }
}

/// The reply's side of a request.
#[derive(Debug, Default)]
pub struct Reply {
    /// `ok`, or the protocol's error code.
    pub status: String,
    pub rows: u64,
    /// What the agent sent after the request itself: the input of a program, a forwarded port.
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub response_masked: String,
    pub truncated: bool,
    /// See [`weir_mask::Digest`].
    pub digest: u128,
    /// Microseconds of masking.
    pub mask_us: u32,
    pub masked_values: u64,
    pub mask_rules: Arc<[String]>,
}

/// A governor on its way to the next node process: what it counted, not what it may do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedGovernor {
    session: SessionId,
    context: Arc<FactContext>,
    last_seq: u32,
    open: VecDeque<OpenRequest>,
    #[serde(default)]
    accounts: SavedAccounts,
    #[serde(default)]
    known: Known,
}

impl SavedGovernor {
    /// Goes on under the policy of the new process; permits given before stay valid.
    #[must_use]
    pub fn restore(self, bound: Box<Bound>, refused_status: &'static str) -> Governor {
        let mut bound = bound;
        bound.restore_accounts(self.accounts);
        let mut open = self.open;
        for charged in open.iter_mut().filter_map(|open| open.charged.as_mut()) {
            charged.spending = bound.spending(&charged.obligations);
        }
        let mut governor = Governor {
            session: self.session,
            context: self.context,
            bound,
            last_seq: self.last_seq,
            refused_status,
            facts: Vec::new(),
            open,
            known: self.known,
            stages: Stages::default(),
        };
        governor.note_policy();
        governor
    }

    #[must_use]
    pub const fn context(&self) -> &Arc<FactContext> {
        &self.context
    }
}

impl Governor {
    /// For the next node process; facts must have been drained.
    #[must_use]
    pub fn save(&self) -> SavedGovernor {
        SavedGovernor {
            session: self.session,
            context: Arc::clone(&self.context),
            last_seq: self.last_seq,
            open: self.open.clone(),
            accounts: self.bound.save_accounts(),
            known: self.known.clone(),
        }
    }

    /// `context` must carry the same session id.
    #[must_use]
    pub fn new(session: SessionId, context: Arc<FactContext>, bound: Box<Bound>) -> Self {
        Self {
            session,
            context,
            bound,
            last_seq: 0,
            refused_status: "denied",
            facts: Vec::new(),
            open: VecDeque::new(),
            known: Known::default(),
            stages: Stages::default(),
        }
    }

    /// Sets the protocol's own code for a refusal; the record shows it as the status.
    pub const fn say_refused_as(&mut self, code: &'static str) {
        self.refused_status = code;
    }

    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    #[must_use]
    pub const fn context(&self) -> &Arc<FactContext> {
        &self.context
    }

    /// Number of the newest fact.
    #[must_use]
    pub const fn last_seq(&self) -> u32 {
        self.last_seq
    }

    /// Replaces the policy; open requests keep their permits, later ones are decided anew.
    pub fn rebind(&mut self, mut bound: Box<Bound>) {
        bound.take_over(&mut self.bound);
        self.bound = bound;
        self.note_policy();
    }

    /// See [`Bound::never_permits`].
    #[must_use]
    pub fn never_permits(&self, never: &Never<'_>) -> bool {
        self.bound.never_permits(never)
    }

    fn note_policy(&mut self) {
        let mut context = FactContext::clone(&self.context);
        context.policy_version = self.bound.policy_version();
        self.context = Arc::new(context);
    }

    /// Another process speaks from here on; the change is a fact of its own. The session, its
    /// principal and its policy stay what they are.
    pub fn attribute(&mut self, context: FactContext, now: Now) {
        let own = &self.context;
        let context = FactContext {
            session_id: own.session_id,
            policy_version: own.policy_version,
            tenant: own.tenant.clone(),
            principal: own.principal.clone(),
            application: own.application.clone(),
            on_behalf_of: own.on_behalf_of.clone(),
            groups: own.groups.clone(),
            roles: own.roles.clone(),
            token_id: own.token_id.clone(),
            evidence: own.evidence.clone(),
            ..context
        };
        let process = format!("{} {}", context.pid, context.exe);
        self.context = Arc::new(context);
        self.note(FactKind::Flow, "process", &process, now);
    }

    /// The session has another principal from here on: its client presented a token. `context` has
    /// the principal's columns; everything else of it stays what it is.
    pub fn identify(&mut self, context: &FactContext, bound: Box<Bound>) {
        self.context = Arc::new(FactContext {
            tenant: context.tenant.clone(),
            principal: context.principal.clone(),
            application: context.application.clone(),
            on_behalf_of: context.on_behalf_of.clone(),
            groups: context.groups.clone(),
            roles: context.roles.clone(),
            token_id: context.token_id.clone(),
            evidence: context.evidence.clone(),
            ..FactContext::clone(&self.context)
        });
        self.rebind(bound);
    }

    #[must_use]
    pub fn policy_version(&self) -> u32 {
        self.bound.policy_version()
    }

    /// True while another request may be opened.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.open.len() < OPEN_MAX
    }

    pub(crate) fn next_fact(&mut self, kind: FactKind, now: Now) -> Fact {
        self.last_seq += 1;
        Fact::new(Arc::clone(&self.context), kind, self.last_seq, now.wall_us)
    }

    pub(crate) fn note_fact(&mut self, fact: Fact) {
        self.facts.push(fact);
    }

    /// It runs from now on, under nobody's approval yet. Budgets are charged for what the agent gets.
    pub(crate) fn begun(&mut self, permit: &Permit, now: Now) {
        self.opened(permit, now.mono_us, 0);
        if let Some(open) = self.open.back_mut() {
            (open.approval, open.charged) = (None, None);
        }
    }

    pub(crate) fn request_fact(&mut self, request: &Request, now: Now) -> Fact {
        let statement = self.statement_in_place(&request.statement, now);
        let parameters = self.parameters_in_place(&request.parameters, now);
        let mut fact = self.next_fact(FactKind::Request, now);
        fact.statement = statement;
        fact.parameters = parameters;
        fact.credential_us = std::mem::take(&mut self.stages.credential_us);
        fact.decode_us =
            std::mem::take(&mut self.stages.decode_us).saturating_add(request.decode_us);
        fact.shape = request.shape;
        fact.effects = Arc::clone(&request.recorded.effects);
        fact.objects = Arc::clone(&request.recorded.objects);
        fact.bytes_in = request.bytes_in;
        if !request.recorded.asked.is_empty() {
            let asked = request.recorded.asked.to_string();
            fact.labels.push(("asked".to_owned(), asked));
        }
        fact
    }

    /// Decides for `fact`, and notes how long that took.
    pub(crate) fn decide(
        &mut self,
        fact: &mut Fact,
        intent: &Arc<Intent>,
        lifted: &Lifted,
        now: Now,
    ) -> Outcome {
        let started_us = (self.stages.clock)();
        let outcome = self
            .bound
            .decide(fact.seq, self.session, intent, lifted, now);
        let took_us = self.stages.since(started_us);
        fact.decide_us = fact.decide_us.saturating_add(took_us);
        outcome
    }

    /// Reads this clock, in monotonic microseconds, around each stage; none is timed without.
    pub const fn timed_by(&mut self, clock: fn() -> u64) {
        self.stages.clock = clock;
    }

    /// Understanding the next request took so long.
    pub const fn decoded_in(&mut self, micros: u64) {
        let so_far = self.stages.decode_us;
        self.stages.decode_us = so_far.saturating_add(stages::micros(micros));
    }

    /// The server took the credential so long after it was wanted; the next request says so.
    pub const fn logged_in_after(&mut self, micros: u64) {
        self.stages.credential_us = stages::micros(micros);
    }

    /// Notes whose flow it is, and how long it took to know.
    pub fn note_identity(&mut self, status: &str, presenter: &str, (took_us, now): (u64, Now)) {
        self.note(FactKind::Identity, status, presenter, now);
        if let Some(fact) = self.facts.last_mut() {
            fact.identify_us = stages::micros(took_us);
        }
    }

    /// Would the principal get this column's values masked? What is compared with them must not be
    /// recorded in the clear.
    pub fn masks(&mut self, column: &Object) -> bool {
        self.bound.masks(column)
    }

    /// Whether policy masks anything of this protocol.
    #[must_use]
    pub fn masks_any(&self) -> bool {
        self.bound.masks_any()
    }

    /// Whether policy has detectors look through any values of this protocol.
    #[must_use]
    pub fn detects_any(&self) -> bool {
        self.bound.detects_any()
    }

    /// Decides a request and records the decision.
    pub fn submit(&mut self, request: Request, now: Now) -> Ruling {
        let mut fact = self.request_fact(&request, now);
        let seq = fact.seq;
        let outcome = self.decide(&mut fact, &request.intent, &Lifted::none(), now);
        match self.afforded(outcome, now) {
            Outcome::Permit(permit) => {
                permitted(&mut fact, &permit);
                self.facts.push(fact);
                self.opened(&permit, now.mono_us, 0);
                Ruling::Permit(Arc::new(permit))
            }
            Outcome::Denial(denial) => {
                fact.decision = DecisionKind::Deny;
                self.refused_status.clone_into(&mut fact.status);
                fact.rule = Arc::clone(&denial.rule);
                fact.reason.clone_from(&denial.reason);
                self.facts.push(fact);
                Ruling::Denial(Refusal { seq, denial })
            }
            Outcome::Hold(needed) => {
                fact.decision = DecisionKind::Hold;
                fact.rule = Arc::from(needed.rules.join(", "));
                fact.reason.clone_from(&needed.reason);
                self.facts.push(fact);
                Ruling::Hold(Box::new(Hold {
                    seq,
                    request,
                    needed,
                    since_us: now.mono_us,
                }))
            }
        }
    }

    /// Decides without executing: a statement that is only prepared. A hold is met later, when it
    /// is executed, so here it is as good as a permit; `None` then, and nothing may run.
    ///
    /// The preparation itself is recorded, since its text reaches the server.
    pub fn prepare(&mut self, request: &Request, now: Now) -> Ruling {
        self.ahead(request, true, now)
    }

    /// As [`Self::prepare`] for what is not asked about again when it runs: a hold is a denial.
    pub fn permit_unheld(&mut self, request: &Request, now: Now) -> Ruling {
        self.ahead(request, false, now)
    }

    fn ahead(&mut self, request: &Request, held_later: bool, now: Now) -> Ruling {
        let mut fact = self.request_fact(request, now);
        fact.labels.push(("phase".to_owned(), "prepare".to_owned()));
        let seq = fact.seq;
        let outcome = self.decide(&mut fact, &request.intent, &Lifted::none(), now);
        let outcome = match outcome {
            Outcome::Hold(needed) if held_later => {
                let lifted = Lifted::approved(ApprovalId(0), needed.rules.clone());
                self.decide(&mut fact, &request.intent, &lifted, now)
            }
            settled @ (Outcome::Permit(_) | Outcome::Denial(_) | Outcome::Hold(_)) => settled,
        };
        match outcome {
            Outcome::Permit(permit) => {
                permitted(&mut fact, &permit);
                self.facts.push(fact);
                Ruling::Permit(Arc::new(permit))
            }
            Outcome::Denial(denial) => {
                fact.decision = DecisionKind::Deny;
                self.refused_status.clone_into(&mut fact.status);
                fact.rule = Arc::clone(&denial.rule);
                fact.reason.clone_from(&denial.reason);
                self.facts.push(fact);
                Ruling::Denial(Refusal { seq, denial })
            }
            Outcome::Hold(needed) => {
                // Lifting the named rules leaves no hold; anything else is refused.
                let denial = Denial {
                    rule: Arc::from("weir:hold-not-liftable"),
                    reason: needed.reason,
                    access: None,
                    advice: None,
                };
                fact.decision = DecisionKind::Deny;
                self.refused_status.clone_into(&mut fact.status);
                fact.rule = Arc::clone(&denial.rule);
                self.facts.push(fact);
                Ruling::Denial(Refusal { seq, denial })
            }
        }
    }

    /// Records and refuses what could not become a request: undecodable, unsupported, too large.
    ///
    /// `rule` is a fixed name of ours (`weir:…`), `statement` what was understood of it.
    pub fn refuse(
        &mut self,
        rule: &'static str,
        reason: &str,
        statement: Arc<str>,
        now: Now,
    ) -> Refusal {
        let statement = self.statement_in_place(&statement, now);
        let mut fact = self.next_fact(FactKind::Request, now);
        fact.statement = statement;
        fact.decision = DecisionKind::Deny;
        self.refused_status.clone_into(&mut fact.status);
        fact.rule = Arc::from(rule);
        reason.clone_into(&mut fact.reason);
        let seq = fact.seq;
        self.facts.push(fact);
        let denial = Denial {
            rule: Arc::from(rule),
            reason: reason.to_owned(),
            access: None,
            advice: None,
        };
        Refusal { seq, denial }
    }

    /// Ends a hold. Approved: decides again with only the named rules lifted.
    pub fn resolve(&mut self, hold: Hold, verdict: &Verdict, now: Now) -> Ruling {
        let held_ms = stages::millis(now.mono_us.saturating_sub(hold.since_us));
        let statement = self.statement_in_place(&hold.request.statement, now);
        let mut fact = self.next_fact(FactKind::Approval, now);
        fact.reply_to = hold.seq;
        fact.held_ms = held_ms;
        fact.statement = statement;
        fact.rule = Arc::from(hold.needed.rules.join(", "));
        let (decision, approval) = match verdict {
            Verdict::Approved { approval, approver } => {
                fact.approver.clone_from(approver);
                (DecisionKind::Approved, *approval)
            }
            Verdict::Rejected {
                approval,
                approver,
                justification,
            } => {
                fact.approver.clone_from(approver);
                fact.reason.clone_from(justification);
                (DecisionKind::Rejected, *approval)
            }
            Verdict::Expired { approval } | Verdict::Abandoned { approval } => {
                (DecisionKind::Expired, *approval)
            }
        };
        fact.decision = decision;
        fact.approval_id = approval.0;
        let rule = Arc::clone(&fact.rule);
        self.facts.push(fact);
        if decision != DecisionKind::Approved {
            let reason = refusal_reason(verdict);
            let denial = Denial {
                rule,
                reason,
                access: None,
                advice: None,
            };
            return Ruling::Denial(Refusal {
                seq: hold.seq,
                denial,
            });
        }
        let lifted = Lifted::approved(approval, hold.needed.rules.clone());
        let outcome = self
            .bound
            .decide(hold.seq, self.session, &hold.request.intent, &lifted, now);
        match self.afforded(outcome, now) {
            Outcome::Permit(permit) => {
                self.opened(&permit, hold.since_us, held_ms);
                Ruling::Permit(Arc::new(permit))
            }
            Outcome::Denial(denial) => {
                // The policy changed while the request waited, or a budget was used up.
                let mut late = self.next_fact(FactKind::Error, now);
                late.reply_to = hold.seq;
                late.decision = DecisionKind::Deny;
                late.rule = Arc::clone(&denial.rule);
                late.reason.clone_from(&denial.reason);
                self.facts.push(late);
                Ruling::Denial(Refusal {
                    seq: hold.seq,
                    denial,
                })
            }
            Outcome::Hold(needed) => Ruling::Hold(Box::new(Hold {
                needed,
                since_us: now.mono_us,
                ..hold
            })),
        }
    }

    fn opened(&mut self, permit: &Permit, started_us: u64, held_ms: u32) {
        let spending = self.bound.spending(permit.obligations());
        self.open.push_back(OpenRequest {
            seq: permit.seq(),
            started_us,
            server_us: 0,
            held_ms,
            approval: permit.approval(),
            charged: (!spending.is_free()).then(|| Charged {
                obligations: Arc::clone(permit.obligations()),
                metered: false,
                spending,
            }),
        });
    }

    /// A permit that a budget has room for; it is counted then.
    fn afforded(&mut self, outcome: Outcome, now: Now) -> Outcome {
        match outcome {
            Outcome::Permit(permit) => match self.bound.spending(permit.obligations()).begin(now) {
                Ok(()) => Outcome::Permit(permit),
                Err(denial) => Outcome::Denial(denial),
            },
            other @ (Outcome::Denial(_) | Outcome::Hold(_)) => other,
        }
    }

    /// What the rows and bytes of request `seq` are charged to. From now on the caller charges them
    /// as they flow; else they are charged by [`Governor::complete`].
    pub fn spending(&mut self, seq: u32) -> Spending {
        let open = self.open.iter_mut().find(|open| open.seq == seq);
        let Some(charged) = open.and_then(|open| open.charged.as_mut()) else {
            return Spending::default();
        };
        charged.metered = true;
        charged.spending.clone()
    }

    /// The monotonic time at which a request that is open has used up a budget of time; it has to
    /// be ended then.
    #[must_use]
    pub fn time_is_up_us(&self) -> Option<u64> {
        let ends = self.open.iter().filter_map(|open| {
            let left_us = open.charged.as_ref()?.spending.time_left_us()?;
            Some(open.began_us().saturating_add(left_us))
        });
        ends.min()
    }

    /// Approvals under which requests run that are not finished.
    pub fn under(&self) -> impl Iterator<Item = ApprovalId> {
        self.open.iter().filter_map(|open| open.approval)
    }

    /// The server's first byte of the reply to `seq` is here.
    pub fn first_byte(&mut self, seq: u32, now: Now) {
        if let Some(open) = self.open.iter_mut().find(|open| open.seq == seq)
            && open.server_us == 0
        {
            open.server_us = now.mono_us.saturating_sub(open.started_us);
        }
    }

    /// Records the end of the reply to `seq`. Unknown numbers are recorded without timings.
    pub fn complete(&mut self, seq: u32, reply: Reply, now: Now) {
        let open = match self.open.iter().position(|open| open.seq == seq) {
            Some(index) => self.open.remove(index),
            None => None,
        };
        let mut fact = self.next_fact(FactKind::Reply, now);
        fact.reply_to = seq;
        if let Some(open) = open {
            charge(&open, &reply, now);
            fact.duration_us = now.mono_us.saturating_sub(open.started_us);
            fact.server_us = open.server_us;
            fact.held_ms = open.held_ms;
        }
        fact.status = reply.status;
        fact.mask_us = reply.mask_us;
        fact.rows = reply.rows;
        fact.bytes_in = reply.bytes_in;
        fact.bytes_out = reply.bytes_out;
        fact.response_masked = reply.response_masked;
        fact.truncated = reply.truncated;
        fact.reply_digest = reply.digest;
        fact.masked_values = reply.masked_values;
        fact.mask_rules = reply.mask_rules;
        self.facts.push(fact);
    }

    /// Records a piece of the terminal that `seq` opened.
    pub fn terminal(&mut self, seq: u32, piece: String, now: Now) {
        let mut fact = self.next_fact(FactKind::Terminal, now);
        fact.reply_to = seq;
        fact.response_masked = piece;
        self.facts.push(fact);
    }

    /// Requests that were forwarded and never answered, oldest first.
    pub fn unanswered(&self) -> impl Iterator<Item = u32> {
        self.open.iter().map(|open| open.seq)
    }

    /// Records a fact about the flow itself (opened, identified, closed, failed).
    pub fn note(&mut self, kind: FactKind, status: &str, reason: &str, now: Now) {
        let mut fact = self.next_fact(kind, now);
        status.clone_into(&mut fact.status);
        reason.clone_into(&mut fact.reason);
        self.facts.push(fact);
    }

    /// Moves the facts made since the last call.
    pub fn drain_facts(&mut self, sink: &mut Vec<Fact>) {
        sink.append(&mut self.facts);
    }

    #[must_use]
    pub fn has_facts(&self) -> bool {
        !self.facts.is_empty()
    }
}

impl OpenRequest {
    /// When it went to work, held or not.
    const fn began_us(&self) -> u64 {
        self.started_us.saturating_add(self.held_ms as u64 * 1000)
    }
}

/// What of a request was not charged while it flowed.
fn charge(open: &OpenRequest, reply: &Reply, now: Now) {
    let Some(charged) = &open.charged else {
        return;
    };
    let time_us = now.mono_us.saturating_sub(open.began_us());
    let (rows, bytes) = if charged.metered {
        (0, 0)
    } else {
        (reply.rows, reply.bytes_out)
    };
    charged.spending.spent(rows, bytes, time_us);
}

/// A permit in the record; where policy only observes, what it would have said.
fn permitted(fact: &mut Fact, permit: &Permit) {
    let Some(observed) = permit.observed() else {
        fact.decision = DecisionKind::Allow;
        fact.rule = Arc::from(permit.rule());
        return;
    };
    fact.decision = DecisionKind::Observe;
    fact.rule = Arc::clone(&observed.rule);
    fact.reason.clone_from(&observed.reason);
    let would = match observed.would {
        Would::Deny => "deny",
        Would::Hold => "hold",
    };
    fact.labels.push(("would".to_owned(), would.to_owned()));
}

fn refusal_reason(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Approved { .. } => String::new(),
        Verdict::Rejected { justification, .. } => {
            format!("a reviewer denied it: {justification}")
        }
        Verdict::Expired { .. } => "nobody decided in time".to_owned(),
        Verdict::Abandoned { .. } => "the client cancelled the request".to_owned(),
    }
}
