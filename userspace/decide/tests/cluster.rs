//! The starter policies for a cluster decide as their comments say.

use std::sync::Arc;

use http::Method;
use weir_decide::{Bound, Lifted, MaskKind, Outcome, TargetRef};
use weir_kubernetes::question;
use weir_mask::MaskKey;
use weir_model::ident::SessionId;
use weir_model::request::Intent;

#[path = "starter/shop.rs"]
#[expect(dead_code, reason = "shared with the starter policies for the shop")]
mod shop;

use shop::{ANALYSTS, NOW, OPERATORS, compile, principal, sources};

fn bound(group: &str) -> Bound {
    let target = TargetRef {
        name: Arc::from("cluster"),
        namespace: "Kubernetes",
    };
    compile(&sources()).bind(&principal(&[group]), &target)
}

/// What policy says of a request, in one word and with its rule.
fn outcome(group: &str, line: &str) -> String {
    let (method, uri) = line.split_once(' ').unwrap();
    let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
    let target: Arc<str> = Arc::from("cluster");
    let question = question(
        &target,
        &Method::from_bytes(method.as_bytes()).unwrap(),
        (path, query),
        (&[], None),
        &MaskKey::new([1; 32]),
    )
    .unwrap();
    decided(group, &question.request.intent)
}

fn decided(group: &str, intent: &Arc<Intent>) -> String {
    match bound(group).decide(1, SessionId(1), intent, &Lifted::none(), NOW) {
        Outcome::Permit(permit) => {
            let masks = &permit.obligations().masks;
            if masks.values().any(|mask| mask.kind == MaskKind::Redact) {
                "masked".to_owned()
            } else {
                "allowed".to_owned()
            }
        }
        Outcome::Denial(denial) => format!("denied {}", denial.rule),
        Outcome::Hold(hold) => format!("held {}", hold.rules.join(" ")),
    }
}

#[test]
fn analysts_look_and_operators_change() {
    let none = "denied weir:no-permit";
    for (line, analyst, operator) in [
        ("GET /version", "allowed", "allowed"),
        ("GET /apis/apps/v1", "allowed", "allowed"),
        ("GET /openapi/v3", "allowed", "allowed"),
        ("GET /logs/kube-apiserver.log", none, none),
        ("GET /debug/pprof/heap", none, none),
        ("GET /api/v1/namespaces", "allowed", "allowed"),
        ("GET /api/v1/namespaces/shop/pods", "allowed", "allowed"),
        (
            "GET /api/v1/namespaces/shop/pods/web-0/log",
            "masked",
            "masked",
        ),
        ("GET /api/v1/namespaces/shop/secrets/db", "masked", "masked"),
        (
            "GET /api/v1/watch/namespaces/shop/secrets",
            "masked",
            "masked",
        ),
        ("GET /api/v1/secrets", none, none),
        ("GET /api/v1/pods", none, none),
        ("GET /api/v1/namespaces/kube-system/pods", none, none),
        ("POST /api/v1/namespaces/shop/configmaps", none, "allowed"),
        ("PATCH /api/v1/namespaces/shop/secrets/db", none, "masked"),
        (
            "PATCH /apis/apps/v1/namespaces/shop/deployments/web/scale",
            none,
            "allowed",
        ),
        (
            "DELETE /api/v1/namespaces/shop/pods/web-0",
            none,
            "held delete-needs-review",
        ),
        ("DELETE /api/v1/namespaces/shop/pods", none, none),
        (
            "POST /api/v1/namespaces/shop/serviceaccounts/web/token",
            none,
            none,
        ),
        (
            "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            "allowed",
            "allowed",
        ),
        (
            "GET /api/v1/namespaces/shop/pods/web-0/exec?command=ls",
            none,
            "masked",
        ),
        (
            "POST /api/v1/namespaces/shop/pods/web-0/exec?command=ls",
            none,
            "masked",
        ),
        (
            "GET /api/v1/namespaces/shop/pods/web-0/exec?command=sh&tty=true",
            none,
            "held terminal-needs-review",
        ),
        (
            "GET /api/v1/namespaces/shop/pods/web-0/exec?command=/bin/bash&stdin=true",
            none,
            "held terminal-needs-review",
        ),
        (
            "GET /api/v1/namespaces/shop/pods/web-0/exec?command=sh&command=-c&command=ls",
            none,
            "masked",
        ),
        (
            "GET /api/v1/namespaces/shop/pods/web-0/exec?command=tar&command=xmf&stdin=1",
            none,
            "masked",
        ),
        (
            "GET /api/v1/namespaces/shop/pods/web-0/attach?stdin=1&tty=1",
            none,
            "held terminal-needs-review",
        ),
        (
            "GET /api/v1/namespaces/kube-system/pods/x/exec?command=ls",
            none,
            none,
        ),
        (
            "POST /api/v1/namespaces/shop/pods/web-0/portforward",
            none,
            "allowed",
        ),
        ("POST /api/v1/namespaces", none, none),
        ("DELETE /api/v1/namespaces/shop", none, none),
    ] {
        let said = (outcome(ANALYSTS, line), outcome(OPERATORS, line));
        let fits = |said: &str, expected: &str| {
            said == expected || (expected == none && said.starts_with("denied"))
        };
        assert!(
            fits(&said.0, analyst) && fits(&said.1, operator),
            "{line}: {said:?}"
        );
    }
}

#[test]
fn ports_are_decided_one_by_one() {
    let target: Arc<str> = Arc::from("cluster");
    let path = "/api/v1/namespaces/shop/pods/web-0/portforward";
    let key = MaskKey::new([1; 32]);
    let opened = question(&target, &Method::POST, (path, ""), (&[], None), &key).unwrap();
    let remote = opened.plan.remote.unwrap();
    for (port, operator) in [
        (8080, "allowed"),
        (80, "allowed"),
        (22, "denied weir:no-permit"),
    ] {
        let intent = remote.port(port).intent;
        assert_eq!(decided(OPERATORS, &intent), operator, "{port}");
        assert_eq!(decided(ANALYSTS, &intent), "denied weir:no-permit");
    }
}
