//! Requests as real clients send them, and as people send them who want to be misread.

use std::sync::Arc;

use http::Method;
use weir_kubernetes::{Question, Unclear, question};
use weir_mask::MaskKey;
use weir_model::request::AttrValue;

fn ask(line: &str) -> Result<Question, Unclear> {
    let (method, uri) = line.split_once(' ').unwrap();
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let target: Arc<str> = Arc::from("k");
    question(
        &target,
        &method,
        (path, query),
        (&[], None),
        &MaskKey::new([1; 32]),
    )
}

#[test]
fn streams_ask_for_their_effect_and_say_what_they_run() {
    for (line, expected) in [
        (
            "GET /api/v1/namespaces/shop/pods/web-0/exec?command=sh",
            "exec k/shop/pods:exec/web-0, readOutput k/shop/pods:exec/web-0",
        ),
        (
            "POST /api/v1/namespaces/shop/pods/web-0/exec?command=sh&stdin=true",
            "exec k/shop/pods:exec/web-0, readOutput k/shop/pods:exec/web-0",
        ),
        (
            "POST /api/v1/namespaces/shop/pods/web-0/attach?container=c",
            "attach k/shop/pods:attach/web-0, readOutput k/shop/pods:attach/web-0",
        ),
        (
            "GET /api/v1/namespaces/shop/pods/web-0/portforward",
            "openPortForward k/shop/pods:portforward/web-0",
        ),
    ] {
        assert_eq!(accesses(line), expected, "{line}");
    }
    let line = "GET /api/v1/namespaces/shop/pods/web-0/exec?command=sh&command=-c\
                &command=echo+it%27s&command=&container=c&stdin=1&tty=false&stdout=true";
    let question = ask(line).unwrap();
    let context = &question.request.intent.context;
    let said = |name: &str| {
        let found = context.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.clone())
    };
    let text = |text: &str| Some(AttrValue::String(Arc::from(text)));
    assert_eq!(said("program"), text("sh"));
    assert_eq!(said("command"), text("sh -c echo it's "));
    assert_eq!(said("container"), text("c"));
    assert_eq!(said("stdin"), Some(AttrValue::Bool(true)));
    assert_eq!(said("tty"), Some(AttrValue::Bool(false)));
    let words = ["", "-c", "echo it's", "sh"].map(Arc::from);
    assert_eq!(said("arguments"), Some(AttrValue::StringSet(words.into())));
    let statement = &question.request.statement;
    let expected = "exec -i -c c pods/web-0 -n shop: sh -c 'echo it'\\''s' '' (GET /api/v1/";
    assert!(statement.starts_with(expected), "{statement}");
    let forward = "POST /api/v1/namespaces/shop/pods/web-0/portforward?ports=80,443&ports=5432";
    let remote = ask(forward).unwrap().plan.remote.unwrap();
    assert_eq!(remote.ports, [80, 443, 5432]);
    let port = remote.port(80);
    assert_eq!(&*port.statement, "port-forward pods/web-0 -n shop: 80");
    let access = port.intent.accesses.first().unwrap();
    assert_eq!(access.action, "portForward");
    assert_eq!(access.object.id(), "k/shop/pods:portforward/web-0");
}

/// `action Kind:path` of every access, sorted, joined by `, `.
fn accesses(line: &str) -> String {
    match ask(line) {
        Ok(question) => {
            let said: Vec<String> = question
                .request
                .intent
                .accesses
                .iter()
                .map(|a| format!("{} {}", a.action, a.object.id()))
                .collect();
            said.join(", ")
        }
        Err(Unclear(why)) => format!("refused: {why}"),
    }
}

