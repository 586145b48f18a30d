//! Brings a held request to the state store and its decision back.

use std::sync::Arc;

use tokio::sync::mpsc;
use weir_govern::{Event, HoldRequest, Verdict};
use weir_model::fact::FactContext;
use weir_model::ident::{ApprovalId, SessionId};
use weir_state::{ApprovalState, NewApproval};

use crate::node::Node;

/// Stores the hold, tells the session its id, waits, tells it the outcome. Runs on the control
/// runtime; ends early when the session is gone.
pub(crate) async fn wait_for_reviewer(
    node: Arc<Node>,
    context: Arc<FactContext>,
    request: HoldRequest,
    mailbox: mpsc::Sender<Event>,
) {
    let new = new_approval(&node, &context, &request);
    let approval = match node.state.create(new).await {
        Ok(id) => id,
        Err(error) => {
            tracing::error!(%error, "a held request could not be stored");
            // A session that is gone needs no answer.
            let _gone = mailbox.send(Event::HoldFailed).await;
            return;
        }
    };
    node.metrics.holds_open.inc();
    if mailbox.send(Event::HoldOpened(approval)).await.is_ok() {
        let verdict = tokio::select! {
            verdict = decision(&node, approval) => Some(verdict),
            () = mailbox.closed() => None,
        };
        if let Some(verdict) = verdict {
            let _gone = mailbox.send(Event::HoldEnded(verdict)).await;
        }
    }
    node.metrics.holds_open.dec();
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
        match node.state.decided(approval).await {
            Ok(decided) => match decided.state {
                ApprovalState::Approved => {
                    return Verdict::Approved {
                        approval,
                        approver: decided.approver,
                    };
                }
                ApprovalState::Denied => {
                    return Verdict::Rejected {
                        approval,
                        approver: decided.approver,
                        justification: decided.justification,
                    };
                }
                ApprovalState::Expired => return Verdict::Expired { approval },
                ApprovalState::Abandoned | ApprovalState::Used => {
                    return Verdict::Abandoned { approval };
                }
                ApprovalState::Pending => {}
            },
            Err(error) => {
                tracing::error!(%error, "the decision on a held request cannot be read");
                return Verdict::Expired { approval };
            }
        }
    }
}
