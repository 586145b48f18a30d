//! Brings a held request to the state store and its decision back.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use weir_decide::AtTimeout;
use weir_govern::{Event, HoldRequest, Verdict};
use weir_model::fact::FactContext;
use weir_model::ident::{ApprovalId, SessionId};
use weir_state::{ApprovalState, NewApproval, Standing, StateError, TimeoutAction};

use crate::grants;
use crate::node::Node;

/// What waits for a reviewer on a session's behalf.
pub(crate) struct Waiter {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Waiter {
    /// Stores the hold, tells the session its id, waits, tells it the outcome. Ends early when the
    /// session is gone.
    pub(crate) fn start(
        node: &Arc<Node>,
        context: Arc<FactContext>,
        request: HoldRequest,
        mailbox: mpsc::Sender<Event>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let work = wait_for_reviewer(Arc::clone(node), (context, request), mailbox, stopped);
        let task = node.control.spawn(work);
        Self { stop, task }
    }

    /// Waits for the outcome of a hold that another process stored.
    pub(crate) fn again(
        node: &Arc<Node>,
        (session, approval): (SessionId, ApprovalId),
        mailbox: mpsc::Sender<Event>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let node = Arc::clone(node);
        let control = node.control.clone();
        let task = control.spawn(async move {
            node.metrics.holds_open.inc();
            if let Err(error) = node.state.adopt(approval).await {
                tracing::error!(%error, "another process still counts as waiting for a hold");
            }
            tell_outcome(&node, (session, approval), &mailbox, stopped).await;
            node.metrics.holds_open.dec();
        });
        Self { stop, task }
    }

