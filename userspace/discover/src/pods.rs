//! Pods of this node.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::selection::{Selects, has_labels, read_labels};

/// Projected tokens of one pod that are looked at.
const TOKENS_MAX: usize = 16;
/// Set by the kubelet on the API's picture of a static pod; its value names the pod's cgroup.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What Weir needs to know of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub uid: String,
    /// By which the kubelet names its cgroup: the uid, or of a static pod the hash of its file.
    pub cgroup_uid: String,
    pub namespace: String,
    pub name: String,
    pub service_account: String,
    pub labels: BTreeMap<String, String>,
    /// Without the runtime's prefix.
    pub containers: Vec<String>,
    /// Service-account tokens that the kubelet writes into its volumes.
    pub tokens: Vec<ProjectedToken>,
}

/// One service-account token in a projected volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProjectedToken {
    pub audience: String,
    pub volume: String,
    /// Below the volume.
    pub path: String,
}

/// What makes a pod a workload's: all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSelector {
    pub namespace: String,
    pub labels: BTreeMap<String, String>,
    pub service_account: Option<String>,
}

impl Selects<Pod> for PodSelector {
    fn fits(&self, pod: &Pod) -> bool {
        let account = self.service_account.as_ref();
        pod.namespace == self.namespace
            && account.is_none_or(|account| *account == pod.service_account)
            && has_labels(&pod.labels, &self.labels)
    }
}

impl Pod {
    /// `None` when the object lacks what every pod has, or its labels are too many: such a pod is
    /// not known, so its protected connects stay refused. A pod that has ended has no cgroup.
    #[must_use]
    pub fn read(object: &Value) -> Option<Self> {
        let metadata = object.get("metadata")?;
        let spec = object.get("spec")?;
        let uid = text(metadata, "uid")?;
        let labels = read_labels(metadata.get("labels"))?;
        let mut containers = Vec::new();
        for list in [
            "initContainerStatuses",
            "containerStatuses",
            "ephemeralContainerStatuses",
        ] {
            let statuses = object
                .pointer("/status")
                .and_then(|status| status.get(list));
            for status in statuses.and_then(Value::as_array).into_iter().flatten() {
                // `containerd://ID`; empty until it was made.
                let id = text(status, "containerID").unwrap_or_default();
                if let Some((_, id)) = id.split_once("://") {
                    containers.push(id.to_owned());
                }
            }
        }
        Some(Self {
            cgroup_uid: mirrored(metadata).unwrap_or_else(|| uid.clone()),
            uid,
            namespace: text(metadata, "namespace")?,
            name: text(metadata, "name")?,
            service_account: text(spec, "serviceAccountName").unwrap_or_default(),
            labels,
            containers,
            tokens: projected(spec),
        })
    }

    /// Its processes are gone, or will never come.
    #[must_use]
    pub fn has_ended(object: &Value) -> bool {
        let phase = object.pointer("/status/phase").and_then(Value::as_str);
        matches!(phase, Some("Succeeded" | "Failed"))
    }
}

