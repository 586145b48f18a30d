//! The kinds that are served, and what a path asks for.

use crate::auth::percent;

/// One kind of object. `group` is empty for the core group.
pub(crate) struct Resource {
    pub(crate) group: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) namespaced: bool,
    pub(crate) short: &'static str,
    /// Made by POST and never kept.
    pub(crate) review: bool,
}

impl Resource {
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            "v1".to_owned()
        } else {
            format!("{}/v1", self.group)
        }
    }

    pub(crate) fn singular(&self) -> String {
        self.kind.to_lowercase()
    }

    /// As in messages: `deployments.apps`.
    pub(crate) fn full(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }

    pub(crate) fn subresources(&self) -> &'static [&'static str] {
        match (self.group, self.plural) {
            ("", "pods") => &["log", "exec", "attach", "portforward", "status"],
            ("", "serviceaccounts") => &["token"],
            ("", "namespaces" | "nodes" | "services") => &["status"],
            ("apps", _) => &["status", "scale"],
            _ => &[],
        }
    }
}

const fn kept(
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
    short: &'static str,
) -> Resource {
    Resource {
        group,
        plural,
        kind,
        namespaced,
        short,
        review: false,
    }
}

const fn review(
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
) -> Resource {
    Resource {
        group,
        plural,
        kind,
        namespaced,
        short: "",
        review: true,
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const AUTHZ: &str = "authorization.k8s.io";
const AUTHN: &str = "authentication.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";
const NET: &str = "networking.k8s.io";

/// Everything that is served, all in version v1.
pub(crate) const ALL: &[Resource] = &[
    kept("", "configmaps", "ConfigMap", true, "cm"),
    kept("", "endpoints", "Endpoints", true, "ep"),
    kept("", "events", "Event", true, "ev"),
    kept("", "limitranges", "LimitRange", true, "limits"),
    kept("", "namespaces", "Namespace", false, "ns"),
    kept("", "nodes", "Node", false, "no"),
    kept(
        "",
        "persistentvolumeclaims",
        "PersistentVolumeClaim",
        true,
        "pvc",
    ),
    kept("", "persistentvolumes", "PersistentVolume", false, "pv"),
    kept("", "pods", "Pod", true, "po"),
    kept(
        "",
        "replicationcontrollers",
        "ReplicationController",
        true,
        "rc",
    ),
    kept("", "resourcequotas", "ResourceQuota", true, "quota"),
    kept("", "secrets", "Secret", true, ""),
    kept("", "serviceaccounts", "ServiceAccount", true, "sa"),
    kept("", "services", "Service", true, "svc"),
    kept("apps", "daemonsets", "DaemonSet", true, "ds"),
    kept("apps", "deployments", "Deployment", true, "deploy"),
    kept("apps", "replicasets", "ReplicaSet", true, "rs"),
    kept("apps", "statefulsets", "StatefulSet", true, "sts"),
    kept("batch", "cronjobs", "CronJob", true, "cj"),
    kept("batch", "jobs", "Job", true, ""),
    kept(RBAC, "clusterrolebindings", "ClusterRoleBinding", false, ""),
    kept(RBAC, "clusterroles", "ClusterRole", false, ""),
    kept(RBAC, "rolebindings", "RoleBinding", true, ""),
    kept(RBAC, "roles", "Role", true, ""),
    kept(NET, "ingresses", "Ingress", true, "ing"),
    kept(NET, "networkpolicies", "NetworkPolicy", true, "netpol"),
    kept("coordination.k8s.io", "leases", "Lease", true, ""),
    kept(
        "discovery.k8s.io",
        "endpointslices",
        "EndpointSlice",
        true,
        "",
    ),
    kept(
        ADMISSION,
        "mutatingwebhookconfigurations",
        "MutatingWebhookConfiguration",
        false,
        "",
    ),
    kept(
        ADMISSION,
        "validatingwebhookconfigurations",
        "ValidatingWebhookConfiguration",
        false,
        "",
    ),
    review(
        AUTHZ,
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        false,
    ),
    review(
        AUTHZ,
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
        false,
    ),
    review(AUTHZ, "subjectaccessreviews", "SubjectAccessReview", false),
    review(AUTHN, "selfsubjectreviews", "SelfSubjectReview", false),
    review(AUTHN, "tokenreviews", "TokenReview", false),
];

/// The named groups, in the order in which they first appear.
pub(crate) fn groups() -> Vec<&'static str> {
    let mut groups = Vec::new();
    for resource in ALL {
        if !resource.group.is_empty() && !groups.contains(&resource.group) {
            groups.push(resource.group);
        }
    }
    groups
}

/// What a path under /api or /apis names.
pub(crate) struct Target {
    pub(crate) resource: &'static Resource,
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) sub: Option<String>,
}

/// `None` where nothing is served.
pub(crate) fn target(path: &str) -> Option<Target> {
    let parts: Vec<String> = path.strip_prefix('/')?.split('/').map(percent).collect();
    let (group, rest) = match parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["api", "v1", ..] => ("", parts.get(2..)?),
        ["apis", _, "v1", ..] => (parts.get(1)?.as_str(), parts.get(3..)?),
        _ => return None,
    };
    let find = |plural: &str| {
        let same = |r: &&Resource| r.group == group && r.plural == plural;
        ALL.iter().find(same)
    };
    let (namespace, rest) = match rest {
        [word, _, third, ..] if word == "namespaces" && third != "status" => {
            (rest.get(1).cloned(), rest.get(2..)?)
        }
        _ => (None, rest),
    };
    let (plural, name, sub) = match rest {
        [plural] => (plural, None, None),
        [plural, name] => (plural, Some(name.clone()), None),
        [plural, name, sub] => (plural, Some(name.clone()), Some(sub.clone())),
        _ => return None,
    };
    let resource = find(plural)?;
    if name.as_ref().is_some_and(String::is_empty) || (namespace.is_some() && !resource.namespaced)
    {
        return None;
    }
    Some(Target {
        resource,
        namespace,
        name,
        sub,
    })
}
