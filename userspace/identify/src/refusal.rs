//! Why no principal could be bound.

use weir_model::fault::{Fault, FaultKind};

use crate::code::AnswerProblem;
use crate::entra::{EntraRefusal, RefusalKind};
use crate::federated::AssertionProblem;
use crate::keys::KeySetRefusal;
use crate::validate::TokenRefusal;

/// Every way in which a sign-in ends without a principal. All of them fail closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unidentified {
    /// The configuration has no way for this.
    #[error("{0}")]
    NotConfigured(&'static str),
    /// The workload's tenant is not in `identity.tenants`.
    #[error("the workload's tenant is not one of identity.tenants")]
    TenantNotAllowed,
    /// The service-account token was not sent to Entra.
    #[error("service-account token: {0}")]
    Assertion(AssertionProblem),
    /// The API server did not let the credential ask for the token.
    #[error(
        "the API server refused the TokenRequest: grant create on serviceaccounts/token for this \
         service account (a node credential: only for pods of this node, with this audience)"
    )]
    TokenRequestDenied,
    #[error("the API server knows no such service account or pod")]
    TokenRequestGone,
    /// Entra said no.
    #[error("Entra refused: {}", .0.operator_text())]
    Refused(EntraRefusal),
    /// Entra asks for patience.
    #[error("Entra throttles this node")]
    Throttled { retry_after_s: Option<u32> },
    /// Network, timeout or 5xx.
    #[error("{what} cannot be had")]
    Away { what: &'static str },
    /// An answer that is not what the protocol says.
    #[error("the authority's answer is wrong: {what}")]
    Malformed { what: &'static str },
    /// A status that the protocol does not have here, 3xx included.
    #[error("the authority answered {what} with status {status}")]
    Status { what: &'static str, status: u16 },
    /// Discovery pointed off the authority.
    #[error("the discovery document names a URL outside the authority")]
    ForeignUrl,
    /// Graph says so of the subject of a presented token.
    #[error("the subject of the presented token is disabled or deleted")]
    Disabled,
    /// What the browser came back with is not taken.
    #[error("{0}")]
    Answer(AnswerProblem),
    #[error("{0}")]
    KeySet(KeySetRefusal),
    /// The token came, and broke a rule.
    #[error("token refused at step {} ({}): {refusal}", refusal.step(), refusal.step_name())]
    Token { refusal: TokenRefusal },
}

impl Unidentified {
    /// 5xx is "away", everything else that is unexpected is an error of its own.
    pub(crate) fn unexpected_status(what: &'static str, status: u16) -> Self {
        match status {
            429 => Self::Throttled {
                retry_after_s: None,
            },
            500..=599 => Self::Away {
                what: "the authority (5xx)",
            },
            _ => Self::Status { what, status },
        }
    }

    /// Metric label and status of the record.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotConfigured(_) => "identity_not_configured",
            Self::TenantNotAllowed => "tenant_not_allowed",
            Self::Assertion(problem) => problem.code(),
            Self::TokenRequestDenied => "token_request_denied",
            Self::TokenRequestGone => "token_request_gone",
            Self::Refused(refusal) => match refusal.kind {
                RefusalKind::NoCredential => "entra_no_credential",
                RefusalKind::SetUp => "entra_set_up",
                RefusalKind::AssertionTime => "entra_assertion_time",
                RefusalKind::AssertionSignature => "entra_assertion_signature",
                RefusalKind::Revoked => "entra_revoked",
                RefusalKind::SignInEnded => "entra_sign_in_ended",
                RefusalKind::Other => "entra_refused",
            },
            Self::Throttled { .. } => "entra_throttled",
            Self::Away { .. } => "entra_away",
            Self::Malformed { .. } | Self::Status { .. } => "entra_malformed",
            Self::ForeignUrl => "entra_foreign_url",
            Self::Disabled => "presented_disabled",
            Self::Answer(_) => "browser_answer",
            Self::KeySet(_) => "entra_key_set",
            Self::Token { refusal } => refusal.code(),
        }
    }

    /// What the agent is told: fixed texts, nothing of the token or of Entra's answer.
    #[must_use]
    pub fn agent_text(&self) -> &'static str {
        match self {
            Self::Refused(refusal) if refusal.kind == RefusalKind::Revoked => {
                "weir: this workload's identity has been revoked or is not assigned; \
                 ask the platform team"
            }
            Self::Throttled { .. } | Self::Away { .. } => {
                "weir: this workload could not be signed in because the identity provider \
                 does not answer; try again later"
            }
            Self::NotConfigured(_)
            | Self::TenantNotAllowed
            | Self::Assertion(_)
            | Self::TokenRequestDenied
            | Self::TokenRequestGone
            | Self::Refused(_)
            | Self::Malformed { .. }
            | Self::Status { .. }
            | Self::ForeignUrl
            | Self::Disabled
            | Self::Answer(_)
            | Self::KeySet(_)
            | Self::Token { .. } => {
                "weir: this workload could not be signed in; ask the platform team, \
                 the reason is in Weir's log"
            }
        }
    }

    /// The same for whoever presented a token: fixed texts as well, that name the failing step.
    #[must_use]
    pub fn presenter_text(&self) -> &'static str {
        match self {
            Self::Token { refusal } => refusal.presenter_text(),
            Self::Disabled => {
                "weir: the identity whose access token was presented is disabled; \
                 ask the platform team"
            }
            Self::Throttled { .. } | Self::Away { .. } => {
                "weir: the presented access token could not be checked because the identity \
                 provider does not answer; try again later"
            }
            Self::NotConfigured(_)
            | Self::TenantNotAllowed
            | Self::Assertion(_)
            | Self::TokenRequestDenied
            | Self::TokenRequestGone
            | Self::Refused(_)
            | Self::Malformed { .. }
            | Self::Status { .. }
            | Self::ForeignUrl
            | Self::Answer(_)
            | Self::KeySet(_) => {
                "weir: the presented access token could not be checked; ask the platform team, \
                 the reason is in Weir's log"
            }
        }
    }

    /// What is wrong and what to do, for the operator.
    #[must_use]
    pub fn operator_text(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.operator_text(),
            Self::Away { what } => {
                format!("{what} cannot be had: check the network path to identity.authority")
            }
            Self::Throttled {
                retry_after_s: Some(seconds),
            } => {
                format!("Entra throttles this node: it asks to wait {seconds} s")
            }
            Self::NotConfigured(_)
            | Self::TenantNotAllowed
            | Self::Assertion(_)
            | Self::TokenRequestDenied
            | Self::TokenRequestGone
            | Self::Throttled {
                retry_after_s: None,
            }
            | Self::Malformed { .. }
            | Self::Status { .. }
            | Self::ForeignUrl
            | Self::Disabled
            | Self::Answer(_)
            | Self::KeySet(_)
            | Self::Token { .. } => self.to_string(),
        }
    }

    /// Entra itself ended this identity: live sessions end too.
    #[must_use]
    pub fn revokes(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.kind == RefusalKind::Revoked)
    }

    /// Nothing was said about the identity: what is bound stays bound until it expires.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Throttled { .. } | Self::Away { .. })
    }
}

impl From<TokenRefusal> for Unidentified {
    fn from(refusal: TokenRefusal) -> Self {
        Self::Token { refusal }
    }
}

impl Fault for Unidentified {
    fn kind(&self) -> FaultKind {
        FaultKind::Unidentified
    }
}
