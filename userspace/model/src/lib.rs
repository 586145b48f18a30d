//! Nouns that more than one stage uses. Pure: no clock, no IO, no tokio.
//!
//! Depends on no other Weir crate, and none of its types are `Serialize`: what leaves the process
//! is encoded by the stage that owns that format (`spool`, `state`, `enforcer`).

#![forbid(unsafe_code)]

pub mod addr;
pub mod fact;
pub mod fault;
pub mod flow;
pub mod ident;
pub mod limit;
pub mod request;
pub mod time;
pub mod vocabulary;
