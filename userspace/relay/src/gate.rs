//! One flow's way through govern, for protocols whose bytes a library owns.

mod admission;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, watch};
use weir_decide::PolicySet;
use weir_govern::{
    Blocked, Cleared, Gate, Governor, Hold, HoldRequest, Refusal, Reply, Ruling, Verdict,
};
use weir_http::Acting;
use weir_model::fact::{Fact, FactContext, FactKind};
use weir_model::flow::FlowOrigin;
use weir_model::ident::{ApprovalId, SessionId};
use weir_model::request::Request;
use weir_spool::Receipt;
use zeroize::Zeroizing;

use crate::holds::{self, Opened};
use crate::node::{Node, Target};
use crate::speaker::{self, Speaker};
use crate::subject::Subject;
use crate::worker::Pen;

/// A governor with its end of the spool; shared by the requests of one flow.
pub(crate) struct FlowGate {
    node: Arc<Node>,
    pen: Rc<Pen>,
    id: SessionId,
    target: Arc<Target>,
    governor: RefCell<Governor>,
    /// Workload and cgroup.
    whose: (Arc<str>, u64),
    subject: RefCell<Subject>,
    /// The token that the subject was presented by.
    token: RefCell<Option<Zeroizing<String>>>,
    /// As whom the server is asked; empty until that is known.
    acting: Acting,
    admission: Notify,
    policies: RefCell<watch::Receiver<Arc<PolicySet>>>,
    facts: RefCell<Vec<Fact>>,
    speaker: RefCell<Speaker>,
}

impl FlowGate {
    pub(crate) fn new(
        node: Arc<Node>,
        pen: Rc<Pen>,
        target: Arc<Target>,
        (subject, workload, origin): (Subject, &Arc<str>, &FlowOrigin),
        mut governor: Governor,
    ) -> Self {
        governor.timed_by(weir_clock::mono_us);
        Self {
            whose: (Arc::clone(workload), origin.cgroup.0),
            token: RefCell::new(None),
            acting: Acting::default(),
            admission: Notify::new(),
            id: governor.session(),
            policies: RefCell::new(node.policies.clone()),
            node,
            pen,
            target,
            governor: RefCell::new(governor),
            subject: RefCell::new(subject),
            facts: RefCell::new(Vec::new()),
            speaker: RefCell::new(Speaker::new(origin)),
        }
    }

    /// After the binding was renewed.
    pub(crate) fn renewed(&self, subject: Subject) {
        {
            let mut current = self.subject.borrow_mut();
            // A token may have come while the workload was signed in again.
            *current = match (&current.attested, subject.attested) {
                (None, attested) => Subject {
                    principal: subject.principal,
                    attested,
                },
                (Some(_), own) => {
                    let own = own.unwrap_or(subject.principal);
                    Subject::presented(Arc::clone(&current.principal), own)
                }
            };
        }
        self.rebind();
    }

    pub(crate) fn subject(&self) -> Subject {
        self.subject.borrow().clone()
    }

    /// Shared with the flow's own words.
    pub(crate) const fn acting(&self) -> &Acting {
        &self.acting
    }

    fn rebind(&self) {
        let policies = Arc::clone(&self.policies.borrow_mut().borrow_and_update());
        let bound = self.subject.borrow().bind(&policies, &self.target);
        self.governor.borrow_mut().rebind(Box::new(bound));
    }

    /// Asks who sends on the flow now. A request that another one overtakes meanwhile has the
    /// speaker's number, and not yet what is known of it.
    async fn attribute(&self) {
        let Some(speaker) = self.speaker.borrow_mut().changed(&self.node) else {
            return;
        };
        let context = Arc::clone(self.governor.borrow().context());
        let unknown = speaker::unknown(&context, &speaker);
        let attribute = |context: &FactContext| {
            self.governor
                .borrow_mut()
                .attribute(context.clone(), weir_clock::now());
        };
        attribute(&unknown);
        attribute(&*speaker::attributed(&self.node, &context, &speaker).await);
    }

    /// Notes the end of the flow.
    pub(crate) fn close(&self, status: &str, reason: &str) {
        let now = weir_clock::now();
        self.governor
            .borrow_mut()
            .note(FactKind::Flow, status, reason, now);
        self.record_lazily();
    }

    fn push(&self) -> Result<(), weir_spool::SpoolError> {
        let mut facts = self.facts.borrow_mut();
        self.governor.borrow_mut().drain_facts(&mut facts);
        self.node.metrics.facts.inc_by(facts.len() as u64);
        let pushed = self.pen.push(&facts);
        facts.clear();
        pushed
    }

    /// Facts that nobody waits for.
    fn record_lazily(&self) {
        if let Err(error) = self.push() {
            tracing::error!(%error, session = %self.id, "facts of a flow are not recorded");
        }
    }

    /// Facts that the request waits for.
    fn record(&self) -> Result<Receipt, Blocked> {
        let outcome = self
            .push()
            .and_then(|()| self.pen.commit(self.id, weir_clock::now()));
        match outcome {
            Ok(Some(receipt)) => Ok(receipt),
            Ok(None) => Err(Blocked::NotRecorded),
            Err(error) => {
                tracing::error!(%error, session = %self.id, "a request could not be recorded");
                Err(Blocked::NotRecorded)
            }
        }
    }