/// Source: core/v1 `ProjectedVolumeSource`. One without an audience is for the API server.
fn projected(spec: &Value) -> Vec<ProjectedToken> {
    let list = |value: Option<&Value>| {
        let list = value.and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let mut tokens = Vec::new();
    for volume in list(spec.get("volumes")) {
        let Some(name) = text(&volume, "name") else {
            continue;
        };
        for source in list(volume.pointer("/projected/sources")) {
            let token = source.get("serviceAccountToken");
            let parts = token.and_then(|one| Some((text(one, "audience")?, text(one, "path")?)));
            if let Some((audience, path)) = parts
                && tokens.len() < TOKENS_MAX
            {
                tokens.push(ProjectedToken {
                    audience,
                    volume: name.clone(),
                    path,
                });
            }
        }
    }
    tokens
}

/// A static pod's cgroup is named by the hash of its file. Anybody who may make pods can write the
/// annotation; only a mirror pod belongs to its node, which the API server sees to.
fn mirrored(metadata: &Value) -> Option<String> {
    let owners = metadata.get("ownerReferences")?.as_array()?;
    let of_node = |owner: &Value| {
        text(owner, "kind").as_deref() == Some("Node")
            && text(owner, "apiVersion").as_deref() == Some("v1")
    };
    if owners.len() != 1 || !owners.iter().all(of_node) {
        return None;
    }
    text(metadata.get("annotations")?, MIRROR)
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name)?.as_str().map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::selection::{Choice, LABELS_MAX, Rules};

    fn object() -> Value {
        json!({
            "metadata": {
                "uid": "0f5b1a3c-1111-4222-8333-444455556666", "namespace": "agents",
                "name": "analyst-1", "labels": { "app": "analyst", "tier": "gold" },
            },
            "spec": { "serviceAccountName": "analyst", "nodeName": "n1", "hostNetwork": false },
            "status": {
                "phase": "Running",
                "containerStatuses": [
                    { "name": "main", "containerID": "containerd://aa" }, { "name": "new" }
                ],
                "initContainerStatuses": [{ "containerID": "containerd://bb" }],
            },
        })
    }

    fn selector(labels: &[(&str, &str)], account: Option<&str>) -> PodSelector {
        PodSelector {
            namespace: "agents".to_owned(),
            labels: labels
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            service_account: account.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn a_pod_is_read_with_its_containers() {
        let pod = Pod::read(&object()).unwrap();
        assert_eq!(pod.cgroup_uid, pod.uid);
        assert_eq!(pod.containers, ["bb", "aa"]);
        assert_eq!(pod.service_account, "analyst");
        assert!(!Pod::has_ended(&object()));
        let mut ended = object();
        ended["status"]["phase"] = json!("Failed");
        assert!(Pod::has_ended(&ended));
    }

    #[test]
    fn tokens_are_found_in_projected_volumes_by_their_audience() {
        let mut pod = object();
        pod["spec"]["volumes"] = json!([
            { "name": "data", "emptyDir": {} },
            { "name": "kube-api-access", "projected": { "sources": [
                { "serviceAccountToken": { "path": "token" } }, { "configMap": {} },
            ] } },
            { "name": "azure-identity-token", "projected": { "sources": [
                { "serviceAccountToken": { "audience": "api://x", "path": "azure-identity-token" } },
            ] } },
            { "projected": { "sources": [{ "serviceAccountToken": { "audience": "a", "path": "p" } }] } },
        ]);
        let expected = ProjectedToken {
            audience: "api://x".to_owned(),
            volume: "azure-identity-token".to_owned(),
            path: "azure-identity-token".to_owned(),
        };
        assert_eq!(Pod::read(&pod).unwrap().tokens, [expected]);
        pod["spec"]["volumes"] = json!("none");
        assert!(Pod::read(&pod).unwrap().tokens.is_empty());
    }

    #[test]
    fn everything_that_a_selector_names_has_to_fit() {
        let pod = Pod::read(&object()).unwrap();
        for (labels, account, fits) in [
            (vec![], None, true),
            (vec![("app", "analyst")], None, true),
            (
                vec![("app", "analyst"), ("tier", "gold")],
                Some("analyst"),
                true,
            ),
            (vec![("app", "other")], None, false),
            (vec![("app", "analyst"), ("none", "")], None, false),
            (vec![], Some("default"), false),
        ] {
            assert_eq!(selector(&labels, account).fits(&pod), fits, "{labels:?}");
        }
        let mut elsewhere = pod;
        elsewhere.namespace = "agents2".to_owned();
        assert!(!selector(&[], None).fits(&elsewhere));
    }

    #[test]
    fn a_pod_is_of_one_workload_exempt_or_disputed() {
        let pod = Pod::read(&object()).unwrap();
        let own = |name: &str, one: PodSelector| (name.to_owned(), one);
        let mut rules = Rules::default();
        assert_eq!(rules.choose(&pod), Choice::Exempt);
        rules
            .workloads
            .push(own("a", selector(&[("app", "analyst")], None)));
        rules
            .workloads
            .push(own("b", selector(&[("app", "other")], None)));
        assert_eq!(rules.choose(&pod), Choice::Workload("a".to_owned()));
        rules.workloads.push(own("c", selector(&[], None)));
        let both = vec!["a".to_owned(), "c".to_owned()];
        assert_eq!(rules.choose(&pod), Choice::Disputed(both));
        rules.exempt.push(selector(&[("tier", "gold")], None));
        assert_eq!(rules.choose(&pod), Choice::Exempt);
    }

    #[test]
    fn only_a_nodes_own_mirror_pod_is_named_by_its_annotation() {
        let hash = "0123456789abcdef0123456789abcdef";
        let mut pod = object();
        pod["metadata"]["annotations"] = json!({ MIRROR: hash, "kubernetes.io/config.hash": hash });
        let uid = Pod::read(&pod).unwrap().uid;
        assert_eq!(Pod::read(&pod).unwrap().cgroup_uid, uid, "no owner");
        for (owners, expected) in [
            (
                json!([{ "kind": "ReplicaSet", "apiVersion": "apps/v1" }]),
                uid.as_str(),
            ),
            (
                json!([{ "kind": "Node", "apiVersion": "v1" }, { "kind": "Job", "apiVersion": "batch/v1" }]),
                uid.as_str(),
            ),
            (
                json!([{ "kind": "Node", "apiVersion": "own.example/v1" }]),
                uid.as_str(),
            ),
            (
                json!([{ "kind": "Node", "apiVersion": "v1", "name": "n1" }]),
                hash,
            ),
        ] {
            pod["metadata"]["ownerReferences"] = owners.clone();
            assert_eq!(Pod::read(&pod).unwrap().cgroup_uid, expected, "{owners}");
        }
    }

    #[test]
    fn an_object_that_is_no_pod_is_not_known() {
        for (at, value) in [
            ("/metadata", json!(null)),
            ("/metadata/uid", json!(7)),
            ("/metadata/namespace", json!(null)),
            ("/metadata/labels", json!([])),
            ("/metadata/labels/app", json!(1)),
            ("/spec", json!(null)),
        ] {
            let mut pod = object();
            *pod.pointer_mut(at).unwrap() = value;
            if at == "/spec" {
                pod.as_object_mut().unwrap().remove("spec");
            }
            assert!(Pod::read(&pod).is_none(), "{at}");
        }
        let mut pod = object();
        for number in 0..=LABELS_MAX {
            pod["metadata"]["labels"][format!("l{number}")] = json!("");
        }
        assert!(Pod::read(&pod).is_none());
    }
}
