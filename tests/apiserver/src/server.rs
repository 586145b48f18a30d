//! One request: who, what, answer, audit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::audit::Audit;
use crate::auth::{Caller, Tokens, percent};
use crate::objects::{View, Work, json as parse};
use crate::reply::{Failure, Reply, json_reply, typed};
use crate::resource::{Target, target};
use crate::selector::Selector;
use crate::store::Store;
use crate::watch::Watch;
use crate::{discovery, logs, openapi, protobuf, review, seed, stream};

/// Bodies of requests, at most.
const MAX_BODY: usize = 3 * 1024 * 1024;

/// Everything that requests share.
pub(crate) struct Server {
    pub(crate) store: Store,
    pub(crate) scratch: PathBuf,
    tokens: Tokens,
    audit: Audit,
    counter: AtomicU64,
}

/// The decoded query of a request.
pub(crate) struct Query(pub(crate) Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Query {
        let decode = |s: &str| percent(&s.replace('+', " "));
        let pairs = text.split('&').filter(|p| !p.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name), decode(value))
        });
        Query(pairs.collect())
    }

    /// The first value, or nothing.
    pub(crate) fn text(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(n, _)| n == name);
        found.map_or("", |(_, v)| v)
    }

    pub(crate) fn flag(&self, name: &str) -> bool {
        matches!(self.text(name), "true" | "1")
    }

    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.text(name).parse().ok()
    }
}

impl Server {
    /// A seeded server; scratch directories of pods are made under `dir`.
    pub(crate) fn new(dir: &Path) -> Result<Server> {
        let store = Store::new();
        seed::fill(&store).map_err(|f| anyhow::anyhow!(f.message))?;
        Ok(Server {
            store,
            scratch: dir.canonicalize()?.join("pods"),
            tokens: Tokens::create(dir)?,
            audit: Audit::create(dir)?,
            counter: AtomicU64::new(1),
        })
    }

    pub(crate) fn next(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed)
    }

    /// Answers, after the request is in the access log.
    pub(crate) async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Reply {
        let (mut parts, body) = request.into_parts();
        let caller = self.tokens.authenticate(&parts.headers);
        let reply = match &caller {
            Ok(caller) => self.route(&mut parts, body, caller).await,
            Err(failure) => Ok(failure.reply()),
        };
        let reply = reply.unwrap_or_else(|failure| failure.reply());
        self.audit
            .write(&parts, caller.as_ref().ok(), reply.status().as_u16());
        reply
    }

    async fn route(
        self: &Arc<Self>,
        parts: &mut Parts,
        body: Incoming,
        caller: &Caller,
    ) -> Result<Reply, Failure> {
        let path = parts.uri.path().to_owned();
        if let Some(target) = target(&path) {
            return self.object(parts, body, target, caller).await;
        }
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return Err(Failure::missing(&path));
        }
        fixed(parts, &path).ok_or_else(|| {
            Failure::new(
                404,
                "NotFound",
                "the server could not find the requested resource",
            )
        })
    }

    async fn object(
        self: &Arc<Self>,
        parts: &mut Parts,
        body: Incoming,
        target: Target,
        caller: &Caller,
    ) -> Result<Reply, Failure> {
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let sub = target.sub.clone();
        if let Some(sub) = &sub
            && !target.resource.subresources().contains(&sub.as_str())
        {
            return Err(Failure::missing(format_args!(
                "{}/{sub}",
                target.resource.plural
            )));
        }
        if let Some("exec" | "attach" | "portforward") = sub.as_deref() {
            self.pod(&target)?;
            return stream::open(self, parts, &target, query);
        }
        let view = View::negotiate(header(parts, "accept"), &query)?;
        let selector = Selector::parse(query.text("labelSelector"), query.text("fieldSelector"))?;
        let work = Work {
            server: self,
            target: &target,
            query: &query,
            view,
            dry: !query.text("dryRun").is_empty(),
        };
        match (&parts.method, sub.as_deref()) {
            (&Method::GET, Some("log")) => {
                self.pod(&target)?;
                Ok(logs::log(
                    target.name.as_deref().unwrap_or_default(),
                    &query,
                ))
            }
            (&Method::GET, _) if query.flag("watch") => {
                let watch = Watch {
                    target,
                    view,
                    selector,
                };
                Ok(watch.start(Arc::clone(self), &query))
            }
            (&Method::GET, _) if target.name.is_some() => work.get(),
            (&Method::GET, _) => work.list(&selector),
            _ => {
                let bytes = collect(body).await?;
                let kind = header(parts, "content-type").split(';').next();
                let content = Content {
                    kind: kind.unwrap_or_default().trim(),
                    bytes,
                };
                if parts.method == Method::DELETE {
                    return remove(work, &selector, &content);
                }
                self.write(&parts.method, &work, &content, caller)
            }
        }
    }

    fn write(
        &self,
        method: &Method,
        work: &Work<'_>,
        content: &Content<'_>,
        caller: &Caller,
    ) -> Result<Reply, Failure> {
        let target = work.target;
        match (method, target.sub.as_deref()) {
            (&Method::POST, Some("token")) => self.token(target, &content.review()?),
            (&Method::POST, None) if target.resource.review => {
                let answer =
                    review::answer(target.resource.kind, caller.effective(), content.review()?);
                Ok(json_reply(201, &answer))
            }
            (&Method::POST | &Method::PUT, _) if content.kind == protobuf::TYPE => {
                let message = "the body of the request was in an unsupported format: protobuf";
                Err(Failure::new(415, "UnsupportedMediaType", message))
            }
            (&Method::POST, None) => work.create(&content.bytes),
            (&Method::PUT, _) => work.update(&content.bytes),
            (&Method::PATCH, _) => work.patch(content.kind, &content.bytes),
            _ => Err(Failure::new(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            )),
        }
    }

    fn pod(&self, target: &Target) -> Result<(), Failure> {
        let name = target.name.as_deref().unwrap_or_default();
        let namespace = target.namespace.as_deref().unwrap_or_default();
        let found = self
            .store
            .get(&crate::store::key(target.resource, namespace, name));
        found
            .map(|_| ())
            .ok_or_else(|| Failure::missing(format_args!("pods \"{name}\"")))
    }

    fn token(&self, target: &Target, asked: &Value) -> Result<Reply, Failure> {
        let name = target.name.as_deref().unwrap_or_default();
        let namespace = target.namespace.as_deref().unwrap_or_default();
        let found = self
            .store
            .get(&crate::store::key(target.resource, namespace, name));
        found.ok_or_else(|| Failure::missing(format_args!("serviceaccounts \"{name}\"")))?;
        let token = self.tokens.issue(namespace, name)?;
        Ok(json_reply(
            201,
            &json!({
                "kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1",
                "metadata": { "name": name, "namespace": namespace }, "spec": asked.get("spec"),
                "status": { "token": token, "expirationTimestamp": "2099-01-01T00:00:00Z" },
            }),
        ))
    }
}

