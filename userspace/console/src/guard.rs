//! What every request passes: limits, who it is, where it comes from; and what every answer says.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Form, FromRequest, Request, State as AxumState};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use serde::de::DeserializeOwned;

use crate::Console;
use crate::failed::Failed;
use crate::limit::Of;
use crate::session::Visit;

/// Forms are a justification and a few words.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Scripts, styles and pictures of ours only, nothing inline, no frame around us, forms to us only.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    font-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

/// The same for a page with a terminal: its player interprets escape sequences in WebAssembly.
pub(crate) const POLICY_OF_PLAYER: &str = "default-src 'none'; \
    script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' data:; \
    font-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

/// Address of the peer, put there by the listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

pub(crate) fn peer(request: &Request) -> IpAddr {
    let peer = request.extensions().get::<Peer>();
    peer.map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0)
}

/// Around everything.
pub(crate) fn all(router: Router, console: &Arc<Console>) -> Router {
    router
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(console), outermost))
}

/// Around what needs a session.
pub(crate) fn signed(router: Router<Arc<Console>>, console: &Arc<Console>) -> Router<Arc<Console>> {
    router.layer(from_fn_with_state(Arc::clone(console), let_in))
}

async fn outermost(
    AxumState(console): AxumState<Arc<Console>>,
    request: Request,
    next: Next,
) -> Response {
    let from = Of::Address(peer(&request));
    let mut response = if console.limits.take(from, (console.now)()) {
        next.run(request).await
    } else {
        Failed::too_often().into_response()
    };
    say_rules(response.headers_mut(), console.config.secure);
    response
}

fn say_rules(headers: &mut HeaderMap, secure: bool) {
    let rules = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // `no-referrer` would make browsers send `Origin: null` with our own forms.
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in rules {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        (
            "permissions-policy",
            "camera=(), geolocation=(), microphone=()",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if secure {
        let year = HeaderValue::from_static("max-age=31536000");
        headers.insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
}

async fn let_in(
    AxumState(console): AxumState<Arc<Console>>,
    mut request: Request,
    next: Next,
) -> Response {
    let fragment = request.headers().contains_key("hx-request");
    let live = request.uri().path() == "/events";
    let cookie = cookie(request.headers(), console.config.cookie());
    let now = (console.now)();
    let visit = cookie.and_then(|cookie| {
        // What a page fetches by itself is no sign of a person.
        console.sessions.visit(cookie, !fragment && !live, now)
    });
    let Some(visit) = visit else {
        return sign_in_first(&request, fragment);
    };
    if request.method() != Method::GET && !is_ours(&console, request.headers()) {
        tracing::warn!(oid = %visit.person.principal.oid, "a form from elsewhere was refused");
        let text = "This form did not come from a page of this console. Nothing was done.";
        return Failed::forbidden(text).into_response();
    }
    if !visit.person.rights.any() && request.uri().path() != "/sign-out" {
        return crate::sign_in::without_role(&console, &visit);
    }
    request.extensions_mut().insert(visit);
    next.run(request).await
}

fn sign_in_first(request: &Request, fragment: bool) -> Response {
    if request.method() != Method::GET {
        let text = "Your session has ended. Sign in, then do it once more: nothing was done.";
        let status = axum::http::StatusCode::UNAUTHORIZED;
        return Failed::new(status, "Signed out", text)
            .back("/sign-in", "Sign in")
            .into_response();
    }
    let path = request.uri().path_and_query();
    let here = path.map_or("/", |path| path.as_str());
    if fragment {
        // A part of a page cannot be replaced by a sign-in: htmx leaves the page.
        let headers = [("hx-redirect", "/sign-in")];
        return (axum::http::StatusCode::UNAUTHORIZED, headers).into_response();
    }
    if request.uri().path() == "/events" {
        return axum::http::StatusCode::UNAUTHORIZED.into_response();
    }
    Redirect::to(&crate::sign_in::page_for(here)).into_response()
}

/// Browsers name the origin of every form; only ours counts.
fn is_ours(console: &Console, headers: &HeaderMap) -> bool {
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let same_site = headers
        .get("sec-fetch-site")
        .is_none_or(|site| site == "same-origin");
    same_site && text(header::ORIGIN) == Some(console.config.origin.as_str())
}

/// The value of one cookie; two of the same name are none.
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut found = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(have, value)| *have == name && value.len() <= 128)
        .map(|(_, value)| value);
    let value = found.next()?;
    found.next().is_none().then_some(value)
}

/// A form that carries its session's token.
pub(crate) trait Tokened: DeserializeOwned {
    fn csrf(&self) -> &str;
}

/// A form of this very session. There is no other way to the fields of a form.
pub(crate) struct Sent<F> {
    pub(crate) visit: Visit,
    pub(crate) form: F,
}

impl<F: Tokened> FromRequest<Arc<Console>> for Sent<F> {
    type Rejection = Failed;

    async fn from_request(
        request: Request,
        console: &Arc<Console>,
    ) -> Result<Self, Self::Rejection> {
        let visit = request.extensions().get::<Visit>().cloned();
        let visit = visit.ok_or_else(|| Failed::forbidden("Nobody is signed in."))?;
        if !console.limits.take(Of::Post(visit.key), (console.now)()) {
            return Err(Failed::too_often());
        }
        let form = Form::<F>::from_request(request, console).await;
        let Form(form) =
            form.map_err(|_| Failed::refused("This form is incomplete or too large."))?;
        if !visit.sent(form.csrf()) {
            tracing::warn!(oid = %visit.person.principal.oid, "a form without its token was refused");
            let text = "This form did not come from a page of your session. Nothing was done.";
            return Err(Failed::forbidden(text));
        }
        Ok(Self { visit, form })
    }
}
