//! From a listener's socket to an `Accepted`: the origin that the kernel recorded, and TLS.
//!
//! Reads no application byte: protocols ask for TLS inside their own stream, and `relay` carries
//! the upgrade out with what is here.

#![forbid(unsafe_code)]

pub mod authority;
pub mod origin;
pub mod tls;

pub use crate::origin::{Accepted, Listener, OriginSource, Refused};