/// The body of a request, and its media type.
struct Content<'a> {
    kind: &'a str,
    bytes: Bytes,
}

impl Content<'_> {
    /// A review or a token request, which kubectl sends as protobuf.
    fn review(&self) -> Result<Value, Failure> {
        let object = if self.kind == protobuf::TYPE {
            let malformed = || Failure::bad("the protobuf body is malformed");
            protobuf::review(&self.bytes).ok_or_else(malformed)?
        } else {
            parse(&self.bytes)?
        };
        let found = object.is_object().then_some(object);
        found.ok_or_else(|| Failure::bad("the body is no object"))
    }
}

/// DELETE, whose options may be in its body; `dryRun` is the one that matters here.
fn remove(
    mut work: Work<'_>,
    selector: &Selector,
    content: &Content<'_>,
) -> Result<Reply, Failure> {
    if content.kind == protobuf::TYPE {
        let malformed = || Failure::bad("the protobuf body is malformed");
        work.dry |= protobuf::dry_run(&content.bytes).ok_or_else(malformed)?;
    } else if !content.bytes.is_empty() {
        let options = parse(&content.bytes)?;
        let dry = options.get("dryRun").and_then(Value::as_array);
        work.dry |= dry.is_some_and(|list| !list.is_empty());
    }
    match (&work.target.sub, &work.target.name) {
        (Some(_), _) => Err(Failure::new(
            405,
            "MethodNotAllowed",
            "a subresource cannot be deleted",
        )),
        (None, None) => work.delete_all(selector),
        (None, Some(_)) => work.delete(),
    }
}

/// The paths that are no objects.
fn fixed(parts: &Parts, path: &str) -> Option<Reply> {
    let aggregated = header(parts, "accept")
        .split(',')
        .any(|one| one.contains("g=apidiscovery.k8s.io") && one.contains("v=v2;"));
    let value = match path {
        "/version" | "/version/" => discovery::version(),
        "/api" | "/apis" if aggregated => {
            let body = discovery::aggregated(path == "/api").to_string();
            return Some(typed(200, discovery::AGGREGATED, body));
        }
        "/api" => discovery::core(),
        "/apis" => discovery::group_list(),
        "/api/v1" => discovery::resources("")?,
        "/openapi/v3" => openapi::index(),
        "/healthz" | "/readyz" | "/livez" => return Some(typed(200, "text/plain", "ok")),
        "/metrics" => {
            let text = "# TYPE apiserver_up gauge\napiserver_up 1\n";
            return Some(typed(200, "text/plain; version=0.0.4", text));
        }
        _ => {
            if let Some(place) = path.strip_prefix("/openapi/v3/") {
                openapi::document(place)?
            } else {
                let rest = path.strip_prefix("/apis/")?;
                match rest.split_once('/') {
                    Some((group, "v1")) => discovery::resources(group)?,
                    None if crate::resource::groups().contains(&rest) => discovery::group(rest),
                    _ => return None,
                }
            }
        }
    };
    Some(json_reply(200, &value))
}

async fn collect(body: Incoming) -> Result<Bytes, Failure> {
    let limited = Limited::new(body, MAX_BODY).collect().await;
    limited
        .map(http_body_util::Collected::to_bytes)
        .map_err(|_| {
            Failure::new(
                413,
                "RequestEntityTooLarge",
                "the body is too large or broken",
            )
        })
}

/// A header's text, empty where there is none.
pub(crate) fn header<'a>(parts: &'a Parts, name: &str) -> &'a str {
    let value = parts.headers.get(name);
    value.and_then(|v| v.to_str().ok()).unwrap_or_default()
}
