//! PostgreSQL as a protocol of Weir.

#![forbid(unsafe_code)]

pub mod catalog;
pub mod understand;
pub mod vocabulary;
