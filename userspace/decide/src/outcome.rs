//! What a decision can be. Only this crate makes a [`Permit`].

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

use weir_model::ident::{ApprovalId, SessionId};
use weir_model::request::{Access, Object};

use crate::budget::Budget;

/// Proof that policy permits one request of one session.
///
/// ```compile_fail
/// let permit = weir_decide::Permit { seq: 1 };
/// ```
#[derive(Debug)]
pub struct Permit {
    pub(crate) session: SessionId,
    pub(crate) seq: u32,
    pub(crate) rule: Arc<str>,
    pub(crate) obligations: Arc<Obligations>,
    pub(crate) approval: Option<ApprovalId>,
    pub(crate) observed: Option<Arc<Observed>>,
}

/// What policy would have said where it only observes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    pub would: Would,
    /// Ids of the deciding rules, joined by `, `.
    pub rule: Arc<str>,
    pub reason: String,
}

/// What would have become of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Would {
    Deny,
    Hold,
}

impl Permit {
    /// Set when only observing let the request through.
    #[must_use]
    pub fn observed(&self) -> Option<&Observed> {
        self.observed.as_deref()
    }

    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    #[must_use]
    pub const fn seq(&self) -> u32 {
        self.seq
    }

    /// Ids of the permitting policies, joined by `, `.
    #[must_use]
    pub fn rule(&self) -> &str {
        &self.rule
    }

    #[must_use]
    pub const fn obligations(&self) -> &Arc<Obligations> {
        &self.obligations
    }

    #[must_use]
    pub const fn approval(&self) -> Option<ApprovalId> {
        self.approval
    }
}

/// How a value is made unreadable, least strict first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MaskKind {
    /// All but the last characters become `*`.
    Partial {
        keep_last: u8,
    },
    /// Numbers and moments become the start of the span that they lie in.
    Range(Span),
    /// Another value of the same form: equal values stay equal, also in different columns, so that
    /// results can still be joined.
    Token,
    /// A keyed digest: equal values of one column stay equal.
    Hash,
    /// A fixed text.
    Redact,
    Null,
}

impl MaskKind {
    /// Greater is stricter; a partial mask is stricter the fewer characters it keeps.
    const fn strictness(self) -> (u8, u64) {
        match self {
            Self::Partial { keep_last } => (0, (u8::MAX - keep_last) as u64),
            Self::Range(span) => (1, span.strictness()),
            Self::Token => (2, 0),
            Self::Hash => (3, 0),
            Self::Redact => (4, 0),
            Self::Null => (5, 0),
        }
    }

    /// Equal values stay equal: whoever may choose a value can look up what it becomes.
    #[must_use]
    pub const fn is_deterministic(self) -> bool {
        matches!(self, Self::Token | Self::Hash)
    }
}

/// How much of a number or a moment is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Span {
    /// Numbers: multiples of this, at least 2.
    Step(u64),
    Month,
    Year,
    Decade,
}

impl Span {
    /// Greater is wider. Spans of numbers and of moments do not compare; either is withheld where
    /// the other would be shown.
    const fn strictness(self) -> u64 {
        match self {
            Self::Step(step) => step,
            Self::Month => 1,
            Self::Year => 2,
            Self::Decade => 3,
        }
    }
}

impl Ord for MaskKind {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.strictness().cmp(&other.strictness())
    }
}

impl PartialOrd for MaskKind {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// One column's mask and the rule that asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    pub kind: MaskKind,
    pub rule: Arc<str>,
}

/// What a permit demands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obligations {
    pub masks: BTreeMap<Object, Mask>,
    /// Values without a mask are looked through for what detectors know: the rule that asks for it.
    #[serde(default)]
    pub detect: Option<Arc<str>>,
    pub rows_max: Option<u64>,
    pub bytes_max: Option<u64>,
    /// Of the principal, over requests; by rule.
    #[serde(default)]
    pub budgets: Vec<Budget>,
    #[serde(default)]
    pub keep: Keep,
}

/// How much of a masked reply is recorded. Where there are no rows, a head and a tail have their size in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// The first rows.
    pub head: u32,
    /// The last rows.
    pub tail: u32,
    /// Everything, as far as one reply's fact goes.
    pub all: bool,
}

impl Keep {
    /// What is asked for by either.
    #[must_use]
    pub fn joined(self, other: Self) -> Self {
        Self {
            head: self.head.max(other.head),
            tail: self.tail.max(other.tail),
            all: self.all || other.all,
        }
    }
}

impl std::fmt::Display for Keep {
    /// As annotations write it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.all, self.head, self.tail) {
            (true, _, _) => f.write_str("all"),
            (false, head, 0) => write!(f, "head:{head}"),
            (false, 0, tail) => write!(f, "tail:{tail}"),
            (false, head, tail) => write!(f, "head:{head}, tail:{tail}"),
        }
    }
}

/// Policy said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub rule: Arc<str>,
    pub reason: String,
    pub access: Option<Access>,
    pub advice: Option<String>,
}

/// Policy asks for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldNeeded {
    pub rules: Vec<Arc<str>>,
    /// Every one of them must approve.
    pub groups: Vec<Arc<str>>,
    pub reason: String,
    pub expires_s: Option<u32>,
    /// Different people who have to approve.
    #[serde(default = "one")]
    pub approvals: u32,
    #[serde(default)]
    pub escalation: Option<Escalation>,
    #[serde(default)]
    pub at_timeout: AtTimeout,
    /// What is approved is the effect: it runs where it can be taken back, is shown, and stays or
    /// not by the decision.
    #[serde(default)]
    pub effect: bool,
}

const fn one() -> u32 {
    1
}

/// Who may decide as well once nobody has for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Escalation {
    pub groups: Vec<Arc<str>>,
    pub after_s: u32,
}

/// What becomes of a request that nobody decided; the later is stricter.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum AtTimeout {
    /// It is refused; the session goes on.
    #[default]
    Deny,
    /// It is refused and the session ends.
    EndSession,
}

/// The decision on one request.
#[derive(Debug)]
pub enum Outcome {
    Permit(Permit),
    Denial(Denial),
    Hold(HoldNeeded),
}
