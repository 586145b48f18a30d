//! To the authority and back.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Query, Request, State as AxumState};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use url::form_urlencoded::byte_serialize;

use crate::Console;
use crate::failed::Failed;
use crate::guard::{Sent, Tokened, cookie, peer};
use crate::limit::Of;
use crate::page::{Frame, rendered};
use crate::session::{Begun, Visit};

/// Longest path that somebody is sent back to.
const NEXT_BYTES_MAX: usize = 512;

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    next: &'a str,
    node: &'a str,
}

#[derive(Template)]
#[template(path = "no_role.html")]
struct NoRole {
    frame: Frame,
    oid: String,
    groups: &'static str,
}

#[derive(Deserialize)]
struct Next {
    #[serde(default)]
    next: String,
    #[serde(default)]
    again: bool,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    state: String,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
struct Out {
    csrf: String,
}

impl Tokened for Out {
    fn csrf(&self) -> &str {
        &self.csrf
    }
}

pub(crate) fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/sign-in", get(page))
        .route("/sign-in/start", get(start))
        .route("/sign-in/return", get(come_back))
}

pub(crate) fn signed_routes() -> Router<Arc<Console>> {
    Router::new().route("/sign-out", post(sign_out))
}

/// Only paths of this console: `//host` and `/\host` are other hosts to a browser.
fn own_path(next: &str) -> &str {
    let plain = next.starts_with('/')
        && !next.starts_with("//")
        && next.len() <= NEXT_BYTES_MAX
        && next
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if plain { next } else { "/" }
}

fn encoded(next: &str) -> String {
    byte_serialize(own_path(next).as_bytes()).collect()
}

/// The sign-in page that leads to `next`.
pub(crate) fn page_for(next: &str) -> String {
    format!("/sign-in?next={}", encoded(next))
}

/// A fresh sign-in that leads to `next`.
pub(crate) fn again(next: &str) -> String {
    format!("/sign-in/start?again=true&next={}", encoded(next))
}

async fn page(AxumState(console): AxumState<Arc<Console>>, Query(next): Query<Next>) -> Response {
    let next = format!("/sign-in/start?next={}", encoded(&next.next));
    rendered(&SignInPage {
        next: &next,
        node: &console.config.node,
    })
}

fn count(console: &Console, request: &Request) -> Result<(), Failed> {
    let of = Of::SignIn(peer(request));
    if console.limits.take(of, (console.now)()) {
        Ok(())
    } else {
        Err(Failed::too_often())
    }
}

async fn start(
    AxumState(console): AxumState<Arc<Console>>,
    Query(next): Query<Next>,
    request: Request,
) -> Result<Response, Failed> {
    count(&console, &request)?;
    let pending = console.sign_in.begin(next.again).await?;
    let begun = Begun::new(pending.state, pending.kept, own_path(&next.next).to_owned());
    let value = console.sessions.begin(begun, (console.now)());
    let set = set_cookie(&console, console.config.cookie_of_sign_in(), &value);
    Ok((
        AppendHeaders([(header::SET_COOKIE, set)]),
        Redirect::to(&pending.url),
    )
        .into_response())
}

/// `HttpOnly`: no script reads it; `Lax`: other pages' forms and frames do not carry it, a link does.
fn set_cookie(console: &Console, name: &str, value: &str) -> String {
    let secure = if console.config.secure {
        "; Secure"
    } else {
        ""
    };
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax{secure}")
}

fn drop_cookie(console: &Console, name: &str) -> String {
    format!("{}; Max-Age=0", set_cookie(console, name, ""))
}

async fn come_back(
    AxumState(console): AxumState<Arc<Console>>,
    Query(answer): Query<Answer>,
    request: Request,
) -> Result<Response, Failed> {
    count(&console, &request)?;
    let start_again = |text: &str| {
        Failed::new(StatusCode::BAD_REQUEST, "Not signed in", text).back("/sign-in", "Start again")
    };
    let begun = cookie(request.headers(), console.config.cookie_of_sign_in())
        .and_then(|cookie| console.sessions.come_back(cookie, (console.now)()));
    let Some(begun) = begun else {
        return Err(start_again(
            "This browser has not begun a sign-in here, or it took more than ten minutes.",
        ));
    };
    if begun.state != answer.state {
        return Err(start_again("The answer belongs to another sign-in."));
    }
    if !answer.error.is_empty() {
        tracing::info!("a sign-in was given up at the authority");
        return Err(start_again("The authority did not sign you in."));
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    let signed = console
        .sign_in
        .redeem(begun.kept, query)
        .await
        .map_err(|away| start_again(&away.0))?;
    let person = console.config.roles.person(signed.principal, signed.shown);
    let (oid, roles) = (&person.principal.oid, person.rights.words());
    tracing::info!(%oid, shown = %person.shown, %roles, "signed in to the console");
    // A session that this browser had before ends here.
    if let Some(old) = cookie(request.headers(), console.config.cookie()) {
        console.sessions.close(old);
    }
    let value = console.sessions.open(person, (console.now)());
    let cookies = AppendHeaders([
        (
            header::SET_COOKIE,
            set_cookie(&console, console.config.cookie(), &value),
        ),
        (
            header::SET_COOKIE,
            drop_cookie(&console, console.config.cookie_of_sign_in()),
        ),
    ]);
    Ok((cookies, Redirect::to(&begun.next)).into_response())
}

async fn sign_out(
    AxumState(console): AxumState<Arc<Console>>,
    headers: HeaderMap,
    sent: Sent<Out>,
) -> Response {
    if let Some(value) = cookie(&headers, console.config.cookie()) {
        console.sessions.close(value);
    }
    tracing::info!(oid = %sent.visit.person.principal.oid, "signed out of the console");
    let gone = drop_cookie(&console, console.config.cookie());
    (
        AppendHeaders([(header::SET_COOKIE, gone)]),
        Redirect::to("/sign-in"),
    )
        .into_response()
}

/// Signed in, and nothing follows from that.
pub(crate) fn without_role(console: &Console, visit: &Visit) -> Response {
    let page = NoRole {
        frame: Frame::new(console, visit, "", "No role"),
        oid: visit.person.principal.oid.to_string(),
        groups: visit.person.principal.groups.state(),
    };
    (StatusCode::FORBIDDEN, rendered(&page)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_another_host() {
        assert_eq!(own_path("/approvals?x=1"), "/approvals?x=1");
        for other in [
            "//evil.example",
            "/\\evil",
            "https://evil",
            "",
            "/a\r\nb",
            "/ä",
        ] {
            assert_eq!(own_path(other), "/", "{other}");
        }
        assert_eq!(page_for("/a?b=c&d"), "/sign-in?next=%2Fa%3Fb%3Dc%26d");
    }
}
