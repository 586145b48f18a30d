//! What a request is about, as the API server itself reads it.
//!
//! Source: `k8s.io/apiserver/pkg/endpoints/request/requestinfo.go`. Where that code guesses, the
//! request is refused instead.

use http::Method;

use crate::path::{Query, Unclear, encode, segments};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Update,
    Patch,
    Delete,
    DeleteCollection,
}

impl Verb {
    /// As RBAC names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }
}

/// A request's place in the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Info {
    /// `/version`, `/openapi/v3`, discovery …: the path, written anew.
    Path {
        path: String,
    },
    Resource(Resource),
}

/// A request on a resource. Texts are empty where the request names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub verb: Verb,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// The path, written anew.
    pub path: String,
}

/// Sub-resources of a namespace itself; others below `namespaces/x` are resources within it.
const OF_NAMESPACE: [&str; 2] = ["status", "finalize"];

/// Reads method, path and query.
///
/// # Errors
/// [`Unclear`]: the request is refused.
pub fn read(method: &Method, path: &str, query: &Query) -> Result<Info, Unclear> {
    let (parts, slash) = segments(path)?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let written = written(&parts, slash);
    let (group, rest) = match parts.as_slice() {
        ["api", rest @ ..] if rest.len() >= 2 => ("", rest),
        ["apis", group, rest @ ..] if rest.len() >= 2 => (*group, rest),
        _ => {
            return match *method {
                Method::GET | Method::HEAD => Ok(Info::Path { path: written }),
                _ => Err(Unclear("only GET is known on this path")),
            };
        }
    };
    if slash {
        return Err(Unclear("a slash ends the path of a resource"));
    }
    let [version, rest @ ..] = rest else {
        return Err(Unclear("the path names no resource"));
    };
    let (watched, rest) = match rest {
        ["proxy", ..] => return Err(Unclear("the proxy prefix is not supported")),
        ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
        _ => (false, rest),
    };
    let (namespace, rest) = match rest {
        ["namespaces", _, sub, ..] if OF_NAMESPACE.contains(sub) => ("", rest),
        ["namespaces", namespace, below @ ..] if !below.is_empty() => (*namespace, below),
        _ => ("", rest),
    };
    let (resource, name, subresource) = match rest {
        [resource] => (*resource, "", ""),
        [resource, name] => (*resource, *name, ""),
        [resource, name, subresource] => (*resource, *name, *subresource),
        [] => return Err(Unclear("the path names no resource")),
        [_, _, "proxy", ..] => return Err(Unclear("proxying is not supported")),
        _ => return Err(Unclear("the path goes on behind a sub-resource")),
    };
    let verb = verb(method, watched, name, query)?;
    Ok(Info::Resource(Resource {
        verb,
        group: group.to_owned(),
        version: (*version).to_owned(),
        namespace: namespace.to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        name: name.to_owned(),
        path: written,
    }))
}

fn verb(method: &Method, watched: bool, name: &str, query: &Query) -> Result<Verb, Unclear> {
    let watch = query.flag("watch")?;
    if watched {
        return match *method {
            Method::GET => Ok(Verb::Watch),
            _ => Err(Unclear("only GET is known on a watch path")),
        };
    }
    match *method {
        Method::GET | Method::HEAD if !name.is_empty() && watch => {
            Err(Unclear("a single object is watched by a field selector"))
        }
        Method::GET | Method::HEAD if !name.is_empty() => Ok(Verb::Get),
        Method::GET | Method::HEAD if watch => Ok(Verb::Watch),
        Method::GET | Method::HEAD => Ok(Verb::List),
        Method::POST => Ok(Verb::Create),
        Method::PUT => Ok(Verb::Update),
        Method::PATCH => Ok(Verb::Patch),
        Method::DELETE if name.is_empty() => Ok(Verb::DeleteCollection),
        Method::DELETE => Ok(Verb::Delete),
        _ => Err(Unclear("the method is not known")),
    }
}

fn written(parts: &[&str], slash: bool) -> String {
    let mut path = String::new();
    for part in parts {
        path.push('/');
        encode(&mut path, part);
    }
    if slash || path.is_empty() {
        path.push('/');
    }
    path
}
