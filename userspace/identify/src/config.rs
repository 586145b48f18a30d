//! The identity part of the configuration, checked as a whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::authority::Authority;
use crate::guid::is_nonzero_guid;

/// As written; [`Settings::check`] makes it usable.
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    /// A cloud's name (`public`, `usgov`, `china`) or an https origin.
    pub authority: String,
    /// Permits `http://` to a loopback address, for tests.
    pub allow_plain_loopback: bool,
    /// Tenant GUIDs whose principals may be bound. People sign in to the first.
    pub tenants: Vec<String>,
    /// Client-id GUID of the enforcer's own API registration.
    pub audience: String,
    /// App role that a workload must have on the enforcer.
    pub required_role: String,
    /// Public client for the device code sign-in of reviewers.
    pub reviewer_client_id: Option<String>,
    /// Delegated scope that a reviewer's token must have.
    pub reviewer_scope: String,
    /// Seconds that the authority's clock may differ; at most 300.
    pub clock_skew_s: u32,
    /// Seconds after which an active identity is minted anew, ± 20 %; 1 to 3600.
    pub remint_s: u32,
    /// Origin of the machine's metadata service; its well-known address when absent.
    pub metadata: Option<String>,
    /// Where groups are asked for that a token leaves out.
    pub graph: Option<crate::groups::GraphConfig>,
}

/// Revocation has no push: this bounds how late Entra's word is heard.
pub const REMINT_S_DEFAULT: u32 = 750;
const REMINT_S_MAX: u32 = 3600;
/// Link-local, the same on every machine of the cloud.
const METADATA: &str = "http://169.254.169.254";

/// One thing that is wrong, with the key it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub key: String,
    pub text: String,
}

/// Everything that is wrong with an [`IdentityConfig`]; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.lines())]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    fn lines(&self) -> String {
        let lines: Vec<String> = self
            .0
            .iter()
            .map(|problem| format!("{}: {}", problem.key, problem.text))
            .collect();
        lines.join("; ")
    }
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) authority: Authority,
    pub(crate) tenants: Vec<Arc<str>>,
    pub(crate) audience: Arc<str>,
    pub(crate) required_role: Arc<str>,
    pub(crate) reviewer_client_id: Option<Arc<str>>,
    pub(crate) reviewer_scope: Arc<str>,
    pub(crate) clock_skew_s: i64,
    pub(crate) remint_s: i64,
    pub(crate) metadata: Arc<str>,
}

const TENANTS_MAX: usize = 64;
const CLOCK_SKEW_S_MAX: u32 = 300;

impl Settings {
    /// Reports every problem at once.
    pub(crate) fn check(config: &IdentityConfig) -> Result<Self, Problems> {
        let mut problems = Vec::new();
        let mut say = |key: String, text: &str| {
            problems.push(Problem {
                key,
                text: text.to_owned(),
            });
        };
        let authority = match Authority::parse(&config.authority, config.allow_plain_loopback) {
            Ok(authority) => Some(authority),
            Err(text) => {
                say("authority".to_owned(), &text);
                None
            }
        };
        if config.tenants.is_empty() || config.tenants.len() > TENANTS_MAX {
            say("tenants".to_owned(), "needs 1 to 64 tenant GUIDs");
        }
        let mut seen = BTreeSet::new();
        for (index, tenant) in config.tenants.iter().enumerate() {
            if !is_nonzero_guid(tenant) {
                say(format!("tenants[{index}]"), "must be a lower-case GUID");
            } else if !seen.insert(tenant) {
                say(format!("tenants[{index}]"), "is listed twice");
            }
        }
        if !is_nonzero_guid(&config.audience) {
            say(
                "audience".to_owned(),
                "must be the enforcer's client id, a lower-case GUID",
            );
        }
        if config.required_role.is_empty() {
            say(
                "required_role".to_owned(),
                "must name an app role, such as Agent.Connect",
            );
        }
        if let Some(client) = &config.reviewer_client_id {
            if !is_nonzero_guid(client) {
                say("reviewer_client_id".to_owned(), "must be a lower-case GUID");
            }
            if *client == config.audience {
                say(
                    "reviewer_client_id".to_owned(),
                    "must differ from audience: a separate public client, or its id_tokens would carry the API's audience",
                );
            }
        }
        if !is_scope_word(&config.reviewer_scope) {
            say(
                "reviewer_scope".to_owned(),
                "must be one scope name, such as Agent.Run",
            );
        }
        if config.clock_skew_s > CLOCK_SKEW_S_MAX {
            say("clock_skew_s".to_owned(), "must be at most 300");
        }
        if !(1..=REMINT_S_MAX).contains(&config.remint_s) {
            say("remint_s".to_owned(), "must be from 1 to 3600");
        }
        let metadata = config.metadata.as_deref().unwrap_or(METADATA);
        if metadata != METADATA && Authority::parse_local(metadata).is_err() {
            say(
                "metadata".to_owned(),
                "must be a plain http origin on loopback (tests), or absent",
            );
        }
        match authority {
            Some(authority) if problems.is_empty() => Ok(Self {
                authority,
                tenants: config
                    .tenants
                    .iter()
                    .map(|tenant| Arc::from(tenant.as_str()))
                    .collect(),
                audience: config.audience.as_str().into(),
                required_role: config.required_role.as_str().into(),
                reviewer_client_id: config.reviewer_client_id.as_deref().map(Arc::from),
                reviewer_scope: config.reviewer_scope.as_str().into(),
                clock_skew_s: i64::from(config.clock_skew_s),
                remint_s: i64::from(config.remint_s),
                metadata: metadata.trim_end_matches('/').into(),
            }),
            Some(_) | None => Err(Problems(problems)),
        }
    }
}

fn is_scope_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::{IdentityConfig, Settings};

    #[test]
    fn every_problem_is_reported_at_once() {
        let config = IdentityConfig {
            authority: "http://10.0.0.1".to_owned(),
            allow_plain_loopback: true,
            tenants: vec!["X".to_owned()],
            audience: "00000000-0000-0000-0000-000000000000".to_owned(),
            required_role: String::new(),
            reviewer_client_id: Some("nobody".to_owned()),
            reviewer_scope: "two words".to_owned(),
            clock_skew_s: 301,
            remint_s: 0,
            metadata: Some("http://10.0.0.1".to_owned()),
            graph: None,
        };
        let problems = Settings::check(&config).unwrap_err();
        let keys: Vec<&str> = problems
            .0
            .iter()
            .map(|problem| problem.key.as_str())
            .collect();
        assert_eq!(
            keys,
            [
                "authority",
                "tenants[0]",
                "audience",
                "required_role",
                "reviewer_client_id",
                "reviewer_scope",
                "clock_skew_s",
                "remint_s",
                "metadata",
            ]
        );
    }
}
