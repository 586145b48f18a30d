//! Reviews: who am I, may I. Everything is allowed here.

use serde_json::{Value, json};

use crate::auth::User;

/// The answer to a review of `kind`.
pub(crate) fn answer(kind: &str, user: &User, mut object: Value) -> Value {
    object["status"] = match kind {
        "SelfSubjectReview" => json!({ "userInfo": {
            "username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra,
        } }),
        "SelfSubjectRulesReview" => json!({
            "incomplete": false,
            "resourceRules": [{ "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"] }],
            "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
        }),
        "TokenReview" => json!({ "authenticated": false }),
        _ => json!({ "allowed": true, "reason": "the test server allows everything" }),
    };
    object
}
