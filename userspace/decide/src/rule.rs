//! One policy, ready to be asked.

use std::sync::Arc;

use crate::expr::{Asked, Expr, Failed};
use crate::outcome::{Keep, MaskKind};

/// What an annotated forbid asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    Hold(HoldDuty),
    Mask(MaskKind),
    /// Values are looked through by the detectors of the configuration.
    Detect,
    Limit {
        rows: Option<u64>,
        bytes: Option<u64>,
    },
    Budget(BudgetDuty),
    /// More of the reply is recorded than the usual head.
    Record(Keep),
}

/// How much may be used; see [`crate::Budget`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BudgetDuty {
    /// As it stands in the policy.
    pub(crate) text: Arc<str>,
    pub(crate) rows: Option<u64>,
    pub(crate) bytes: Option<u64>,
    pub(crate) statements: Option<u64>,
    pub(crate) seconds: Option<u64>,
    pub(crate) window_s: Option<u32>,
}

/// Who has to approve, and what happens while nobody does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HoldDuty {
    /// Every one of them.
    pub(crate) groups: Vec<Arc<str>>,
    /// Different people.
    pub(crate) approvals: u32,
    pub(crate) expires_s: Option<u32>,
    pub(crate) escalation: Option<crate::outcome::Escalation>,
    pub(crate) at_timeout: crate::outcome::AtTimeout,
    /// Reviewers are shown what it did, before that stays.
    pub(crate) effect: bool,
}

/// A rule's texts for people.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    pub(crate) reason: String,
    pub(crate) advice: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RuleKind {
    /// `lifting`: with `@predicate("masked")`.
    Permit {
        lifting: bool,
    },
    Forbid,
    Duty(Duty),
}

/// How a rule is evaluated.
#[derive(Debug)]
pub(crate) enum Test {
    /// All of these hold.
    Own(Box<[Expr]>),
    /// Outside the compiled subset: the policy alone, for Cedar.
    Cedar(Box<cedar_policy::PolicySet>),
}

/// A policy by its `@id`.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) id: Arc<str>,
    pub(crate) kind: RuleKind,
    pub(crate) words: Words,
    pub(crate) test: Test,
}

/// Do all conjuncts hold?
pub(crate) fn all_hold(conjuncts: &[Expr], asked: &Asked<'_>) -> Result<bool, Failed> {
    for conjunct in conjuncts {
        if !conjunct.holds(asked)? {
            return Ok(false);
        }
    }
    Ok(true)
}
