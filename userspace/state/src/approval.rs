//! What is known of a held request.

use weir_model::effect::Effect;
use weir_model::ident::{ApprovalId, SessionId};

use crate::grant::GrantAsk;

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
    /// Different people who have to approve, whatever their groups; at least 1.
    pub approvals: u32,
    /// Unix microseconds from which on `escalate_groups` may stand in for any group; 0 is never.
    pub escalate_us: i64,
    pub escalate_groups: Vec<String>,
    pub at_timeout: TimeoutAction,
    /// Digest of the normalised statement; 0 when there is none.
    pub shape: u64,
    /// Whether statement, parameters and accesses say all that there is: an equal text is then an
    /// equal request.
    pub exact: bool,
    /// What it did so far, where that is what is approved.
    pub effect: Option<Effect>,
}

/// What becomes of a request that nobody decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeoutAction {
    #[default]
    Deny,
    EndSession,
}

impl TimeoutAction {
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::EndSession => "end-session",
        }
    }

    pub(crate) fn parse(label: &str) -> Option<Self> {
        [Self::Deny, Self::EndSession]
            .into_iter()
            .find(|action| action.label() == label)
    }
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
    /// What the reviewer wants to allow beyond this one request; only with an approval.
    pub grant: Option<GrantAsk>,
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
    pub grant: Option<GrantAsk>,
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
    /// Unix microseconds; set when a grant came of it.
    pub grant_expires_us: Option<i64>,
    pub at_timeout: TimeoutAction,
}

/// What lets a held request go on at once, without asking anybody again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// An unexpired grant covers it. It ends what runs under it at `expires_us`.
    Grant {
        approval: ApprovalId,
        approver: String,
        /// Unix microseconds.
        expires_us: i64,
    },
    /// The decision on an identical request whose process is gone; it is used up by this.
    Prior {
        approval: ApprovalId,
        approver: String,
    },
    /// An identical request whose process is gone still waits; it is this one's from now on.
    Pending(ApprovalId),
}
