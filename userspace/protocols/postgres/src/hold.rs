//! Requests that wait for a person, and what becomes of them.

use bytes::BytesMut;
use weir_govern::{
    CloseReason, Governor, Hold, HoldRequest, Output, OwnToClient, OwnToServer, Ruling, Verdict,
};
use weir_model::effect::Effect;
use weir_model::ident::ApprovalId;
use weir_model::time::Now;

use std::sync::Arc;

use crate::expect_query::{Held, Then};
use crate::reply;
use crate::session::PostgresSession;
use crate::wire;
use crate::wire::backend::{ErrorText, put_notice};

impl PostgresSession {
    pub(crate) fn hold(&mut self, hold: Hold, then: Then, now: Now) {
        if hold.needed.effect {
            self.show_effect(hold, then, now);
        } else {
            self.ask_for_approval(hold, then, None);
        }
    }

    pub(crate) fn ask_for_approval(&mut self, hold: Hold, then: Then, effect: Option<Effect>) {
        let request = HoldRequest {
            seq: hold.seq,
            needed: hold.needed.clone(),
            statement: Arc::clone(&hold.request.statement),
            parameters: hold.request.parameters.clone(),
            database: Arc::clone(&self.database),
            accesses: hold
                .request
                .intent
                .accesses
                .iter()
                .map(|a| format!("{} {}:{}", a.action, a.object.kind, a.object.id()))
                .collect(),
            shape: hold.request.shape,
            // Drivers begin a transaction before their first statement: that keeps no locks.
            in_transaction: effect.is_some() || (self.transaction == b'T' && self.worked),
            effect,
        };
        self.held = Some(Box::new(Held {
            hold,
            approval: None,
            then,
        }));
        self.outputs.push_back(Output::Hold(Box::new(request)));
    }

    /// The hold of request `seq` is stored. That request may be gone by now and another one held:
    /// what a reviewer says of the first must never reach the second.
    pub(crate) fn hold_opened(&mut self, seq: u32, approval: ApprovalId) {
        let Some(held) = self.held.as_mut().filter(|held| held.hold.seq == seq) else {
            self.outputs.push_back(Output::AbandonHold(approval));
            return;
        };
        held.approval = Some(approval);
        let groups = held.hold.needed.groups.join(", ");
        let text = format!("weir: held for approval {approval} by {groups}; waiting");
        let detail = held.hold.needed.reason.clone();
        self.tell_client(OwnToClient::Notice, |out| {
            let notice = ErrorText {
                severity: "NOTICE",
                code: "01000",
                message: &text,
                detail: &detail,
                hint: "",
            };
            put_notice(out, &notice);
        });
    }

    pub(crate) fn hold_failed(&mut self, seq: u32, now: Now) {
        if let Some(held) = self.held.take_if(|held| held.hold.seq == seq) {
            let verdict = Verdict::Expired {
                approval: ApprovalId(0),
            };
            self.settle_hold(*held, &verdict, now);
        }
    }

    pub(crate) fn hold_ended(&mut self, verdict: &Verdict, now: Now) {
        let about = Some(verdict.approval());
        if let Some(held) = self.held.take_if(|held| held.approval == about) {
            self.settle_hold(*held, verdict, now);
        }
    }

    /// The hold of request `seq` needs nobody's decision.
    pub(crate) fn hold_settled(&mut self, seq: u32, verdict: &Verdict, now: Now) {
        if let Some(held) = self.held.take_if(|held| held.hold.seq == seq) {
            self.settle_hold(*held, verdict, now);
        }
    }

    /// What runs under that grant ends, and the session with it: half a statement is no state that
    /// a client knows how to go on from.
    pub(crate) fn grant_ended(&mut self, approval: ApprovalId) {
        let runs = self
            .governor
            .as_ref()
            .is_some_and(|governor| governor.under().any(|open| open == approval));
        if runs {
            let text = "weir: the grant under which this statement ran is over";
            self.fatal("57P01", text, CloseReason::Killed);
        }
    }

    pub(crate) fn settle_hold(&mut self, held: Held, verdict: &Verdict, now: Now) {
        let Some(governor) = &mut self.governor else {
            return;
        };
        let ruling = Governor::resolve(governor, held.hold, verdict, now);
        match (ruling, held.then) {
            (ruling, Then::Effect) => self.effect_settled(ruling, now),
            (Ruling::Permit(permit), Then::Query(job)) => self.take_permit(job, permit, now),
            (Ruling::Permit(permit), Then::Execute { portal, frame }) => {
                self.run_portal(&portal, &permit, frame, now);
            }
            (Ruling::Denial(refusal), Then::Query(job)) => {
                let bytes = reply::denial(&refusal.denial, self.session_id());
                self.not_run(&job, now);
                self.refuse_query(bytes);
            }
            (Ruling::Denial(refusal), Then::Execute { .. }) => self.deny_extended(&refusal),
            (Ruling::Hold(hold), then) => self.hold(*hold, then, now),
        }
    }

    /// An earlier message of the batch failed, so the held one is skipped.
    pub(crate) fn skip_held(&mut self, now: Now) {
        let Some(held) = self.held.take() else { return };
        let approval = held.approval.unwrap_or(ApprovalId(0));
        if let Some(approval) = held.approval {
            self.outputs.push_back(Output::AbandonHold(approval));
        }
        if let Some(governor) = &mut self.governor {
            let verdict = Verdict::Abandoned { approval };
            let _refused = Governor::resolve(governor, held.hold, &verdict, now);
        }
    }

    pub(crate) fn cancel_asked(&mut self, now: Now) {
        if let Some(held) = self.held.take() {
            let approval = held.approval.unwrap_or(ApprovalId(0));
            if let Some(approval) = held.approval {
                self.outputs.push_back(Output::AbandonHold(approval));
            }
            let Held { hold, then, .. } = *held;
            if let Some(governor) = &mut self.governor {
                let verdict = Verdict::Abandoned { approval };
                let _refused = Governor::resolve(governor, hold, &verdict, now);
            }
            let text = "canceling statement due to user request";
            let bytes = reply::error("57014", text, "weir: it was held for approval");
            match then {
                Then::Query(job) => {
                    self.not_run(&job, now);
                    self.refuse_query(bytes);
                }
                Then::Execute { .. } => self.refuse_extended(bytes),
                Then::Effect => self.effect_cancelled(bytes),
            }
            return;
        }
        self.cancel_at_server();
    }

    pub(crate) fn cancel_at_server(&mut self) {
        if let Some((pid, secret)) = &self.server_key {
            let mut out = BytesMut::new();
            wire::startup::put_cancel(&mut out, *pid, secret);
            let bytes = weir_govern::ServerBytes::own(OwnToServer::Cancel, out.freeze());
            self.outputs.push_back(Output::SendCancel(bytes));
        }
    }
}
