//! Who runs on this node and where named things are: pods and Services from the Kubernetes API,
//! addresses from DNS. Asked by Weir itself, never heard from a workload.
//!
//! Each source is a pure part, which turns what was said into what is known, and a thin client.

#![forbid(unsafe_code)]

mod api;
mod names;
mod pods;
mod services;

pub use crate::api::{Api, ApiConfig, Change, Query};
pub use crate::names::{Lookup, Names, NamesConfig, Resolver, resolver};
pub use crate::pods::{Choice, Pod, PodSelector, Rules};
pub use crate::services::{Place, ServiceName, Services};
