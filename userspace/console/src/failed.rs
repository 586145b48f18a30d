//! What a request that cannot be answered gets: a page with a status and what to do.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::house::Away;
use crate::page::{Problem, rendered};

/// An error for people. Its text never repeats what was sent.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
    pub(crate) text: String,
    /// Where to go from here, and its name.
    pub(crate) way: (String, &'static str),
}

impl Failed {
    pub(crate) fn new(status: StatusCode, title: &'static str, text: impl Into<String>) -> Self {
        Self {
            status,
            title,
            text: text.into(),
            way: ("/".to_owned(), "To the start"),
        }
    }

    pub(crate) fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found", text)
    }

    pub(crate) fn forbidden(text: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "Not allowed", text)
    }

    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Not understood", text)
    }

    pub(crate) fn too_often() -> Self {
        let text = "More requests than one person makes. Wait a minute.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests", text)
    }

    /// A decision needs a sign-in of the last minutes. A link, not a redirect: forms of this page
    /// may not lead anywhere else.
    pub(crate) fn stale(next: &str) -> Self {
        let text = "Your sign-in is too old for this. Sign in again, then do it once more.";
        Self {
            way: (crate::sign_in::again(next), "Sign in again"),
            ..Self::new(StatusCode::UNAUTHORIZED, "Sign in again", text)
        }
    }

    pub(crate) fn back(self, to: impl Into<String>, name: &'static str) -> Self {
        Self {
            way: (to.into(), name),
            ..self
        }
    }
}

impl From<Away> for Failed {
    fn from(away: Away) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "Not available", away.0)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let page = Problem {
            title: self.title,
            text: &self.text,
            way: &self.way.0,
            way_name: self.way.1,
        };
        (self.status, rendered(&page)).into_response()
    }
}

pub(crate) async fn no_such_page() -> Failed {
    Failed::not_found("There is no such page.")
}
