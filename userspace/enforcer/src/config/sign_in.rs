//! `workloads[].identity`: how a workload signs in.

use std::path::PathBuf;

use super::checked::{Checker, Identity};
use super::read::{Problem, Section};

/// As written.
#[derive(Default)]
pub(super) struct RawSignIn {
    kind: String,
    tenant: String,
    client_id: Option<String>,
    token_file: Option<String>,
    token_in_container: Option<String>,
    kubelet_token: Option<bool>,
    request: Option<RawRequest>,
    /// `namespace/name`.
    service_account: Option<String>,
    pod_uid: Option<String>,
    certificate_file: Option<String>,
    algorithm: Option<String>,
    secret_file: Option<String>,
    blueprint: Option<String>,
}

struct RawRequest {
    server: String,
    ca_file: Option<String>,
    credential_file: String,
    pod_name: Option<String>,
}

impl RawSignIn {
    pub(super) fn read(mut section: Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let raw = Self {
            kind: section.text("kind", problems),
            tenant: section.text("tenant", problems),
            client_id: section.opt_text("client_id", problems),
            token_file: section.opt_text("token_file", problems),
            token_in_container: section.opt_text("token_in_container", problems),
            kubelet_token: section.opt_flag("kubelet_token", problems),
            request: section
                .opt_section("token_request", problems)
                .map(|mut request| {
                    let raw = RawRequest {
                        server: request.text("server", problems),
                        ca_file: request.opt_text("ca_file", problems),
                        credential_file: request.text("credential_file", problems),
                        pod_name: request.opt_text("pod_name", problems),
                    };
                    request.finish(problems);
                    raw
                }),
            service_account: section.opt_text("service_account", problems),
            pod_uid: section.opt_text("pod_uid", problems),
            certificate_file: section.opt_text("certificate_file", problems),
            algorithm: section.opt_text("algorithm", problems),
            secret_file: section.opt_text("secret_file", problems),
            blueprint: section.opt_text("blueprint", problems),
        };
        section.finish(problems);
        raw
    }
}

/// A workload's way to its principal.
#[derive(Clone, Debug)]
pub(crate) struct SignIn {
    pub(crate) tenant: String,
    /// `None`: each pod's service account names it.
    pub(crate) client_id: Option<String>,
    pub(crate) how: How,
    /// Whose service-account token is taken, and no other's.
    pub(crate) service_account: Option<ServiceAccount>,
}

#[derive(Clone, Debug)]
pub(crate) enum How {
    Federated(TokenSource),
    Certificate {
        file: PathBuf,
        rs256: bool,
    },
    Secret {
        file: PathBuf,
    },
    Managed,
    AgentId {
        blueprint: String,
        token: TokenSource,
    },
    Person,
}

/// Where the workload's own service-account token comes from.
#[derive(Clone, Debug)]
pub(crate) enum TokenSource {
    /// A file that only root (the kubelet, the lab) can write.
    File(PathBuf),
    /// A path inside the workload's own root; whatever is there is checked.
    InContainer(PathBuf),
    /// The API server, asked with a credential of the node or the DaemonSet.
    Request(Request),
    /// The kubelet's copy of the pod's projected token.
    Kubelet,
}

/// Whose members sign in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Signing {
    /// The workload as a whole.
    Workload,
    /// Each of its pods, as what the API server says of it.
    Pods,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) server: String,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) credential_file: PathBuf,
    pub(crate) pod_name: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct ServiceAccount {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) pod_uid: Option<String>,
}

/// `identity.graph`: where groups are asked for that a token leaves out.
#[derive(Clone, Debug)]
pub(crate) struct Graph {
    pub(crate) origin: String,
    pub(crate) tenant: String,
    pub(crate) client_id: String,
    pub(crate) how: How,
    pub(crate) token_lists_part: bool,
}

/// As written.
pub(super) struct RawGraph {
    origin: Option<String>,
    token_lists_part: Option<bool>,
    reader: RawSignIn,
}

impl RawGraph {
    pub(super) fn read(mut section: Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let origin = section.opt_text("origin", problems);
        let token_lists_part = section.opt_flag("token_lists_part", problems);
        let reader = RawSignIn::read(section.section("reader", problems), problems);
        section.finish(problems);
        Self {
            origin,
            token_lists_part,
            reader,
        }
    }
}

/// Graph's hosts by cloud; those outside `public` await confirmation by a live tenant.
const GRAPHS: [(&str, &str); 3] = [
    ("public", "https://graph.microsoft.com"),
    ("usgov", "https://graph.microsoft.us"),
    ("china", "https://microsoftgraph.chinacloudapi.cn"),
];

