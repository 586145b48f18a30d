//! Holds whose effect is approved: the request runs where it can be taken back, reviewers see what
//! it did, and their word decides whether that stays.

use std::sync::Arc;

use weir_decide::{Denial, Lifted, Obligations, Outcome};
use weir_model::fact::{DecisionKind, FactKind};
use weir_model::ident::ApprovalId;
use weir_model::request::Intent;
use weir_model::time::Now;

use crate::governor::{Governor, Hold, Refusal, Ruling};

/// Why nobody can be asked about an effect: the rule of such refusals.
const RULE: &str = "weir:effect";

impl Governor {
    /// Permits a held request to run within a transaction that only an approval commits. It is
    /// recorded as a request of its own, in phase `effect`, before it runs.
    pub fn rehearse(&mut self, hold: &Hold, now: Now) -> Ruling {
        let mut fact = self.request_fact(&hold.request, now);
        fact.labels.push(("phase".to_owned(), "effect".to_owned()));
        fact.reply_to = hold.seq;
        let seq = fact.seq;
        let lifted = Lifted::approved(ApprovalId(0), hold.needed.rules.clone());
        let intent = &hold.request.intent;
        let outcome = self.decide(&mut fact, intent, &lifted, now);
        let denial = match outcome {
            Outcome::Permit(permit) => {
                fact.decision = DecisionKind::Allow;
                fact.rule = Arc::from(permit.rule());
                fact.reason = "run in order to show its effect; undone unless approved".to_owned();
                self.note_fact(fact);
                self.begun(&permit, now);
                return Ruling::Permit(Arc::new(permit));
            }
            Outcome::Denial(denial) => denial,
            // Lifting the named rules leaves no hold; anything else is refused.
            Outcome::Hold(needed) => unshown(&needed.reason),
        };
        fact.decision = DecisionKind::Deny;
        fact.rule = Arc::clone(&denial.rule);
        fact.reason.clone_from(&denial.reason);
        self.note_fact(fact);
        Ruling::Denial(Refusal { seq, denial })
    }

    /// What this principal may read of an intent's objects, and how it is masked; `None` when it may
    /// not. Nothing runs by that and nothing is recorded.
    pub fn sees(&mut self, intent: &Arc<Intent>, now: Now) -> Option<Arc<Obligations>> {
        let session = self.session();
        let outcome = self.bound.decide(0, session, intent, &Lifted::none(), now);
        match outcome {
            Outcome::Permit(permit) => Some(Arc::clone(permit.obligations())),
            Outcome::Denial(_) | Outcome::Hold(_) => None,
        }
    }

    /// Ends a hold that nobody can be asked about, because its effect cannot be shown, or could not
    /// be kept as it was shown.
    pub fn unshowable(&mut self, hold: &Hold, reason: &str, now: Now) -> Refusal {
        let denial = unshown(reason);
        let mut fact = self.next_fact(FactKind::Error, now);
        fact.reply_to = hold.seq;
        fact.decision = DecisionKind::Deny;
        fact.rule = Arc::clone(&denial.rule);
        fact.reason.clone_from(&denial.reason);
        self.note_fact(fact);
        Refusal {
            seq: hold.seq,
            denial,
        }
    }
}

fn unshown(reason: &str) -> Denial {
    Denial {
        rule: Arc::from(RULE),
        reason: reason.to_owned(),
        access: None,
        advice: Some("Ask for a rule that approves the statement instead.".to_owned()),
    }
}
