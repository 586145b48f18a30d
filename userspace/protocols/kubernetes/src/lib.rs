//! The Kubernetes API: requests as effects on objects, replies with secrets masked.
//!
//! Pure: heads and bodies in, requests, heads and bodies out. Source: Kubernetes, "API Concepts",
//! and `RequestInfo` of `k8s.io/apiserver`, whose reading of a path is followed to the letter.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

mod body;
mod document;
mod headers;
mod info;
mod path;
mod question;
mod remote;
pub mod status;
pub mod stream;
pub mod vocabulary;

pub use crate::document::{Masking, mask};
pub use crate::headers::{Person, accept, accept_any, impersonates, towards_server};
pub use crate::info::{Info, Resource, Verb, read};
pub use crate::path::{Query, Unclear};
pub use crate::question::{Plan, Question, question};
pub use crate::remote::{Effect, Remote};
