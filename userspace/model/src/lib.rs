//! Nouns that more than one stage uses. Pure: no clock, no IO, no tokio.
//!
//! Depends on no other Weir crate. Types are `Serialize` for one purpose, the snapshot of a session
//! that moves to the next node process; every other form that leaves the process is encoded by the
//! stage that owns it (`spool`, `state`, `enforcer`).

#![forbid(unsafe_code)]

pub mod addr;
pub mod asked;
pub mod effect;
pub mod fact;
pub mod fault;
pub mod fixed;
pub mod flow;
pub mod ident;
pub mod limit;
pub mod request;
pub mod time;
pub mod vocabulary;
