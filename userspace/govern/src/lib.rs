//! The life of one request, as a pure machine: decide → (hold) → record → forward → mask → record.
//!
//! The one place that knows this order. Knows no protocol, owns no socket, reads no clock. A
//! protocol crate hands in a decoded [`weir_model::request::Request`] and gets a [`Ruling`]; the
//! bytes that `relay` may write exist only as [`ServerBytes`] and [`ClientBytes`].

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

mod bytes;
mod effect;
mod gate;
mod governor;
mod large;
mod output;
mod session;
mod stages;
pub mod terminal;

pub use crate::bytes::{ClientBytes, OwnToClient, OwnToServer, ServerBytes, Unproven};
pub use crate::gate::{Blocked, Cleared, Forwarded, Gate};
pub use crate::governor::{Governor, Hold, Refusal, Reply, Ruling, SavedGovernor, Verdict};
pub use crate::large::{IN_PLACE_BYTES_MAX, PARAMETER_BYTES_MAX};
pub use crate::output::OutputMasking;
pub use crate::session::{
    CancelKey, CatalogNeeded, CatalogRequest, CloseReason, ConnectRequest, Credential, Event,
    HoldRequest, Output, Presented, Session, Side, Snapshot,
};
