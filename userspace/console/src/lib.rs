//! The web console: approvals, recorded sessions, live flows, policies, for people with a role.
//!
//! Whoever looks has signed in at Entra in this browser; whoever decides has done so within the
//! last minutes. Every page is rendered here and escaped by its template; the browser runs three
//! files of ours and nothing inline. What the console shows and does goes through [`House`], so
//! that it holds no credential and opens no connection of its own.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

mod approvals;
mod assets;
mod config;
mod failed;
mod flows;
mod guard;
mod highlight;
mod house;
mod limit;
mod listen;
mod page;
mod person;
mod policies;
mod recorded;
mod replay;
mod session;
mod sign_in;

use std::sync::Arc;

use axum::Router;
use tokio::sync::Semaphore;
use weir_model::time::Now;
use weir_state::State;

pub use crate::config::{ConsoleConfig, Lifetimes};
pub use crate::house::{
    Away, Explained, Flow, Future, House, Pending, PolicyFile, Question, Recorded, Search,
    SessionRow, SignIn, SignedIn,
};
pub use crate::listen::{Listening, Tls, listen};
pub use crate::person::{Rights, Roles, Who};

/// What a console is made of.
pub struct Parts {
    pub config: ConsoleConfig,
    /// Approvals; who may decide is enforced there, whatever a page checked before.
    pub state: State,
    pub house: Arc<dyn House>,
    pub sign_in: Arc<dyn SignIn>,
    /// Where time comes from.
    pub now: fn() -> Now,
    /// Routes without sign-in that answer other services, such as a chat's call back.
    pub hooks: Router,
}

/// A console that answers requests.
pub struct Console {
    pub(crate) config: ConsoleConfig,
    pub(crate) state: State,
    pub(crate) house: Arc<dyn House>,
    pub(crate) sign_in: Arc<dyn SignIn>,
    pub(crate) now: fn() -> Now,
    pub(crate) sessions: session::Sessions,
    pub(crate) limits: limit::Limits,
    /// Pages that follow the inbox.
    pub(crate) followers: Arc<Semaphore>,
}

/// Pages that follow the inbox at once.
const FOLLOWERS_MAX: usize = 256;

/// Every route, behind the checks that each request passes.
pub fn router(parts: Parts) -> Router {
    let console = Arc::new(Console {
        sessions: session::Sessions::new(parts.config.lifetimes),
        config: parts.config,
        state: parts.state,
        house: parts.house,
        sign_in: parts.sign_in,
        now: parts.now,
        limits: limit::Limits::default(),
        followers: Arc::new(Semaphore::new(FOLLOWERS_MAX)),
    });
    let signed = Router::new()
        .merge(approvals::routes())
        .merge(recorded::routes())
        .merge(flows::routes())
        .merge(policies::routes())
        .merge(sign_in::signed_routes());
    let router = guard::signed(signed, &console)
        .merge(sign_in::routes())
        .merge(assets::routes())
        .fallback(failed::no_such_page)
        .with_state(Arc::clone(&console))
        .merge(parts.hooks);
    guard::all(router, &console)
}
