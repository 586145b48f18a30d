//! Files that browsers fetch, compiled in.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::Console;

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";

/// Name, type, content.
const FILES: [(&str, &str, &str); 6] = [
    ("console.css", CSS, include_str!("../assets/console.css")),
    (
        "console.js",
        JAVASCRIPT,
        include_str!("../assets/console.js"),
    ),
    ("htmx.js", JAVASCRIPT, include_str!("../assets/htmx.min.js")),
    (
        "player.js",
        JAVASCRIPT,
        include_str!("../assets/asciinema-player.min.js"),
    ),
    (
        "player.css",
        CSS,
        include_str!("../assets/asciinema-player.css"),
    ),
    (
        "icon.svg",
        "image/svg+xml",
        include_str!("../assets/icon.svg"),
    ),
];

pub(crate) fn routes() -> Router<Arc<Console>> {
    Router::new().route("/assets/{name}", get(asset))
}

async fn asset(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|(have, _, _)| *have == name) {
        Some((_, kind, text)) => {
            let headers = [
                (header::CONTENT_TYPE, *kind),
                (header::CACHE_CONTROL, "no-cache"),
            ];
            (headers, *text).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
