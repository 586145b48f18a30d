//! What is known of a held request.

use weir_model::ident::{ApprovalId, SessionId};

/// A request that waits for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApproval {
    /// Unix microseconds.
    pub created_us: i64,
    /// Unix microseconds; neither a decision nor its use is possible from here on.
    pub expires_us: i64,
    pub session: SessionId,
    pub seq: u32,
    pub tenant: String,
    /// `oid`, or `tenant/oid`.
    pub principal: String,
    pub application: String,
    /// `oid`, or `tenant/oid`; empty when the agent acts for itself.
    pub on_behalf_of: String,
    pub workload: String,
    pub target: String,
    pub database: String,
    pub statement: String,
    pub parameters: String,
    pub accesses: Vec<String>,
    pub process: String,
    pub rules: Vec<String>,
    /// Every one of them must approve.
    pub groups: Vec<String>,
    pub reason: String,
}

/// Where a held request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApprovalState {
    Pending,
    /// Approved by every group, not used yet.
    Approved,
    Denied,
    Expired,
    /// Approved, and the request went out.
    Used,
    /// The client cancelled or left before a decision.
    Abandoned,
}

impl ApprovalState {
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Used => "used",
            Self::Abandoned => "abandoned",
        }
    }

    pub(crate) fn parse(label: &str) -> Option<Self> {
        [
            Self::Pending,
            Self::Approved,
            Self::Denied,
            Self::Expired,
            Self::Used,
            Self::Abandoned,
        ]
        .into_iter()
        .find(|state| state.label() == label)
    }
}

/// Who decides; from the reviewer's own fresh sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reviewer {
    pub tenant: String,
    pub oid: String,
    pub name: String,
    /// Names of reviewer groups, as policies write them.
    pub groups: Vec<String>,
}

/// One reviewer's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub approve: bool,
    pub reviewer: Reviewer,
    /// Never blank.
    pub justification: String,
}

/// One group's approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    pub group: String,
    pub tenant: String,
    pub oid: String,
    pub name: String,
    pub justification: String,
    /// Unix microseconds.
    pub at_us: i64,
}

/// A stored approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRow {
    pub id: ApprovalId,
    pub state: ApprovalState,
    pub new: NewApproval,
    /// Unix microseconds of the final decision.
    pub decided_us: Option<i64>,
    /// Names of those who decided, joined by `, `; empty while nobody did.
    pub approver: String,
    pub justification: String,
    /// Groups that approved so far.
    pub votes: Vec<Vote>,
}

/// How waiting for a decision ended; never `Pending`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    pub state: ApprovalState,
    pub approver: String,
    pub justification: String,
}

/// What must be identical for a decision to be used by another session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriorKey {
    pub tenant: String,
    pub principal: String,
    pub application: String,
    pub on_behalf_of: String,
    pub workload: String,
    pub target: String,
    pub database: String,
    pub statement: String,
    pub parameters: String,
}

/// A decision taken over from a session that is gone; it is used up by being returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prior {
    pub approval: ApprovalId,
    /// Rules that it lifts.
    pub rules: Vec<String>,
    pub approver: String,
}
