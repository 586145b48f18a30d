//! Tells reviewers that something waits, and what became of it: signed webhook, Slack, Teams, mail.
//!
//! A message never decides anything: its buttons lead to the console, where a reviewer signs in.
//! A notifier that does not answer is asked again, later and later, and never holds up a request;
//! what is sent carries the same key each time, so that a second copy can be told from a second
//! event.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

mod config;
mod deliver;
mod http;
mod mail;
mod notice;
mod post;
mod queue;
mod run;
mod sent;
pub mod signature;
pub mod slack;
mod teams;
mod webhook;

pub use crate::config::{Address, Channel, MailTls, Notifier};
pub use crate::deliver::DeliveryError;
pub use crate::notice::{Event, Notice};
pub use crate::post::Post;
pub use crate::run::{About, NotifyMetrics, Ours, Running, start};
