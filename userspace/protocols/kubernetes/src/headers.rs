//! Header fields towards the server: a few of the agent's, and the target's credential.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::path::encode;

/// What is taken over from the agent. Everything else stays behind: credentials, impersonation,
/// forwarding, cookies, hop-by-hop fields.
const KEPT: [&str; 6] = [
    "content-type",
    "user-agent",
    "if-match",
    "if-none-match",
    "kubectl-command",
    "kubectl-session",
];
/// Of one `Accept`.
const ACCEPT_BYTES_MAX: usize = 2048;

/// As whom the server is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Person {
    /// The principal's object id.
    pub user: String,
    /// Object ids of its groups, certain ones only.
    pub groups: Vec<String>,
    /// Name and value of what the server's audit log should show.
    pub extra: Vec<(&'static str, String)>,
}

/// True for a field by which a client asks to be someone else.
#[must_use]
pub fn impersonates(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .any(|name| name.as_str().starts_with("impersonate-"))
}

/// Media types that can be masked, in the client's order; JSON when none is left.
#[must_use]
pub fn accept(headers: &HeaderMap) -> HeaderValue {
    let asked: Vec<&str> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|range| {
            let kind = range.split(';').next().unwrap_or_default().trim();
            kind.eq_ignore_ascii_case("application/json") || kind == "*/*"
        })
        .collect();
    let joined = asked.join(", ");
    if joined.is_empty() || joined.len() > ACCEPT_BYTES_MAX {
        return HeaderValue::from_static("application/json");
    }
    HeaderValue::from_str(&joined).unwrap_or_else(|_| HeaderValue::from_static("application/json"))
}

/// What the client wants to read, as it says it: for replies that are not masked. kubectl reads the
/// schema (`/openapi/v2`) as protobuf only, and takes JSON there for a broken reply.
#[must_use]
pub fn accept_any(headers: &HeaderMap) -> HeaderValue {
    match headers.get(header::ACCEPT) {
        Some(asked) if asked.len() <= ACCEPT_BYTES_MAX => asked.clone(),
        _ => accept(headers),
    }
}

/// All header fields towards the server, which is asked to `accept`. `None` when token or person
/// cannot stand in a header.
#[must_use]
pub fn towards_server(
    agent: &HeaderMap,
    accept: HeaderValue,
    token: &str,
    person: &Person,
) -> Option<HeaderMap> {
    let mut out = HeaderMap::new();
    for name in KEPT {
        if let Some(value) = agent.get(name) {
            out.insert(HeaderName::from_static(name), value.clone());
        }
    }
    out.insert(header::ACCEPT, accept);
    out.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    let mut bearer = HeaderValue::from_str(&format!("Bearer {}", token.trim())).ok()?;
    bearer.set_sensitive(true);
    out.insert(header::AUTHORIZATION, bearer);
    out.insert(
        HeaderName::from_static("impersonate-user"),
        HeaderValue::from_str(&person.user).ok()?,
    );
    for group in &person.groups {
        out.append(
            HeaderName::from_static("impersonate-group"),
            HeaderValue::from_str(group).ok()?,
        );
    }
    for (name, value) in &person.extra {
        let mut field = String::from("impersonate-extra-");
        encode(&mut field, name);
        let field = HeaderName::from_bytes(field.to_ascii_lowercase().as_bytes()).ok()?;
        out.append(field, HeaderValue::from_str(value).ok()?);
    }
    Some(out)
}
