//! What the server offers: versions, groups and resources, plain and aggregated.

use serde_json::{Value, json};

use crate::resource::{ALL, Resource, groups};

/// The content type of aggregated discovery.
pub(crate) const AGGREGATED: &str =
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

pub(crate) fn version() -> Value {
    json!({
        "major": "1", "minor": "32", "gitVersion": "v1.32.4", "gitCommit": "weir-test",
        "gitTreeState": "clean", "buildDate": "2025-04-22T16:00:00Z", "goVersion": "none",
        "compiler": "rustc", "platform": "linux/amd64",
    })
}

pub(crate) fn core() -> Value {
    json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] })
}

pub(crate) fn group_list() -> Value {
    let all: Vec<Value> = groups().into_iter().map(group).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": all })
}

/// The `APIGroup` of a name.
pub(crate) fn group(name: &str) -> Value {
    let version = json!({ "groupVersion": format!("{name}/v1"), "version": "v1" });
    json!({
        "kind": "APIGroup", "apiVersion": "v1",
        "name": name, "versions": [version], "preferredVersion": version,
    })
}

/// The `APIResourceList` of a group.
pub(crate) fn resources(group: &str) -> Option<Value> {
    let mut list = Vec::new();
    let mut shown = "v1".to_owned();
    for resource in ALL.iter().filter(|r| r.group == group) {
        shown = resource.api_version();
        list.push(json!({
            "name": resource.plural, "singularName": resource.singular(),
            "namespaced": resource.namespaced, "kind": resource.kind,
            "verbs": verbs(resource), "shortNames": short(resource),
            "categories": categories(resource),
        }));
        for sub in resource.subresources() {
            list.push(json!({
                "name": format!("{}/{sub}", resource.plural), "singularName": "",
                "namespaced": resource.namespaced, "kind": resource.kind, "verbs": sub_verbs(sub),
            }));
        }
    }
    (!list.is_empty()).then(|| {
        json!({
            "kind": "APIResourceList", "apiVersion": "v1",
            "groupVersion": shown, "resources": list,
        })
    })
}

/// Aggregated discovery of the core group, or of all others.
pub(crate) fn aggregated(core: bool) -> Value {
    let names = if core { vec![""] } else { groups() };
    let items: Vec<Value> = names.into_iter().map(aggregated_group).collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {}, "items": items,
    })
}

fn aggregated_group(name: &str) -> Value {
    let one = |r: &Resource| {
        let kind = json!({ "group": "", "version": "", "kind": r.kind });
        let subs: Vec<Value> = r
            .subresources()
            .iter()
            .map(|s| json!({ "subresource": s, "responseKind": kind, "verbs": sub_verbs(s) }))
            .collect();
        json!({
            "resource": r.plural, "responseKind": kind, "singularResource": r.singular(),
            "scope": if r.namespaced { "Namespaced" } else { "Cluster" },
            "verbs": verbs(r), "shortNames": short(r), "categories": categories(r),
            "subresources": subs,
        })
    };
    let list: Vec<Value> = ALL.iter().filter(|r| r.group == name).map(one).collect();
    json!({
        "metadata": { "name": name, "creationTimestamp": null },
        "versions": [{ "version": "v1", "resources": list, "freshness": "Current" }],
    })
}

fn verbs(resource: &Resource) -> &'static [&'static str] {
    if resource.review {
        return &["create"];
    }
    &[
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ]
}

fn sub_verbs(sub: &str) -> &'static [&'static str] {
    match sub {
        "log" => &["get"],
        "token" => &["create"],
        "exec" | "attach" | "portforward" => &["create", "get"],
        _ => &["get", "patch", "update"],
    }
}

fn short(resource: &Resource) -> Vec<&'static str> {
    resource.short.split_whitespace().collect()
}

fn categories(resource: &Resource) -> Vec<&'static str> {
    let all = matches!(
        resource.plural,
        "pods"
            | "services"
            | "deployments"
            | "replicasets"
            | "statefulsets"
            | "daemonsets"
            | "jobs"
    );
    if all { vec!["all"] } else { Vec::new() }
}
