//! May they, and with what obligations: Cedar policies over decoded requests.
//!
//! Pure. One statement yields one Cedar request per access. Permits and plain forbids decide;
//! annotated forbids (`@hold`, `@mask`, `@limit`) are evaluated apart and become obligations.

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

mod bind;
mod compile;
mod inherit;
mod outcome;
mod schema;

pub use crate::bind::{Bound, Lifted, TargetRef};
pub use crate::compile::{PolicyProblem, PolicySet, PolicySettings, PolicySource};
pub use crate::inherit::{Inherited, SavedPermit};
pub use crate::outcome::{Denial, HoldNeeded, Mask, MaskKind, Obligations, Outcome, Permit, Span};
