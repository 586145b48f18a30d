//! Approvals that outlive sessions and restarts.
//!
//! [`StateStore`] is the synchronous core over SQLite; [`State`] is its asynchronous front with a
//! thread of its own. Who may decide is enforced here, whatever the caller checked before.

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used)]

mod approval;
mod error;
mod front;
mod revocation;
mod store;

pub use crate::approval::{
    ApprovalRow, ApprovalState, Decided, Decision, NewApproval, Prior, PriorKey, Reviewer, Vote,
};
pub use crate::error::StateError;
pub use crate::front::State;
pub use crate::revocation::Revocation;
pub use crate::store::StateStore;