pub(super) fn check_graph(
    raw: &RawGraph,
    identity: &Identity,
    checker: &mut Checker<'_>,
) -> Option<Graph> {
    let known = GRAPHS
        .iter()
        .find(|(cloud, _)| *cloud == identity.authority)
        .map(|(_, origin)| (*origin).to_owned());
    let Some(origin) = raw.origin.clone().or(known) else {
        checker.say("identity.graph.origin", "is required with this authority");
        return None;
    };
    let at = "identity.graph.reader";
    let sign_in = check_sign_in(&raw.reader, (at, Signing::Workload), identity, checker);
    match sign_in.how {
        How::Certificate { .. } | How::Secret { .. } | How::Managed => Some(Graph {
            origin,
            tenant: sign_in.tenant,
            client_id: sign_in.client_id.unwrap_or_default(),
            how: sign_in.how,
            token_lists_part: raw.token_lists_part.unwrap_or(false),
        }),
        How::Federated(_) | How::AgentId { .. } | How::Person => {
            let message = "must be certificate, secret or managed";
            checker.say("identity.graph.reader.kind", message);
            None
        }
    }
}

/// `identity.cluster`: by what service-account tokens are verified on the node.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) issuer: String,
    pub(crate) keys_file: PathBuf,
    /// This node's name in the cluster; tokens bound to another are refused.
    pub(crate) node: Option<String>,
}

impl SignIn {
    /// What the broker has to hand over.
    pub(crate) const fn token(&self) -> Option<&TokenSource> {
        match &self.how {
            How::Federated(token) | How::AgentId { token, .. } => Some(token),
            How::Certificate { .. } | How::Secret { .. } | How::Managed | How::Person => None,
        }
    }

    /// Whether pods sign in each for itself: their tokens differ, and one of a file is root's own
    /// choice.
    pub(crate) const fn is_of_pods(&self) -> bool {
        match self.token() {
            Some(TokenSource::InContainer(_) | TokenSource::Request(_) | TokenSource::Kubelet) => {
                true
            }
            Some(TokenSource::File(_)) | None => false,
        }
    }
}

const KINDS: [&str; 6] = [
    "federated",
    "certificate",
    "secret",
    "managed",
    "agent_id",
    "person",
];

/// Rules of one section; `path` is its own.
pub(super) fn check_sign_in(
    raw: &RawSignIn,
    (path, signing): (&str, Signing),
    identity: &Identity,
    checker: &mut Checker<'_>,
) -> SignIn {
    let at = |field: &str| format!("{path}.{field}");
    if !identity.tenants.contains(&raw.tenant) {
        checker.say(at("tenant"), "is not one of identity.tenants");
    }
    belongs(raw, &at, checker);
    let service_account = check_account(raw, &at, checker);
    let how = match raw.kind.as_str() {
        "federated" => How::Federated(check_source(raw, (path, signing), identity, checker)),
        "agent_id" => {
            let blueprint = raw.blueprint.clone().unwrap_or_default();
            checker.guid(&at("blueprint"), &blueprint);
            How::AgentId {
                blueprint,
                token: check_source(raw, (path, signing), identity, checker),
            }
        }
        "certificate" => How::Certificate {
            file: needed(
                raw.certificate_file.as_deref(),
                &at("certificate_file"),
                checker,
            ),
            rs256: match raw.algorithm.as_deref() {
                None | Some("PS256") => false,
                Some("RS256") => true,
                Some(_) => {
                    checker.say(at("algorithm"), "must be PS256 or RS256");
                    false
                }
            },
        },
        "secret" => How::Secret {
            file: needed(raw.secret_file.as_deref(), &at("secret_file"), checker),
        },
        "managed" => How::Managed,
        "person" => {
            if identity.reviewer_client_id.is_none() {
                let message = "people sign in to identity.reviewer_client_id: configure it";
                checker.say(at("kind"), message);
            }
            How::Person
        }
        _ => {
            checker.say(at("kind"), format!("must be one of {}", KINDS.join(", ")));
            How::Managed
        }
    };
    let sign_in = SignIn {
        tenant: raw.tenant.clone(),
        client_id: None,
        how,
        service_account,
    };
    let of_pods = signing == Signing::Pods && sign_in.is_of_pods();
    if of_pods {
        as_the_pod_says(raw, &at, checker);
    }
    SignIn {
        client_id: check_client(
            raw,
            (&at("client_id"), of_pods),
            &sign_in.how,
            identity,
            checker,
        ),
        ..sign_in
    }
}

fn check_client(
    raw: &RawSignIn,
    (path, of_pods): (&str, bool),
    how: &How,
    identity: &Identity,
    checker: &mut Checker<'_>,
) -> Option<String> {
    match (how, &raw.client_id) {
        (How::Person, None) => identity.reviewer_client_id.clone(),
        (How::Person, Some(client_id)) => {
            checker.say(path, "people sign in to identity.reviewer_client_id");
            Some(client_id.clone())
        }
        (_, None) if of_pods => None,
        (_, client_id) => {
            let client_id = client_id.clone().unwrap_or_default();
            checker.guid(path, &client_id);
            Some(client_id)
        }
    }
}