    fn settle(&self, ruling: Ruling) -> Result<Settled, Blocked> {
        let receipt = self.record()?;
        match ruling {
            Ruling::Permit(permit) => match Cleared::new(permit, receipt) {
                Ok(cleared) => Ok(Settled::Cleared(cleared)),
                Err(error) => {
                    tracing::error!(%error, session = %self.id, "a request is not proven");
                    Err(Blocked::NotRecorded)
                }
            },
            Ruling::Denial(refusal) => Err(Blocked::Refused(refusal)),
            Ruling::Hold(hold) if hold.needed.effect => {
                let why = "the policy approves effects, and those of this protocol cannot be shown";
                let now = weir_clock::now();
                let refusal = self.governor.borrow_mut().unshowable(&hold, why, now);
                self.record_lazily();
                Err(Blocked::Refused(refusal))
            }
            Ruling::Hold(hold) => Ok(Settled::Held(hold)),
        }
    }

    /// Asks a reviewer and waits; an abandoned wait closes the approval.
    async fn review(&self, hold: &Hold) -> Verdict {
        let request = hold_request(hold, &self.target.name);
        let new = {
            let governor = self.governor.borrow();
            holds::new_approval(&self.node, governor.context(), &request)
        };
        let failed = Verdict::Expired {
            approval: ApprovalId(0),
        };
        let node = Arc::clone(&self.node);
        let opened = self
            .node
            .control
            .spawn(async move { holds::opened(&node, new).await });
        let approval = match opened.await {
            Ok(Ok(Opened::Waits(id))) => id,
            Ok(Ok(Opened::Settled(verdict))) => return verdict,
            Ok(Err(error)) => {
                tracing::error!(%error, "a held request could not be stored");
                return failed;
            }
            Err(_panicked) => return failed,
        };
        let waiting = Waiting {
            node: &self.node,
            approval,
            over: Cell::new(false),
        };
        self.node.metrics.holds_open.inc();
        let (node, session) = (Arc::clone(&self.node), self.id);
        let decided = self
            .node
            .control
            .spawn(async move { holds::decision(&node, session, approval).await });
        let outcome = decided.await;
        waiting.over.set(true);
        let Ok(outcome) = outcome else {
            return Verdict::Expired { approval };
        };
        if outcome.ends_session {
            let _asked = self.node.registry.kill(session, holds::TIMED_OUT);
        }
        outcome.verdict
    }

    /// Whether something runs that this approval let through.
    pub(crate) fn runs_under(&self, approval: ApprovalId) -> bool {
        let governor = self.governor.borrow();
        governor.under().any(|open| open == approval)
    }
}

enum Settled {
    Cleared(Cleared),
    Held(Box<Hold>),
}

/// Closes the approval when the asker leaves.
struct Waiting<'a> {
    node: &'a Arc<Node>,
    approval: ApprovalId,
    over: Cell<bool>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.node.metrics.holds_open.dec();
        if self.over.get() {
            return;
        }
        let (node, approval) = (Arc::clone(self.node), self.approval);
        drop(self.node.control.spawn(async move {
            if let Err(error) = node.state.abandon(approval).await {
                tracing::error!(%error, "an abandoned hold stays listed until it expires");
            }
        }));
    }
}

fn hold_request(hold: &Hold, target: &Arc<str>) -> HoldRequest {
    HoldRequest {
        seq: hold.seq,
        needed: hold.needed.clone(),
        statement: Arc::clone(&hold.request.statement),
        parameters: hold.request.parameters.clone(),
        database: Arc::clone(target),
        accesses: hold
            .request
            .intent
            .accesses
            .iter()
            .map(|a| format!("{} {}:{}", a.action, a.object.kind, a.object.id()))
            .collect(),
        shape: hold.request.shape,
        in_transaction: false,
        effect: None,
    }
}

impl Gate for FlowGate {
    async fn admit(&self, authorization: Option<&[u8]>) -> Result<(), &'static str> {
        self.admitted(authorization).await
    }

    async fn ask(&self, request: Request) -> Result<Cleared, Blocked> {
        if self.policies.borrow().has_changed().unwrap_or(false) {
            self.rebind();
        }
        self.attribute().await;
        let ruling = self
            .governor
            .borrow_mut()
            .submit(request, weir_clock::now());
        let mut settled = self.settle(ruling)?;
        loop {
            match settled {
                Settled::Cleared(cleared) => return Ok(cleared),
                Settled::Held(hold) => {
                    let verdict = self.review(&hold).await;
                    let ruling =
                        self.governor
                            .borrow_mut()
                            .resolve(*hold, &verdict, weir_clock::now());
                    settled = self.settle(ruling)?;
                }
            }
        }
    }

    fn refuse(&self, rule: &'static str, reason: &str, statement: Arc<str>) -> Refusal {
        let refusal = self
            .governor
            .borrow_mut()
            .refuse(rule, reason, statement, weir_clock::now());
        self.record_lazily();
        refusal
    }

    fn first_byte(&self, seq: u32) {
        self.governor
            .borrow_mut()
            .first_byte(seq, weir_clock::now());
    }

    fn terminal(&self, seq: u32, piece: String) -> Result<(), Blocked> {
        self.governor
            .borrow_mut()
            .terminal(seq, piece, weir_clock::now());
        self.push().map_err(|error| {
            tracing::error!(%error, session = %self.id, "a terminal could not be recorded");
            Blocked::NotRecorded
        })
    }

    fn complete(&self, seq: u32, reply: Reply) {
        self.governor
            .borrow_mut()
            .complete(seq, reply, weir_clock::now());
        self.record_lazily();
    }
}
