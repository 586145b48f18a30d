//! HTTP/1.1 and HTTP/2 between an agent and a protected server; hyper owns the bytes.
//!
//! Each request is parsed once and written anew, so that agent and server cannot read it in two
//! ways. What it means is said by an [`Api`] (Kubernetes first); whether it goes on is said by a
//! [`weir_govern::Gate`]. Runs within a `LocalSet`: a flow stays on its thread.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)
)]

mod api;
mod body;
mod dialogue;
mod exchange;
mod kubernetes;
mod lines;
mod local;
mod serve;
mod upgraded;
mod upstream;

pub use crate::api::{Api, Masked, Problem, Question, ReplyMode};
pub use crate::body::{Outgoing, Withheld};
pub use crate::dialogue::{Answer, Dialogue, OPENING, Step, Stopped};
pub use crate::kubernetes::{
    Acting, Acts, KubernetesApi, KubernetesDialogue, KubernetesPlan, Masks,
};
pub use crate::serve::{Flow, Version, serve};
pub use crate::upstream::{Dial, Upstream};