    /// Stops waiting. Afterwards either the outcome is in the mailbox, or nothing of it was used
    /// up and the next process may wait for it.
    pub(crate) async fn stop(self) {
        // It may have ended already.
        let _gone = self.stop.send(());
        if self.task.await.is_err() {
            tracing::error!("a task that waits for a reviewer panicked");
        }
    }
}

async fn wait_for_reviewer(
    node: Arc<Node>,
    (context, request): (Arc<FactContext>, HoldRequest),
    mailbox: mpsc::Sender<Event>,
    stopped: oneshot::Receiver<()>,
) {
    let seq = request.seq;
    let new = new_approval(&node, &context, &request);
    let session = new.session;
    let approval = match opened(&node, new).await {
        Ok(Opened::Waits(approval)) => approval,
        Ok(Opened::Settled(verdict)) => {
            // A session that is gone needs no answer.
            let _gone = mailbox.send(Event::HoldSettled { seq, verdict }).await;
            return;
        }
        Err(error) => {
            tracing::error!(%error, "a held request could not be stored");
            // A session that is gone needs no answer.
            let _gone = mailbox.send(Event::HoldFailed { seq }).await;
            return;
        }
    };
    node.metrics.holds_open.inc();
    if mailbox
        .send(Event::HoldOpened { seq, approval })
        .await
        .is_ok()
    {
        tell_outcome(&node, (session, approval), &mailbox, stopped).await;
    }
    node.metrics.holds_open.dec();
}

/// What a hold begins with.
pub(crate) enum Opened {
    /// Somebody has to decide.
    Waits(ApprovalId),
    /// A grant covers it, or it was decided before.
    Settled(Verdict),
}

/// Looks whether anybody has to be asked, and stores the request if so.
pub(crate) async fn opened(node: &Arc<Node>, new: NewApproval) -> Result<Opened, StateError> {
    let session = new.session;
    let approved = |approval, approver| Opened::Settled(Verdict::Approved { approval, approver });
    Ok(match node.state.standing(new.clone()).await? {
        Some(Standing::Grant {
            approval, approver, ..
        }) => {
            grants::follow(node, session, approval);
            approved(approval, format!("{approver} (grant)"))
        }
        Some(Standing::Prior { approval, approver }) => approved(approval, approver),
        Some(Standing::Pending(approval)) => Opened::Waits(approval),
        None => Opened::Waits(node.state.create(new).await?),
    })
}

async fn tell_outcome(
    node: &Arc<Node>,
    (session, approval): (SessionId, ApprovalId),
    mailbox: &mpsc::Sender<Event>,
    stopped: oneshot::Receiver<()>,
) {
    let stop = async {
        tokio::select! {
            // A sender that is dropped is a session that ended.
            _told = stopped => {}
            () = mailbox.closed() => {}
        }
    };
    let Some(outcome) = outcome_unless(node, (session, approval), stop).await else {
        return;
    };
    // A session that is gone needs no answer.
    let _gone = mailbox.send(Event::HoldEnded(outcome.verdict)).await;
    if outcome.ends_session {
        let _gone = mailbox.send(end_of_session()).await;
    }
}

/// Nobody decided, and policy says that the session ends by that.
pub(crate) const TIMED_OUT: &str = "weir: nobody decided in time, and policy ends the session";

const fn end_of_session() -> Event {
    Event::Kill {
        code: "57P01",
        text: TIMED_OUT,
    }
}

pub(crate) fn new_approval(
    node: &Node,
    context: &FactContext,
    request: &HoldRequest,
) -> NewApproval {
    let now = weir_clock::now();
    let limit_s = if request.in_transaction {
        node.settings.hold_in_transaction_s
    } else {
        node.settings.hold_expires_s
    };
    let limit_s = request
        .needed
        .expires_s
        .map_or(limit_s, |own| own.min(limit_s));
    NewApproval {
        created_us: now.wall_us,
        expires_us: now.wall_us + i64::from(limit_s) * 1_000_000,
        session: SessionId(context.session_id),
        seq: request.seq,
        tenant: context.tenant.clone(),
        principal: context.principal.clone(),
        application: context.application.clone(),
        on_behalf_of: context.on_behalf_of.clone(),
        workload: context.workload.clone(),
        target: context.target.clone(),
        database: request.database.to_string(),
        statement: request.statement.to_string(),
        parameters: request.parameters.clone(),
        accesses: request.accesses.clone(),
        process: format!("{} (pid {}) {}", context.exe, context.pid, context.argv),
        rules: request
            .needed
            .rules
            .iter()
            .map(ToString::to_string)
            .collect(),
        groups: request
            .needed
            .groups
            .iter()
            .map(ToString::to_string)
            .collect(),
        reason: request.needed.reason.clone(),
        approvals: request.needed.approvals,
        escalate_us: request.needed.escalation.as_ref().map_or(0, |escalation| {
            now.wall_us + i64::from(escalation.after_s) * 1_000_000
        }),
        escalate_groups: request
            .needed
            .escalation
            .iter()
            .flat_map(|escalation| &escalation.groups)
            .map(ToString::to_string)
            .collect(),
        at_timeout: match request.needed.at_timeout {
            AtTimeout::Deny => TimeoutAction::Deny,
            AtTimeout::EndSession => TimeoutAction::EndSession,
        },
        shape: request.shape,
        // What was approved is what it did then: that is worth nothing for another run.
        exact: request.effect.is_none() && is_exact(request),
        effect: request.effect.clone(),
    }
}

/// What came of waiting.
pub(crate) struct WaitedFor {
    pub(crate) verdict: Verdict,
    pub(crate) ends_session: bool,
}

pub(crate) async fn decision(
    node: &Arc<Node>,
    session: SessionId,
    approval: ApprovalId,
) -> WaitedFor {
    loop {
        let stop = std::future::pending();
        if let Some(outcome) = outcome_unless(node, (session, approval), stop).await {
            return outcome;
        }
    }
}

/// `None` once `stop` is there and nothing was decided.
async fn outcome_unless(
    node: &Arc<Node>,
    (session, approval): (SessionId, ApprovalId),
    stop: impl Future<Output = ()> + Send,
) -> Option<WaitedFor> {
    let mut stop = std::pin::pin!(stop);
    loop {
        let decided = match node.state.decided_unless(approval, &mut stop).await {
            Ok(decided) => decided?,
            Err(error) => {
                tracing::error!(%error, "the decision on a held request cannot be read");
                return Some(WaitedFor {
                    verdict: Verdict::Expired { approval },
                    ends_session: false,
                });
            }
        };
        let ends_session = decided.state == ApprovalState::Expired
            && decided.at_timeout == TimeoutAction::EndSession;
        let verdict = match decided.state {
            ApprovalState::Approved => {
                if decided.grant_expires_us.is_some() {
                    // The first statement runs under it as well.
                    grants::follow(node, session, approval);
                }
                Verdict::Approved {
                    approval,
                    approver: decided.approver,
                }
            }
            ApprovalState::Denied => Verdict::Rejected {
                approval,
                approver: decided.approver,
                justification: decided.justification,
            },
            ApprovalState::Expired => Verdict::Expired { approval },
            ApprovalState::Abandoned | ApprovalState::Used => Verdict::Abandoned { approval },
            ApprovalState::Pending => continue,
        };
        return Some(WaitedFor {
            verdict,
            ends_session,
        });
    }
}

/// Whether an equal text is an equal request. It is not where the record leaves something out:
/// a secret behind a mark, a value that was cut, bytes shown in hexadecimal; nor where a name of
/// the session stands for what is run.
fn is_exact(request: &HoldRequest) -> bool {
    let texts = [&*request.statement, request.parameters.as_str()];
    let whole = |text: &str| {
        !["<secret>", "…", "\"0x"]
            .iter()
            .any(|mark| text.contains(mark))
    };
    let by_name = |access: &String| access.contains(" Prepared:");
    texts.into_iter().all(whole) && !request.accesses.iter().any(by_name)
}
