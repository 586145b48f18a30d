//! May they, and with what obligations: Cedar policies over decoded requests.
//!
//! Pure. One statement yields one Cedar request per access. Permits and plain forbids decide;
//! annotated forbids (`@hold`, `@mask`, `@limit`, `@budget`, `@record`) are evaluated apart and become obligations.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

mod annotation;
mod bind;
mod budget;
mod compile;
mod dead;
mod explain;
mod expr;
mod form;
mod gather;
mod index;
mod inherit;
mod moment;
mod names;
mod oracle;
mod outcome;
mod rule;
mod schema;
mod source;

pub use crate::bind::{Bound, Engine, Lifted, TargetRef};
pub use crate::budget::{Budget, Budgets, SavedAccounts, Spending};
pub use crate::compile::{AboutRule, PolicySet};
pub use crate::explain::{Explained, MaskedAs};
pub use crate::inherit::{Inherited, SavedPermit};
pub use crate::outcome::{
    AtTimeout, Denial, Escalation, HoldNeeded, Keep, Mask, MaskKind, Obligations, Observed,
    Outcome, Permit, Span, Would,
};
pub use crate::schema::schema;
pub use crate::source::{PolicyProblem, PolicySettings, PolicySource};
