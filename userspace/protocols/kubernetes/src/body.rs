//! Bodies of requests, for the record.

use serde_json::Value;
use weir_decide::MaskKind;
use weir_mask::{MaskKey, holds_masked_text};

use crate::document::{Masking, mask};
use crate::path::Unclear;

/// Bytes of a body that the record keeps; a longer one is recorded by its digest.
const KEPT_BYTES_MAX: usize = 16 * 1024;

/// Content types whose bodies are JSON. `apply-patch+yaml` is what `kubectl apply --server-side`
/// calls the JSON it sends.
const JSON: [&str; 5] = [
    "application/json",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// What typed clients send (`kubectl auth can-i`, `create token`). Policy needs none of it, so that
/// the record has its digest; where a Secret could stand in it, it is refused.
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Stands for a body that is not kept.
fn digest(body: &[u8], key: &MaskKey) -> String {
    let digest = key.digest_text("kubernetes.body", body);
    format!("[{{\"bytes\":{},\"digest\":\"{digest}\"}}]", body.len())
}

/// The body as a JSON array of one document, values of secrets replaced by digests; empty without
/// a body.
///
/// # Errors
/// [`Unclear`] for what is no JSON, and for a body that would write masked values back.
pub(crate) fn recorded(
    body: &[u8],
    content_type: Option<&str>,
    secrets: bool,
    key: &MaskKey,
) -> Result<String, Unclear> {
    if body.is_empty() {
        return Ok(String::new());
    }
    let kind = content_type.unwrap_or("application/json");
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case(PROTOBUF) && !secrets {
        return Ok(digest(body, key));
    }
    if !JSON.iter().any(|known| kind.eq_ignore_ascii_case(known)) {
        return Err(Unclear(
            "bodies have to be JSON: CBOR and YAML are not read, nor protobuf where Secrets are",
        ));
    }
    let value: Value =
        serde_json::from_slice(body).map_err(|_| Unclear("the body is not a JSON document"))?;
    if holds_masked_text(&value) {
        return Err(Unclear(
            "the body holds a masked value: writing it would destroy the real one",
        ));
    }
    if body.len() > KEPT_BYTES_MAX {
        return Ok(digest(body, key));
    }
    let masking = Masking {
        secrets: Some(MaskKind::Hash),
        configs: None,
        config_keys: &[],
    };
    // The operations of a JSON patch name their places apart from their values.
    let patch = kind.eq_ignore_ascii_case("application/json-patch+json");
    if secrets && patch {
        return Ok(digest(body, key));
    }
    let masked =
        mask(body, &masking, secrets, key).map_err(|_| Unclear("the body is nested too deeply"))?;
    let text = String::from_utf8_lossy(masked.bytes()).into_owned();
    Ok(format!("[{text}]"))
}
