//! Who runs on this node and where named things are: pods and Services from the Kubernetes API,
//! containers from their runtimes, addresses from DNS. Asked by Weir itself, never heard from a workload.
//!
//! Each source is a pure part, which turns what was said into what is known, and a thin client.

#![forbid(unsafe_code)]

mod accounts;
mod api;
mod containers;
mod names;
mod pods;
mod runtime;
mod selection;
mod services;

pub use crate::accounts::ServiceAccount;
pub use crate::api::{Api, ApiConfig, Change, Query};
pub use crate::containers::{Container, ContainerSelector};
pub use crate::names::{Lookup, Names, NamesConfig, Resolver, resolver};
pub use crate::pods::{Pod, PodSelector, ProjectedToken};
pub use crate::runtime::{RuntimeQuestion, follow_runtime};
pub use crate::selection::{Choice, Rules, Selects};
pub use crate::services::{Place, ServiceName, Services};
