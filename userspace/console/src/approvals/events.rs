//! Server-sent events: one whenever the inbox has changed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as AxumState;
use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::timeout;
use weir_state::ApprovalState;

use crate::Console;
use crate::guard::cookie;

/// A decision made by another node or process, and an expiry, are seen this late at most.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// After this the browser comes again, and is looked at again.
const LIFE_US: u64 = 10 * 60 * 1_000_000;

struct Follower {
    console: Arc<Console>,
    cookie: String,
    changes: watch::Receiver<u64>,
    told: Option<(usize, u64)>,
    until_us: u64,
    _place: OwnedSemaphorePermit,
}

pub(super) async fn follow(
    AxumState(console): AxumState<Arc<Console>>,
    headers: HeaderMap,
) -> Response {
    let Ok(place) = Arc::clone(&console.followers).try_acquire_owned() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let cookie = cookie(&headers, console.config.cookie()).unwrap_or_default();
    let follower = Follower {
        cookie: cookie.to_owned(),
        changes: console.state.watch(),
        told: None,
        until_us: (console.now)().mono_us + LIFE_US,
        console: Arc::clone(&console),
        _place: place,
    };
    let events = unfold(follower, |follower| follower.next());
    Sse::new(events)
        .keep_alive(KeepAlive::default())
        .into_response()
}

impl Follower {
    /// The next event; the end when the session is over.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        loop {
            let now = (self.console.now)();
            let visit = self.console.sessions.visit(&self.cookie, false, now)?;
            if !visit.person.rights.any() || now.mono_us > self.until_us {
                return None;
            }
            self.changes.mark_unchanged();
            let seen = self.look(now.wall_us).await?;
            if self.told != Some(seen) {
                self.told = Some(seen);
                let event = Event::default().event("inbox").data(seen.0.to_string());
                return Some((Ok(event), self));
            }
            // The sender lives as long as the store.
            let _changed = timeout(LOOK_EVERY, self.changes.changed()).await;
        }
    }

    /// How many wait, and a number that changes with any of them.
    async fn look(&self, now_us: i64) -> Option<(usize, u64)> {
        let rows = self.console.state.list().await.ok()?;
        let mut waiting = 0;
        let mut sum = 0_u64;
        for row in rows {
            if row.state == ApprovalState::Pending && row.new.expires_us > now_us {
                waiting += 1;
            }
            let label = row.state.label().bytes().map(u64::from).sum::<u64>();
            let votes = u64::try_from(row.votes.len()).unwrap_or(u64::MAX);
            let id = u64::from_be_bytes(std::array::from_fn(|at| row.id.0.to_be_bytes()[8 + at]));
            sum = sum
                .rotate_left(5)
                .wrapping_add(id ^ label.wrapping_mul(31).wrapping_add(votes));
        }
        Some((waiting, sum))
    }
}
