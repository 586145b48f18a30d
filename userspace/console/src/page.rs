//! What every page has around it, and how times and ids are written.

use askama::Template;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse, Response};
use time::OffsetDateTime;

use crate::Console;
use crate::person::Rights;
use crate::session::Visit;

/// The frame of a page for somebody who is signed in.
pub(crate) struct Frame {
    pub(crate) title: String,
    /// Which entry of the menu this is.
    pub(crate) here: &'static str,
    pub(crate) shown: String,
    pub(crate) roles: String,
    pub(crate) rights: Rights,
    pub(crate) csrf: String,
    pub(crate) node: String,
}

impl Frame {
    pub(crate) fn new(
        console: &Console,
        visit: &Visit,
        here: &'static str,
        title: impl Into<String>,
    ) -> Self {
        Self {
            title: title.into(),
            here,
            shown: visit.person.shown.clone(),
            roles: visit.person.rights.words(),
            rights: visit.person.rights,
            csrf: visit.csrf.clone(),
            node: console.config.node.clone(),
        }
    }
}

/// A page without a session.
#[derive(Template)]
#[template(path = "problem.html")]
pub(crate) struct Problem<'a> {
    pub(crate) title: &'a str,
    pub(crate) text: &'a str,
    pub(crate) way: &'a str,
    pub(crate) way_name: &'a str,
}

/// A template as an answer.
pub(crate) fn rendered(template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page cannot be rendered");
            (StatusCode::INTERNAL_SERVER_ERROR, "this page is broken\n").into_response()
        }
    }
}

/// `2026-11-29 21:05:07`, UTC.
pub(crate) fn utc(unix_us: i64) -> String {
    let Ok(at) = OffsetDateTime::from_unix_timestamp(unix_us.div_euclid(1_000_000)) else {
        return "?".to_owned();
    };
    format!(
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

/// `45 s`, `12 min`, `3 h 5 min`, `2 d 1 h`.
pub(crate) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    match seconds {
        0..=99 => format!("{seconds} s"),
        100..=5999 => format!("{} min", seconds / 60),
        6000..=172_799 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// One line of at most `chars` characters.
pub(crate) fn one_line(text: &str, chars: usize) -> String {
    let mut out = String::new();
    let mut gap = false;
    for (count, c) in text.chars().enumerate() {
        if count >= chars {
            out.push('…');
            break;
        }
        let blank = c.is_whitespace() || c.is_control();
        if !(blank && (gap || out.is_empty())) {
            out.push(if blank { ' ' } else { c });
        }
        gap = blank;
    }
    out
}

/// The last part of an id: what differs between neighbours.
pub(crate) fn short(id: &str) -> &str {
    id.rsplit('-').next().unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_spans_and_lines_are_short_and_safe() {
        assert_eq!(utc(1_795_987_507_000_000), "2026-11-29 21:25:07");
        assert_eq!(utc(i64::MIN), "?");
        for (seconds, text) in [
            (-3, "0 s"),
            (99, "99 s"),
            (125, "2 min"),
            (11_100, "3 h 5 min"),
            (176_400, "2 d 1 h"),
        ] {
            assert_eq!(span(seconds), text);
        }
        assert_eq!(one_line("  a\n\t b\u{1b}[31m", 80), "a b [31m");
        assert_eq!(one_line("äöüß", 3), "äöü…");
        assert_eq!(short("0190-af"), "af");
    }
}
