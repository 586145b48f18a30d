//! From a request to what policy is asked.

use std::sync::Arc;

use http::Method;
use weir_mask::MaskKey;
use weir_model::request::{Access, AttrValue, Intent, Object, Recorded, Request};

use crate::body;
use crate::info::{Info, Resource, Verb, read};
use crate::path::{Query, Unclear};
use crate::remote::{self, Remote};
use crate::vocabulary::{ALL_NAMESPACES, CLUSTER};

/// What has to be kept until the reply is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub info: Info,
    /// The query, written anew; empty without.
    pub query: String,
    /// Secrets stand in the reply.
    pub secrets: bool,
    /// ConfigMaps stand in the reply.
    pub configs: bool,
    /// Streams are opened.
    pub remote: Option<Remote>,
}

impl Plan {
    /// The reply is a stream of documents.
    #[must_use]
    pub fn watches(&self) -> bool {
        matches!(&self.info, Info::Resource(resource) if resource.verb == Verb::Watch)
    }

    /// The reply is a container's output.
    #[must_use]
    pub fn reads_logs(&self) -> bool {
        matches!(&self.info, Info::Resource(resource) if is(resource, "", "pods", "log"))
    }

    /// Path and query towards the server.
    #[must_use]
    pub fn uri(&self) -> String {
        let path = match &self.info {
            Info::Path { path } => path,
            Info::Resource(resource) => &resource.path,
        };
        if self.query.is_empty() {
            path.clone()
        } else {
            format!("{path}?{}", self.query)
        }
    }
}

/// A decoded request.
#[derive(Clone, Debug)]
pub struct Question {
    pub request: Request,
    pub plan: Plan,
}

/// Resource types outside of namespaces that come with Kubernetes. Anything else that names no
/// namespace is taken to be over all of them, which is the wider claim.
const OF_CLUSTER: [&str; 26] = [
    "apiservices.apiregistration.k8s.io",
    "certificatesigningrequests.certificates.k8s.io",
    "clusterrolebindings.rbac.authorization.k8s.io",
    "clusterroles.rbac.authorization.k8s.io",
    "componentstatuses",
    "csidrivers.storage.k8s.io",
    "csinodes.storage.k8s.io",
    "customresourcedefinitions.apiextensions.k8s.io",
    "flowschemas.flowcontrol.apiserver.k8s.io",
    "ingressclasses.networking.k8s.io",
    "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    "namespaces",
    "nodes",
    "persistentvolumes",
    "priorityclasses.scheduling.k8s.io",
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
    "runtimeclasses.node.k8s.io",
    "selfsubjectaccessreviews.authorization.k8s.io",
    "selfsubjectreviews.authentication.k8s.io",
    "selfsubjectrulesreviews.authorization.k8s.io",
    "storageclasses.storage.k8s.io",
    "subjectaccessreviews.authorization.k8s.io",
    "tokenreviews.authentication.k8s.io",
    "validatingadmissionpolicies.admissionregistration.k8s.io",
    "validatingadmissionpolicybindings.admissionregistration.k8s.io",
    "validatingwebhookconfigurations.admissionregistration.k8s.io",
];

/// Decodes a request to `target`. `body` is whole.
///
/// # Errors
/// [`Unclear`]: the request is refused.
pub fn question(
    target: &Arc<str>,
    method: &Method,
    uri: (&str, &str),
    body: (&[u8], Option<&str>),
    key: &MaskKey,
) -> Result<Question, Unclear> {
    let query = Query::parse(uri.1)?;
    let info = read(method, uri.0, &query)?;
    let written = query.encode();
    let (accesses, context, plan) = match &info {
        Info::Path { path } => {
            let object = Object {
                kind: "Path",
                path: [Arc::clone(target), Arc::from(path.as_str())].into(),
            };
            let access = Access {
                action: "readPath",
                object,
            };
            (vec![access], Vec::new(), plan(info.clone(), written))
        }
        Info::Resource(resource) => {
            let mut context = context(resource, &query)?;
            let mut plan = plan(info.clone(), written);
            plan.remote = remote::read(target, resource, &query)?;
            let accesses = match &plan.remote {
                Some(remote) => {
                    context.extend(remote.context());
                    remote.accesses()
                }
                None => accesses(target, resource),
            };
            (accesses, context, plan)
        }
    };
    let intent = Intent::new(accesses, context);
    let recorded = Recorded::of(&intent);
    let parameters = body::recorded(body.0, body.1, plan.secrets, key)?;
    let statement = statement(method, &plan);
    Ok(Question {
        request: Request {
            intent: Arc::new(intent),
            recorded,
            statement,
            parameters,
            shape: 0,
            decode_us: 0,
            bytes_in: body.0.len() as u64,
        },
        plan,
    })
}

fn plan(info: Info, query: String) -> Plan {
    let of = |name: &str| match &info {
        Info::Path { .. } => false,
        Info::Resource(resource) => resource.group.is_empty() && resource.resource == name,
    };
    Plan {
        secrets: of("secrets"),
        configs: of("configmaps"),
        query,
        info,
        remote: None,
    }
}

fn is(resource: &Resource, group: &str, name: &str, sub: &str) -> bool {
    resource.group == group && resource.resource == name && resource.subresource == sub
}

