//! Service-account tokens that may leave the node, and what token endpoints answer.
//!
//! Source: the vendor's client-credentials flow, third case (federated credential); RFC 7523.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use weir_model::time::Now;

use crate::entra::{EntraRefusal, ErrorBody};
use crate::http::Answer;
use crate::refusal::Unidentified;
use crate::secret::Secret;

pub(crate) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// As the token file's own cap.
const ASSERTION_BYTES_MAX: usize = 16 * 1024;

/// Why a service-account token was not even sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssertionProblem {
    #[error("is empty, longer than 16 KiB or not a JWT; check the workload's token_file")]
    Malformed,
    #[error(
        "has another audience than the token exchange's: never send an API-server token; \
         request one with audience api://AzureADTokenExchange"
    )]
    Audience,
    #[error("has expired: check that the token file is renewed, and this node's clock")]
    Expired,
    #[error("is of another subject than is configured for the workload")]
    Subject,
    #[error("is of another issuer than identity.cluster.issuer")]
    Issuer,
    #[error(
        "is not bound to the pod that the kernel saw connecting: another pod's token may have been \
         planted there"
    )]
    Pod,
    #[error("is bound to another node")]
    Node,
    #[error("is not signed with a key of identity.cluster.keys_file")]
    Signature,
}

impl AssertionProblem {
    /// Metric label.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "assertion_malformed",
            Self::Audience => "assertion_audience",
            Self::Expired => "assertion_expired",
            Self::Subject => "assertion_subject",
            Self::Issuer => "assertion_issuer",
            Self::Pod => "assertion_pod",
            Self::Node => "assertion_node",
            Self::Signature => "assertion_forged",
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct AssertionClaims {
    sub: Option<String>,
    aud: Option<OneOrMany>,
    exp: Option<i64>,
}

/// Looks at the unverified assertion, so that a token for another audience never leaves the node.
///
/// Entra verifies it; what is checked here is only what Weir must not hand out.
pub(crate) fn check_assertion(
    assertion: &Secret,
    audience: &str,
    subject: Option<&str>,
    now: Now,
) -> Result<(), AssertionProblem> {
    let text = assertion.expose();
    let payload = text
        .split('.')
        .nth(1)
        .filter(|_| text.split('.').count() == 3);
    if text.len() > ASSERTION_BYTES_MAX {
        return Err(AssertionProblem::Malformed);
    }
    let payload = payload.and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let payload = payload.ok_or(AssertionProblem::Malformed)?;
    let claims: AssertionClaims =
        serde_json::from_slice(&payload).map_err(|_| AssertionProblem::Malformed)?;
    let right_audience = match &claims.aud {
        Some(OneOrMany::One(one)) => one == audience,
        Some(OneOrMany::Many(many)) => matches!(many.as_slice(), [one] if one == audience),
        None => false,
    };
    if !right_audience {
        return Err(AssertionProblem::Audience);
    }
    if claims.exp.is_none_or(|exp| exp <= now.unix_s()) {
        return Err(AssertionProblem::Expired);
    }
    match subject {
        Some(subject) if claims.sub.as_deref() != Some(subject) => Err(AssertionProblem::Subject),
        Some(_) | None => Ok(()),
    }
}

#[derive(Deserialize)]
struct TokenBody {
    token_type: String,
    access_token: String,
    id_token: Option<String>,
    refresh_token: Option<String>,
}

/// What a token endpoint gave. Lifetimes are read from the validated token, not from here.
pub(crate) struct Minted {
    pub(crate) access_token: Secret,
    pub(crate) id_token: Option<Secret>,
    pub(crate) refresh_token: Option<Secret>,
}

/// Reads a token endpoint's answer.
pub(crate) fn minted(answer: &Answer) -> Result<Minted, TokenAnswer> {
    if answer.status == 200 {
        let body: TokenBody = serde_json::from_slice(&answer.body).map_err(|_| {
            TokenAnswer::Other(Unidentified::Malformed {
                what: "token answer",
            })
        })?;
        if !body.token_type.eq_ignore_ascii_case("Bearer") {
            let what = "token type";
            return Err(TokenAnswer::Other(Unidentified::Malformed { what }));
        }
        return Ok(Minted {
            access_token: Secret::new(body.access_token),
            id_token: body.id_token.map(Secret::new),
            refresh_token: body.refresh_token.map(Secret::new),
        });
    }
    if answer.status == 429 {
        let retry_after_s = answer.retry_after_s;
        return Err(TokenAnswer::Other(Unidentified::Throttled {
            retry_after_s,
        }));
    }
    match serde_json::from_slice::<ErrorBody>(&answer.body) {
        Ok(body) if answer.status < 500 => Err(TokenAnswer::Refused(body)),
        Ok(_) | Err(_) => Err(TokenAnswer::Other(Unidentified::unexpected_status(
            "a token request",
            answer.status,
        ))),
    }
}

/// A token endpoint's answer that is not a token.
pub(crate) enum TokenAnswer {
    /// An OAuth error; for device codes some of them mean "not yet".
    Refused(ErrorBody),
    Other(Unidentified),
}

impl From<TokenAnswer> for Unidentified {
    fn from(answer: TokenAnswer) -> Self {
        match answer {
            TokenAnswer::Refused(body) => Self::Refused(EntraRefusal::from_body(body)),
            TokenAnswer::Other(other) => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use weir_model::time::Now;

    use super::{AssertionProblem, check_assertion};
    use crate::secret::Secret;

    const AUDIENCE: &str = "api://AzureADTokenExchange";
    const NOW: Now = Now {
        mono_us: 0,
        wall_us: 1_000_000_000,
    };

    fn check(claims: &str, subject: Option<&str>) -> Result<(), AssertionProblem> {
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        check_assertion(&Secret::new(token), AUDIENCE, subject, NOW)
    }

    #[test]
    fn a_good_assertion_passes() {
        let list = r#"{"aud":["api://AzureADTokenExchange"],"exp":2000,"sub":"s"}"#;
        let scalar = r#"{"aud":"api://AzureADTokenExchange","exp":2000,"sub":"s"}"#;
        assert_eq!(check(list, Some("s")), Ok(()));
        assert_eq!(check(scalar, None), Ok(()));
    }

    #[test]
    fn an_api_server_token_never_leaves_the_node() {
        for aud in [
            r#""https://kubernetes.default.svc""#,
            r#"["api://AzureADTokenExchange","https://kubernetes.default.svc"]"#,
            "[]",
        ] {
            let claims = format!(r#"{{"aud":{aud},"exp":2000}}"#);
            assert_eq!(check(&claims, None), Err(AssertionProblem::Audience));
        }
        assert_eq!(
            check(r#"{"exp":2000}"#, None),
            Err(AssertionProblem::Audience)
        );
    }

    #[test]
    fn expired_foreign_or_broken_assertions_are_named() {
        let base = r#"{"aud":"api://AzureADTokenExchange","exp":1000,"sub":"s"}"#;
        assert_eq!(check(base, None), Err(AssertionProblem::Expired));
        let other = r#"{"aud":"api://AzureADTokenExchange","exp":2000,"sub":"t"}"#;
        assert_eq!(check(other, Some("s")), Err(AssertionProblem::Subject));
        for text in ["", "a.b", "a.b.c.d", "a.!.c", "..", &"x".repeat(20_000)] {
            assert_eq!(
                check_assertion(&Secret::new(text), AUDIENCE, None, NOW),
                Err(AssertionProblem::Malformed)
            );
        }
    }
}
