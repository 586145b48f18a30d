//! Permits of a session that moves to the next node process.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_model::ident::{ApprovalId, SessionId};

use crate::outcome::{Obligations, Permit};

/// Witness that what is read comes from the node before this one, by way of the broker. A permit is
/// made from bytes with it and in no other way; `relay` makes it where such a session arrives.
#[derive(Debug)]
pub struct Inherited(());

impl Inherited {
    /// Only for what the broker passed from the predecessor.
    #[must_use]
    pub const fn from_predecessor() -> Self {
        Self(())
    }
}

/// A permit on its way. It permits nothing until it is restored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SavedPermit {
    session: SessionId,
    seq: u32,
    rule: Arc<str>,
    obligations: Arc<Obligations>,
    approval: Option<ApprovalId>,
}

impl SavedPermit {
    #[must_use]
    pub fn of(permit: &Permit) -> Self {
        Self {
            session: permit.session,
            seq: permit.seq,
            rule: Arc::clone(&permit.rule),
            obligations: Arc::clone(&permit.obligations),
            approval: permit.approval,
        }
    }

    #[must_use]
    pub fn restore(self, _witness: &Inherited) -> Permit {
        Permit {
            session: self.session,
            seq: self.seq,
            rule: self.rule,
            obligations: self.obligations,
            approval: self.approval,
            // It is recorded already.
            observed: None,
        }
    }
}
