//! The generic webhook: the notice as JSON, signed.

use crate::deliver::{DeliveryError, retry_of};
use crate::http::HttpClient;
use crate::notice::Notice;
use crate::signature;

pub(crate) async fn send(
    client: &HttpClient,
    secret: &str,
    notice: &Notice,
    now_s: i64,
) -> Result<(), DeliveryError> {
    let body = serde_json::to_vec(notice)
        .map_err(|error| DeliveryError::Never(format!("it cannot be written: {error}")))?;
    // Signed at each attempt: a receiver refuses old times.
    let signature = signature::header(secret, &body, now_s);
    let headers = [
        ("content-type", "application/json"),
        ("weir-signature", signature.as_str()),
        ("idempotency-key", notice.key.as_str()),
    ];
    let answer = client.post("", &headers, body.into()).await?;
    retry_of(&answer)
}
