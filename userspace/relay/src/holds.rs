//! Brings a held request to the state store and its decision back.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use weir_govern::{Event, HoldRequest, Verdict};
use weir_model::fact::FactContext;
use weir_model::ident::{ApprovalId, SessionId};
use weir_state::{ApprovalState, NewApproval};

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
        approval: ApprovalId,
        mailbox: mpsc::Sender<Event>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let node = Arc::clone(node);
        let control = node.control.clone();
        let task = control.spawn(async move {
            node.metrics.holds_open.inc();
            tell_outcome(&node, approval, &mailbox, stopped).await;
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
    let approval = match node.state.create(new).await {
        Ok(id) => id,
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
        tell_outcome(&node, approval, &mailbox, stopped).await;
    }
    node.metrics.holds_open.dec();
}

async fn tell_outcome(
    node: &Node,
    approval: ApprovalId,
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
    if let Some(verdict) = decision_unless(node, approval, stop).await {
        // A session that is gone needs no answer.
        let _gone = mailbox.send(Event::HoldEnded(verdict)).await;
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
    }
}

pub(crate) async fn decision(node: &Node, approval: ApprovalId) -> Verdict {
    loop {
        let verdict = decision_unless(node, approval, std::future::pending()).await;
        if let Some(verdict) = verdict {
            return verdict;
        }
    }
}

/// `None` once `stop` is there and nothing was decided.
async fn decision_unless(
    node: &Node,
    approval: ApprovalId,
    stop: impl Future<Output = ()> + Send,
) -> Option<Verdict> {
    let mut stop = std::pin::pin!(stop);
    loop {
        let decided = match node.state.decided_unless(approval, &mut stop).await {
            Ok(decided) => decided?,
            Err(error) => {
                tracing::error!(%error, "the decision on a held request cannot be read");
                return Some(Verdict::Expired { approval });
            }
        };
        return Some(match decided.state {
            ApprovalState::Approved => Verdict::Approved {
                approval,
                approver: decided.approver,
            },
            ApprovalState::Denied => Verdict::Rejected {
                approval,
                approver: decided.approver,
                justification: decided.justification,
            },
            ApprovalState::Expired => Verdict::Expired { approval },
            ApprovalState::Abandoned | ApprovalState::Used => Verdict::Abandoned { approval },
            ApprovalState::Pending => continue,
        });
    }
}
