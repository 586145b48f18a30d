//! Refusals as the API server words them.
//!
//! Source: Kubernetes API, `meta/v1 Status`.

use serde_json::json;

/// `reason` of a status, by its code.
const fn reason(code: u16) -> &'static str {
    match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        406 => "NotAcceptable",
        413 => "RequestEntityTooLarge",
        415 => "UnsupportedMediaType",
        429 => "TooManyRequests",
        502 | 503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    }
}

/// A `Status` object. `message` is what kubectl prints behind `Error from server (…): `.
#[must_use]
pub fn status(code: u16, message: &str, rule: Option<&str>) -> Vec<u8> {
    let mut status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason(code),
        "code": code,
    });
    if let (Some(rule), Some(object)) = (rule, status.as_object_mut()) {
        object.insert(
            "details".to_owned(),
            json!({ "causes": [{ "reason": "WeirPolicy", "message": rule }] }),
        );
    }
    status.to_string().into_bytes()
}
