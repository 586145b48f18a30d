//! The verdict of `weir token verify` on one token.

use serde::Serialize;
use weir_model::ident::PrincipalKind;
use weir_model::time::Now;

use crate::Identify;
use crate::keys::fetch::Wanted;
use crate::refusal::Unidentified;
use crate::validate::{Accepted, Opened, TokenRefusal, open};

/// What the validator says of one token. JSON of `weir token verify`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub ok: bool,
    /// Number of the failing step, from 1; absent for a good token.
    pub step: Option<u8>,
    pub step_name: Option<&'static str>,
    /// Stable name of the reason.
    pub code: Option<&'static str>,
    pub reason: Option<String>,
    /// Only of a good token: claims of any other prove nothing.
    pub claims: Option<ClaimsSummary>,
}

/// Whom a good token proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClaimsSummary {
    /// `application` or `person`.
    pub kind: &'static str,
    pub cloud: String,
    pub tenant: String,
    pub oid: String,
    pub app: String,
    pub roles: Vec<String>,
    /// `known`, `overage` or `unknown`.
    pub groups_state: &'static str,
    pub groups: Vec<String>,
    pub token_id: String,
    /// Unix seconds.
    pub expires_s: i64,
}

impl Identify {
    /// Asks every tenant for its endpoints and keys, for `weir doctor`.
    ///
    /// # Errors
    /// Per tenant, what could not be had.
    pub async fn reach(&self, now: Now) -> Vec<(String, Result<(), Unidentified>)> {
        let mut outcomes = Vec::with_capacity(self.settings.tenants.len());
        for tenant in &self.settings.tenants {
            let discovery = self
                .keys
                .discovery(&self.http, &self.settings, tenant, now)
                .await;
            outcomes.push((tenant.to_string(), discovery.map(drop)));
        }
        outcomes
    }

    /// Runs steps 1 to 17 on a token of any configured tenant.
    pub async fn verify(&self, token: &str, now: Now) -> Verdict {
        let opened = match open(token) {
            Ok(opened) => opened,
            Err(refusal) => return Verdict::refused(refusal),
        };
        if let Err(away) = self.ensure_key(&opened, now).await {
            return Verdict::keys_missing(&away);
        }
        match opened.check(&self.keys.snapshot(now), &self.rules, None, now.unix_s()) {
            Ok(accepted) => Verdict::good(&accepted, &self.settings.authority.cloud),
            Err(refusal) => Verdict::refused(refusal),
        }
    }

    /// The token's tenant is unknown until its signature holds: every tenant's keys are wanted. One
    /// tenant's known key is no reason to ask the others again, whose own chance to find a new key
    /// would be used up by that.
    pub(crate) async fn ensure_key(
        &self,
        opened: &Opened<'_>,
        now: Now,
    ) -> Result<(), Unidentified> {
        // A tenant whose keys cannot be had is no reason either, while another has this one.
        let _held = self.ensure_keys(None, now).await;
        if self.keys.snapshot(now).knows(opened.kid()) {
            return Ok(());
        }
        self.ensure_keys(Some(opened.kid()), now).await
    }

    async fn ensure_keys(&self, kid: Option<&str>, now: Now) -> Result<(), Unidentified> {
        let mut last = Ok(());
        for tenant in &self.settings.tenants {
            let wanted = Wanted { tenant, kid };
            let ensured = self
                .keys
                .ensure(&self.http, &self.settings, wanted, now)
                .await;
            if ensured.is_err() {
                last = ensured;
            }
        }
        last
    }
}

impl Verdict {
    fn refused(refusal: TokenRefusal) -> Self {
        Self {
            ok: false,
            step: Some(refusal.step()),
            step_name: Some(refusal.step_name()),
            code: Some(refusal.code()),
            reason: Some(refusal.to_string()),
            claims: None,
        }
    }

    fn keys_missing(error: &Unidentified) -> Self {
        let step = TokenRefusal::UnknownKey;
        Self {
            ok: false,
            step: Some(step.step()),
            step_name: Some(step.step_name()),
            code: Some(error.code()),
            reason: Some(error.operator_text()),
            claims: None,
        }
    }

    fn good(accepted: &Accepted, cloud: &str) -> Self {
        Self {
            ok: true,
            step: None,
            step_name: None,
            code: None,
            reason: None,
            claims: Some(ClaimsSummary::of(accepted, cloud)),
        }
    }
}

impl ClaimsSummary {
    pub(crate) fn of(accepted: &Accepted, cloud: &str) -> Self {
        Self {
            kind: match accepted.kind {
                PrincipalKind::Application => "application",
                PrincipalKind::Person => "person",
            },
            cloud: cloud.to_owned(),
            tenant: accepted.tenant.to_string(),
            oid: accepted.oid.to_string(),
            app: accepted.app.to_string(),
            roles: accepted.roles.iter().map(ToString::to_string).collect(),
            groups_state: accepted.groups.state(),
            groups: accepted.groups.certain().map(ToString::to_string).collect(),
            token_id: accepted.token_id.to_string(),
            expires_s: accepted.expires_s,
        }
    }
}
