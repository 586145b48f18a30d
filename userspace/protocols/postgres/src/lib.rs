//! PostgreSQL: bytes ↔ requests and replies, refusals in the protocol's words, masks on rows.
//!
//! Pure and sans-IO. [`PostgresSession`] is the conversation; [`understand`] says what a text of
//! SQL would do; [`catalog`] is what names mean; [`wire`] is the only codec.

#![deny(unsafe_code)]

pub mod catalog;
mod copy_out;
mod cursor;
mod doubt;
mod effect;
mod expect_copy;
mod expect_login;
mod expect_names;
mod expect_query;
mod expect_startup;
mod expect_token;
mod extended;
mod failure;
mod function_call;
mod hold;
mod limits;
mod named_settings;
mod objects;
mod parameters;
mod pipeline;
mod plan;
mod probe;
mod read_only;
mod reply;
mod session;
mod snapshot;
mod told;
pub mod understand;
mod values;
pub mod vocabulary;
pub mod wire;

pub use crate::probe::MARK;
pub use crate::session::{PostgresConfig, PostgresSession};
pub use crate::snapshot::{SNAPSHOT_VERSION, SnapshotError};

/// `SSLRequest` (protocol chapter, "Message Formats"): its length and the code 80877103.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