/// What the API server knows of a pod is nobody's to configure.
fn as_the_pod_says(raw: &RawSignIn, at: &impl Fn(&str) -> String, checker: &mut Checker<'_>) {
    let request = raw.request.as_ref();
    for (field, given) in [
        ("service_account", raw.service_account.is_some()),
        ("pod_uid", raw.pod_uid.is_some()),
        (
            "token_request.pod_name",
            request.is_some_and(|request| request.pod_name.is_some()),
        ),
    ] {
        if given {
            checker.say(at(field), "is each pod's own here: leave it out");
        }
    }
}

/// A field of another kind is a misunderstanding, never ignored.
fn belongs(raw: &RawSignIn, at: &impl Fn(&str) -> String, checker: &mut Checker<'_>) {
    if !KINDS.contains(&raw.kind.as_str()) {
        return;
    }
    let token = ["federated", "agent_id"];
    for (field, given, kinds) in [
        ("token_file", raw.token_file.is_some(), &token[..]),
        (
            "token_in_container",
            raw.token_in_container.is_some(),
            &token,
        ),
        ("token_request", raw.request.is_some(), &token),
        ("kubelet_token", raw.kubelet_token.is_some(), &token),
        ("service_account", raw.service_account.is_some(), &token),
        ("pod_uid", raw.pod_uid.is_some(), &token),
        (
            "certificate_file",
            raw.certificate_file.is_some(),
            &["certificate"],
        ),
        ("algorithm", raw.algorithm.is_some(), &["certificate"]),
        ("secret_file", raw.secret_file.is_some(), &["secret"]),
        ("blueprint", raw.blueprint.is_some(), &["agent_id"]),
    ] {
        if given && !kinds.contains(&raw.kind.as_str()) {
            checker.say(at(field), format!("is for kind {}", kinds.join(" or ")));
        }
    }
}

fn needed(file: Option<&str>, path: &str, checker: &mut Checker<'_>) -> PathBuf {
    if file.is_none() {
        checker.say(path, "is required");
    }
    checker.file(file.unwrap_or_default())
}

fn check_account(
    raw: &RawSignIn,
    at: &impl Fn(&str) -> String,
    checker: &mut Checker<'_>,
) -> Option<ServiceAccount> {
    let Some(text) = &raw.service_account else {
        if raw.pod_uid.is_some() {
            checker.say(at("pod_uid"), "belongs to a service_account");
        }
        return None;
    };
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Some(ServiceAccount {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                pod_uid: raw.pod_uid.clone(),
            })
        }
        Some(_) | None => {
            checker.say(at("service_account"), "must be namespace/name");
            None
        }
    }
}

fn check_source(
    raw: &RawSignIn,
    (path, signing): (&str, Signing),
    identity: &Identity,
    checker: &mut Checker<'_>,
) -> TokenSource {
    let at = |field: &str| format!("{path}.{field}");
    let accounted = signing == Signing::Pods || raw.service_account.is_some();
    let kubelet = raw.kubelet_token.unwrap_or(false);
    match (
        &raw.token_file,
        &raw.token_in_container,
        &raw.request,
        kubelet,
    ) {
        (Some(file), None, None, false) => TokenSource::File(checker.file(file)),
        (None, Some(inside), None, false) => {
            if identity.cluster.is_none() || !accounted {
                let message = "needs identity.cluster and service_account: the workload chooses \
                               what is there";
                checker.say(at("token_in_container"), message);
            }
            if !inside.starts_with('/') {
                checker.say(at("token_in_container"), "must be an absolute path");
            }
            TokenSource::InContainer(PathBuf::from(inside))
        }
        (None, None, Some(request), false) => {
            if !accounted {
                checker.say(at("token_request"), "needs service_account");
            }
            TokenSource::Request(Request {
                server: request.server.clone(),
                ca_file: request.ca_file.as_deref().map(|file| checker.file(file)),
                credential_file: checker.file(&request.credential_file),
                pod_name: request.pod_name.clone(),
            })
        }
        (None, None, None, true) => {
            if signing == Signing::Workload {
                checker.say(at("kubelet_token"), "is for workloads of pods");
            }
            TokenSource::Kubelet
        }
        (_, _, _, _) => {
            let message = "needs exactly one of token_file, token_request, token_in_container and \
                           kubelet_token";
            checker.say(at("token_file"), message);
            TokenSource::File(PathBuf::new())
        }
    }
}