/// `deployments.apps`, `pods:log`.
fn type_name(resource: &Resource) -> String {
    let mut name = resource.resource.clone();
    if !resource.group.is_empty() {
        name.push('.');
        name.push_str(&resource.group);
    }
    name
}

fn place(resource: &Resource, kind: &str) -> &'static str {
    let over_many = matches!(
        resource.verb,
        Verb::List | Verb::Watch | Verb::DeleteCollection
    );
    if over_many && OF_CLUSTER.binary_search(&kind).is_err() {
        ALL_NAMESPACES
    } else {
        CLUSTER
    }
}

fn accesses(target: &Arc<str>, resource: &Resource) -> Vec<Access> {
    let mut kind = type_name(resource);
    let namespace = if resource.namespace.is_empty() {
        place(resource, &kind)
    } else {
        &resource.namespace
    };
    if !resource.subresource.is_empty() {
        kind.push(':');
        kind.push_str(&resource.subresource);
    }
    let mut path: Vec<Arc<str>> = vec![
        Arc::clone(target),
        Arc::from(namespace),
        Arc::from(kind.as_str()),
    ];
    let object = if resource.name.is_empty() {
        Object {
            kind: "Resource",
            path: path.into(),
        }
    } else {
        path.push(Arc::from(resource.name.as_str()));
        Object {
            kind: "Object",
            path: path.into(),
        }
    };
    let mut actions = vec![resource.verb.name()];
    actions.extend(effects(resource));
    actions
        .into_iter()
        .map(|action| Access {
            action,
            object: object.clone(),
        })
        .collect()
}

/// What a request does besides its verb.
fn effects(resource: &Resource) -> Vec<&'static str> {
    let mut effects = Vec::new();
    let writes = !matches!(resource.verb, Verb::Get | Verb::List | Verb::Watch);
    let core = resource.group.is_empty();
    match resource.resource.as_str() {
        // Also a write's reply holds the object.
        "secrets" if core => effects.push("readSecret"),
        "configmaps" if core => effects.push("readConfig"),
        _ => {}
    }
    match (resource.resource.as_str(), resource.subresource.as_str()) {
        ("pods", "log") if core => effects.push("readLogs"),
        ("pods", "eviction") if core => effects.push("evict"),
        ("pods", "ephemeralcontainers") if core && writes => effects.push("addEphemeralContainer"),
        ("serviceaccounts", "token") if core => effects.push("mintToken"),
        ("certificatesigningrequests", "approval" | "status") if writes => {
            effects.push("approveCertificate");
        }
        (_, "scale") if writes => effects.push("scale"),
        _ => {}
    }
    match resource.group.as_str() {
        "rbac.authorization.k8s.io" if writes => effects.push("writeRbac"),
        "admissionregistration.k8s.io" | "apiregistration.k8s.io" if writes => {
            effects.push("writeWebhook");
        }
        _ => {}
    }
    effects
}

fn context(resource: &Resource, query: &Query) -> Result<Vec<(&'static str, AttrValue)>, Unclear> {
    let text = |value: &str| AttrValue::String(Arc::from(value));
    let mut context = vec![
        ("verb", text(resource.verb.name())),
        ("group", text(&resource.group)),
        ("version", text(&resource.version)),
        ("resource", text(&resource.resource)),
        ("subresource", text(&resource.subresource)),
        ("namespace", text(&resource.namespace)),
        ("name", text(&resource.name)),
        ("dryRun", AttrValue::Bool(dry_run(query)?)),
        (
            "allNamespaces",
            AttrValue::Bool(
                resource.namespace.is_empty()
                    && place(resource, &type_name(resource)) == ALL_NAMESPACES,
            ),
        ),
    ];
    for name in ["labelSelector", "fieldSelector"] {
        if let Some(value) = query.one(name)? {
            context.push((name, text(value)));
        }
    }
    Ok(context)
}

/// `All` is the only stage there is; another one would be run for real by a server that does not
/// know it.
fn dry_run(query: &Query) -> Result<bool, Unclear> {
    match query.all("dryRun") {
        [] => Ok(false),
        [stage] if stage == "All" => Ok(true),
        _ => Err(Unclear("dryRun is All or not there")),
    }
}

/// `get secrets/db -n shop (GET /api/v1/namespaces/shop/secrets/db)`
fn statement(method: &Method, plan: &Plan) -> Arc<str> {
    let uri = plan.uri();
    let text = match &plan.info {
        Info::Path { .. } => format!("{method} {uri}"),
        Info::Resource(resource) => match &plan.remote {
            // The query holds the command once more, in a form that hides secrets from patterns.
            Some(remote) => format!("{} ({method} {})", remote.said(), resource.path),
            None => format!("{} ({method} {uri})", said(resource)),
        },
    };
    Arc::from(text)
}

fn said(resource: &Resource) -> String {
    let mut text = format!("{} {}", resource.verb.name(), type_name(resource));
    for (mark, part) in [("/", &resource.name), (":", &resource.subresource)] {
        if !part.is_empty() {
            text.push_str(mark);
            text.push_str(part);
        }
    }
    if !resource.namespace.is_empty() {
        text.push_str(" -n ");
        text.push_str(&resource.namespace);
    }
    text
}
