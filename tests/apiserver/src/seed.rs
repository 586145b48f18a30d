//! What is there at the start.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::reply::Failure;
use crate::resource::ALL;
use crate::store::{Mode, Store, key, now};

/// The password in `shop/db-credentials`; a test that finds it at a client has found a leak.
pub(crate) const CANARY: &str = "canary-7f3a-secret";

pub(crate) fn fill(store: &Store) -> Result<(), Failure> {
    for name in ["default", "kube-system", "shop"] {
        put(
            store,
            "Namespace",
            "",
            name,
            json!({
                "metadata": { "labels": { "kubernetes.io/metadata.name": name } },
                "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" },
            }),
        )?;
        put(store, "ServiceAccount", name, "default", json!({}))?;
        put(
            store,
            "ConfigMap",
            name,
            "kube-root-ca.crt",
            json!({ "data": { "ca.crt": "none" } }),
        )?;
    }
    put(
        store,
        "Node",
        "",
        "node-1",
        json!({
            "metadata": { "labels": { "kubernetes.io/hostname": "node-1" } }, "spec": {},
            "status": {
                "nodeInfo": { "kubeletVersion": "v1.32.4" },
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        }),
    )?;
    put(store, "ServiceAccount", "shop", "web", json!({}))?;
    put(
        store,
        "ConfigMap",
        "shop",
        "settings",
        json!({
            "data": { "currency": "EUR", "api-key": "canary-configmap-key", "theme": "dark" },
        }),
    )?;
    secret(store)?;
    workload(store)
}

fn secret(store: &Store) -> Result<(), Failure> {
    let data = json!({ "username": STANDARD.encode("shop"), "password": STANDARD.encode(CANARY) });
    let applied = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
        "metadata": { "annotations": {}, "name": "db-credentials", "namespace": "shop" },
        "stringData": { "password": CANARY },
    });
    put(
        store,
        "Secret",
        "shop",
        "db-credentials",
        json!({
            "metadata": {
                "labels": { "app": "web" },
                "annotations": { "kubectl.kubernetes.io/last-applied-configuration": applied.to_string() },
            },
            "type": "Opaque", "data": data,
        }),
    )
}

fn workload(store: &Store) -> Result<(), Failure> {
    let pod_spec = json!({ "containers": [{
        "name": "web", "image": "registry.example/web:1.0", "ports": [{ "containerPort": 8080 }],
    }] });
    put(
        store,
        "Deployment",
        "shop",
        "web",
        json!({
            "metadata": { "labels": { "app": "web" }, "generation": 1 },
            "spec": {
                "replicas": 2, "selector": { "matchLabels": { "app": "web" } },
                "template": { "metadata": { "labels": { "app": "web" } }, "spec": pod_spec },
            },
            "status": {
                "observedGeneration": 1, "replicas": 2, "readyReplicas": 2, "updatedReplicas": 2,
                "availableReplicas": 2,
            },
        }),
    )?;
    put(
        store,
        "Service",
        "shop",
        "web",
        json!({
            "metadata": { "labels": { "app": "web" } },
            "spec": {
                "type": "ClusterIP", "clusterIP": "10.96.0.10", "selector": { "app": "web" },
                "ports": [{ "port": 80, "targetPort": 8080, "protocol": "TCP" }],
            },
        }),
    )?;
    for name in ["web-0", "web-1"] {
        let mut spec = pod_spec.clone();
        spec["nodeName"] = json!("node-1");
        put(
            store,
            "Pod",
            "shop",
            name,
            json!({
                "metadata": { "labels": { "app": "web" } }, "spec": spec,
                "status": {
                    "phase": "Running", "podIP": "10.0.0.7", "hostIP": "10.0.0.1",
                    "conditions": [{ "type": "Ready", "status": "True" }],
                    "containerStatuses": [{
                        "name": "web", "ready": true, "restartCount": 0, "image": "registry.example/web:1.0",
                        "imageID": "", "state": { "running": { "startedAt": now() } },
                    }],
                },
            }),
        )?;
    }
    let pod = ALL.iter().find(|r| r.kind == "Pod");
    let pod = pod.and_then(|r| store.get(&key(r, "shop", "web-0")));
    let uid = pod.map(|p| p["metadata"]["uid"].clone());
    put(
        store,
        "Event",
        "shop",
        "web-0.started",
        json!({
            "involvedObject": { "kind": "Pod", "namespace": "shop", "name": "web-0", "uid": uid },
            "type": "Normal", "reason": "Started", "message": "Started container web",
            "firstTimestamp": now(), "lastTimestamp": now(), "count": 1,
        }),
    )
}

fn put(
    store: &Store,
    kind: &str,
    namespace: &str,
    name: &str,
    mut object: Value,
) -> Result<(), Failure> {
    let resource = ALL
        .iter()
        .find(|r| r.kind == kind)
        .ok_or_else(|| Failure::bad(format!("unknown kind {kind}")))?;
    object["kind"] = json!(kind);
    object["apiVersion"] = json!(resource.api_version());
    object["metadata"]["name"] = json!(name);
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    store
        .create(key(resource, namespace, name), object, Mode::Real)
        .map(|_| ())
}
