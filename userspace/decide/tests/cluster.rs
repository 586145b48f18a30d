//! The starter policies for a cluster decide as their comments say.

use std::sync::Arc;

use http::Method;
use weir_decide::{Bound, Lifted, MaskKind, Outcome, TargetRef};
use weir_kubernetes::question;
use weir_mask::MaskKey;
use weir_model::ident::SessionId;

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
    let (method, path) = line.split_once(' ').unwrap();
    let target: Arc<str> = Arc::from("cluster");
    let question = question(
        &target,
        &Method::from_bytes(method.as_bytes()).unwrap(),
        (path, ""),
        (&[], None),
        &MaskKey::new([1; 32]),
    )
    .unwrap();
    let intent = question.request.intent;
    match bound(group).decide(1, SessionId(1), &intent, &Lifted::none(), NOW) {
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
            "allowed",
            "allowed",
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
