//! Approvals that outlive sessions and restarts.
//!
//! [`StateStore`] is the synchronous core over SQLite, or over PostgreSQL where several nodes share
//! approvals; [`State`] is its asynchronous front with a thread of its own. Who may decide is enforced here, whatever the caller checked before.

#![forbid(unsafe_code)]
#![warn(clippy::unwrap_used, clippy::expect_used)]

mod approval;
mod connect;
mod db;
mod error;
mod front;
mod grant;
mod layout;
mod revocation;
mod rows;
mod server;
mod store;

pub use crate::approval::{
    ApprovalRow, ApprovalState, Decided, Decision, NewApproval, Reviewer, Standing, TimeoutAction,
    Vote,
};
pub use crate::connect::{ServerHost, ServerPlace};
pub use crate::error::StateError;
pub use crate::front::State;
pub use crate::grant::{GRANT_SECONDS_MAX, Grant, GrantAsk, GrantScope, Revoked};
pub use crate::revocation::Revocation;
pub use crate::store::StateStore;