#[test]
fn requests_mean_what_the_api_server_takes_them_for() {
    let cases = [
        (
            "GET /api/v1/namespaces/shop/pods/web-0",
            "get k/shop/pods/web-0",
        ),
        ("GET /api/v1/namespaces/shop/pods", "list k/shop/pods"),
        (
            "GET /api/v1/namespaces/shop/pods?limit=500",
            "list k/shop/pods",
        ),
        (
            "GET /api/v1/namespaces/shop/pods?watch=true",
            "watch k/shop/pods",
        ),
        (
            "GET /api/v1/namespaces/shop/pods?watch=1",
            "watch k/shop/pods",
        ),
        (
            "GET /api/v1/namespaces/shop/pods?watch",
            "watch k/shop/pods",
        ),
        (
            "GET /api/v1/namespaces/shop/pods?watch=yes",
            "watch k/shop/pods",
        ),
        (
            "GET /api/v1/namespaces/shop/pods?watch=false",
            "list k/shop/pods",
        ),
        (
            "GET /api/v1/namespaces/shop/pods?watch=0",
            "list k/shop/pods",
        ),
        (
            "GET /api/v1/namespaces/shop/pods?%77atch=1",
            "watch k/shop/pods",
        ),
        (
            "GET /api/v1/watch/namespaces/shop/pods",
            "watch k/shop/pods",
        ),
        ("GET /api/v1/watch/pods", "watch k/_all/pods"),
        (
            "HEAD /api/v1/namespaces/shop/pods/web-0",
            "get k/shop/pods/web-0",
        ),
        ("GET /api/v1/pods", "list k/_all/pods"),
        (
            "GET /api/v1/secrets",
            "list k/_all/secrets, readSecret k/_all/secrets",
        ),
        ("GET /api/v1/nodes", "list k/_cluster/nodes"),
        ("GET /api/v1/nodes/node-1", "get k/_cluster/nodes/node-1"),
        ("GET /api/v1/namespaces", "list k/_cluster/namespaces"),
        (
            "GET /api/v1/namespaces/shop",
            "get k/_cluster/namespaces/shop",
        ),
        (
            "PUT /api/v1/namespaces/shop/finalize",
            "update k/_cluster/namespaces:finalize/shop",
        ),
        (
            "PATCH /api/v1/namespaces/shop/status",
            "patch k/_cluster/namespaces:status/shop",
        ),
        ("POST /api/v1/namespaces", "create k/_cluster/namespaces"),
        (
            "DELETE /api/v1/namespaces/shop",
            "delete k/_cluster/namespaces/shop",
        ),
        ("POST /api/v1/namespaces/shop/pods", "create k/shop/pods"),
        (
            "PUT /api/v1/namespaces/shop/pods/web-0",
            "update k/shop/pods/web-0",
        ),
        (
            "DELETE /api/v1/namespaces/shop/pods/web-0",
            "delete k/shop/pods/web-0",
        ),
        (
            "DELETE /api/v1/namespaces/shop/pods",
            "deletecollection k/shop/pods",
        ),
        (
            "GET /apis/apps/v1/namespaces/shop/deployments/web",
            "get k/shop/deployments.apps/web",
        ),
        (
            "GET /apis/apps/v1/deployments",
            "list k/_all/deployments.apps",
        ),
        (
            "PATCH /apis/apps/v1/namespaces/shop/deployments/web/scale",
            "patch k/shop/deployments.apps:scale/web, scale k/shop/deployments.apps:scale/web",
        ),
        (
            "GET /apis/apps/v1/namespaces/shop/deployments/web/scale",
            "get k/shop/deployments.apps:scale/web",
        ),
        (
            "GET /api/v1/namespaces/shop/pods/web-0/log?follow=true",
            "get k/shop/pods:log/web-0, readLogs k/shop/pods:log/web-0",
        ),
        (
            "GET /api/v1/namespaces/shop/secrets/db",
            "get k/shop/secrets/db, readSecret k/shop/secrets/db",
        ),
        (
            "PATCH /api/v1/namespaces/shop/secrets/db",
            "patch k/shop/secrets/db, readSecret k/shop/secrets/db",
        ),
        (
            "GET /api/v1/namespaces/shop/configmaps/web",
            "get k/shop/configmaps/web, readConfig k/shop/configmaps/web",
        ),
        (
            "POST /api/v1/namespaces/shop/serviceaccounts/web/token",
            "create k/shop/serviceaccounts:token/web, mintToken k/shop/serviceaccounts:token/web",
        ),
        (
            "POST /api/v1/namespaces/shop/pods/web-0/eviction",
            "create k/shop/pods:eviction/web-0, evict k/shop/pods:eviction/web-0",
        ),
        (
            "PATCH /api/v1/namespaces/shop/pods/web-0/ephemeralcontainers",
            "addEphemeralContainer k/shop/pods:ephemeralcontainers/web-0, patch k/shop/pods:ephemeralcontainers/web-0",
        ),
        (
            "POST /apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            "create k/_cluster/clusterrolebindings.rbac.authorization.k8s.io, writeRbac k/_cluster/clusterrolebindings.rbac.authorization.k8s.io",
        ),
        (
            "GET /apis/rbac.authorization.k8s.io/v1/clusterroles",
            "list k/_cluster/clusterroles.rbac.authorization.k8s.io",
        ),
        (
            "DELETE /apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/w",
            "delete k/_cluster/validatingwebhookconfigurations.admissionregistration.k8s.io/w, writeWebhook k/_cluster/validatingwebhookconfigurations.admissionregistration.k8s.io/w",
        ),
        (
            "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            "create k/_cluster/selfsubjectaccessreviews.authorization.k8s.io",
        ),
        // A custom resource outside of namespaces cannot be told from one over all of them.
        (
            "GET /apis/example.com/v1/widgets",
            "list k/_all/widgets.example.com",
        ),
        (
            "GET /apis/example.com/v1/widgets/w",
            "get k/_cluster/widgets.example.com/w",
        ),
        ("GET /version", "readPath k/%2Fversion"),
        ("GET /api", "readPath k/%2Fapi"),
        ("GET /api/v1", "readPath k/%2Fapi%2Fv1"),
        ("GET /apis", "readPath k/%2Fapis"),
        ("GET /apis/apps/v1", "readPath k/%2Fapis%2Fapps%2Fv1"),
        (
            "GET /openapi/v3/apis/apps/v1?hash=A",
            "readPath k/%2Fopenapi%2Fv3%2Fapis%2Fapps%2Fv1",
        ),
        ("GET /healthz/", "readPath k/%2Fhealthz%2F"),
        ("GET /", "readPath k/%2F"),
        // Percent escapes mean what they stand for, once.
        (
            "GET /api/v1/namespaces/shop/%73ecrets/db",
            "get k/shop/secrets/db, readSecret k/shop/secrets/db",
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(accesses(line), expected, "{line}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for line in [
        "GET /api/v1/namespaces/shop//secrets/db",
        "GET //api/v1/namespaces/shop/secrets/db",
        "GET /api/v1/namespaces/shop/pods/../secrets/db",
        "GET /api/v1/namespaces/shop/pods/%2e%2e/secrets/db",
        "GET /api/v1/namespaces/shop/./secrets",
        "GET /api/v1/namespaces/shop%2fsecrets/db",
        "GET /api/v1/namespaces/shop%2Fsecrets/db",
        "GET /api/v1/namespaces/shop/secrets/db/",
        "GET /api/v1/namespaces/shop/secrets%00/db",
        "GET /api/v1/namespaces/shop/secrets%0a/db",
        "GET /api/v1/namespaces/shop/%2573ecrets/db",
        "GET /api/v1/namespaces/shop/secrets/%ff",
        "GET /api/v1/namespaces/shop/secrets/%zz",
        "GET /api/v1/namespaces/shop/secrets/%4",
        "GET /api/v1/namespaces/shop/secrets/a%5cb",
        "GET /api/v1/namespaces/shop/pods/web-0/log/extra",
        "GET /api/v1/namespaces/shop/pods/web-0/proxy/metrics",
        "GET /api/v1/namespaces/shop/services/web/proxy",
        "GET /api/v1/nodes/node-1/proxy/run",
        "GET /api/v1/proxy/namespaces/shop/pods/web-0",
        "POST /api/v1/namespaces/shop/pods/web-0/exec",
        "POST /api/v1/namespaces/shop/pods/web-0/exec?command=",
        "PUT /api/v1/namespaces/shop/pods/web-0/exec?command=sh",
        "GET /api/v1/watch/namespaces/shop/pods/web-0/exec?command=sh",
        "GET /api/v1/namespaces/shop/pods/web-0/exec/sh?command=sh",
        "GET /api/v1/namespaces/shop/pods/web-0/exec?command=sh&tty=0&tty=1",
        "GET /api/v1/pods/web-0/exec?command=sh",
        "GET /apis/x.io/v1/namespaces/shop/machines/m/exec?command=sh",
        "POST /api/v1/namespaces/shop/pods/web-0/attach?command=sh",
        "POST /api/v1/namespaces/shop/pods/web-0/portforward?ports=0",
        "POST /api/v1/namespaces/shop/pods/web-0/portforward?ports=80,x",
        "POST /api/v1/watch/namespaces/shop/pods",
        "GET /api/v1/namespaces/shop/pods/web-0?watch=1",
        "GET /api/v1/namespaces/shop/pods?watch=0&watch=1",
        "GET /api/v1/namespaces/shop/pods?watch=0;watch=1",
        "GET /api/v1/namespaces/shop/pods?labelSelector=a&labelSelector=b",
        "DELETE /api/v1/namespaces/shop/pods/web-0?dryRun=all",
        "DELETE /api/v1/namespaces/shop/pods/web-0?dryRun=All&dryRun=",
        "GET /api/v1/namespaces/shop/pods?x=%zz",
        "POST /version",
        "OPTIONS /api/v1/namespaces/shop/pods",
        "TRACE /api/v1/namespaces/shop/pods",
        "CONNECT /api/v1/namespaces/shop/pods",
        "LIST /api/v1/namespaces/shop/pods",
    ] {
        assert!(ask(line).is_err(), "{line}: {}", accesses(line));
    }
    let long = format!("GET /api/v1/namespaces/{}/pods", "a".repeat(20_000));
    assert!(ask(&long).is_err());
    let many = format!("GET /api/v1/pods?{}", "a=1&".repeat(300));
    assert!(ask(&many).is_err());
}

#[test]
fn the_server_gets_the_path_that_was_decided_on() {
    let uri = |line: &str| ask(line).unwrap().plan.uri();
    assert_eq!(
        uri("GET /api/v1/namespaces/shop/%73ecrets/a%20b?x=%2b+y&watch=%66alse"),
        "/api/v1/namespaces/shop/secrets/a%20b?watch=false&x=%2B%20y"
    );
}

fn body(kind: &str, secrets: bool, text: &str) -> Result<String, Unclear> {
    let resource = if secrets { "secrets" } else { "pods" };
    let path = format!("/api/v1/namespaces/shop/{resource}");
    let target: Arc<str> = Arc::from("k");
    question(
        &target,
        &Method::POST,
        (&path, ""),
        (text.as_bytes(), Some(kind)),
        &MaskKey::new([1; 32]),
    )
    .map(|question| question.request.parameters)
}

#[test]
fn recorded_bodies_hold_no_secret() {
    let secret = r#"{"kind":"Secret","data":{"p":"Y2FuYXJ5"},"stringData":{"q":"canary"}}"#;
    for (kind, secrets, text) in [
        ("application/json", true, secret),
        ("application/json; charset=utf-8", false, secret),
        (
            "application/merge-patch+json",
            true,
            r#"{"data":{"p":"Y2FuYXJ5"}}"#,
        ),
        (
            "application/strategic-merge-patch+json",
            true,
            r#"{"stringData":{"p":"canary"}}"#,
        ),
        ("application/apply-patch+yaml", true, secret),
        (
            "application/json-patch+json",
            true,
            r#"[{"op":"add","path":"/data/p","value":"Y2FuYXJ5"}]"#,
        ),
        (
            "application/json",
            false,
            &format!(r#"{{"kind":"List","items":[{secret}]}}"#),
        ),
    ] {
        let recorded = body(kind, secrets, text).unwrap();
        assert!(!recorded.is_empty(), "{kind}");
        for gone in ["canary", "Y2FuYXJ5"] {
            assert!(!recorded.contains(gone), "{kind}: {recorded}");
        }
    }
}

#[test]
fn a_protobuf_body_is_recorded_by_its_digest() {
    let recorded = body("application/vnd.kubernetes.protobuf", false, "k8s\0canary").unwrap();
    assert!(recorded.contains("\"bytes\":10") && !recorded.contains("canary"));
}

#[test]
fn bodies_that_cannot_be_read_or_would_destroy_are_refused() {
    for (kind, text) in [
        ("application/vnd.kubernetes.protobuf", "k8s\0"),
        ("application/cbor", "\u{1}"),
        ("application/yaml", "kind: Secret"),
        ("application/apply-patch+yaml", "kind: Secret"),
        ("text/plain", "{}"),
        ("application/json", "{"),
        ("application/json", r#"{"data":{"p":"W3JlZGFjdGVkXQ=="}}"#),
        ("application/json", r#"{"stringData":{"p":"[redacted]"}}"#),
    ] {
        assert!(body(kind, true, text).is_err(), "{kind} {text}");
    }
}
