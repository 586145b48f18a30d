//! What other services call: Slack, when a button of a message is pressed.
//!
//! Such a call is checked and answered, and decides nothing: the button itself opens the console.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use weir_notify::slack::Inbound;

/// `POST /hooks/slack`, where an app's signing secret is configured.
pub(crate) fn router(slack: Vec<Inbound>) -> Router {
    if slack.is_empty() {
        return Router::new();
    }
    let slack = Arc::new(slack);
    Router::new().route(
        "/hooks/slack",
        post(move |headers: HeaderMap, body: Bytes| {
            let slack = Arc::clone(&slack);
            async move { pressed(&slack, &headers, &body) }
        }),
    )
}

fn pressed(slack: &[Inbound], headers: &HeaderMap, body: &[u8]) -> StatusCode {
    let text = |name: &str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default()
    };
    let (time, signature) = (text("x-slack-request-timestamp"), text("x-slack-signature"));
    let now_s = weir_clock::now().unix_s();
    let mut refused = None;
    for inbound in slack {
        match inbound.check(time, signature, body, now_s) {
            Ok(()) => return StatusCode::OK,
            Err(error) => refused = Some(error),
        }
    }
    tracing::warn!(?refused, "a call that claims to be Slack's was refused");
    StatusCode::UNAUTHORIZED
}
