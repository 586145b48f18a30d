//! Tokens that a client presents in its protocol: a PostgreSQL password, an HTTP bearer.
//!
//! Weir did not ask for them, so nothing renews them: what is bound to one ends with it, and whether
//! its subject was disabled meanwhile is asked of Graph.

use std::sync::Arc;

use weir_model::ident::{EvidenceKind, Principal, PrincipalKind};
use weir_model::time::Now;

use crate::Identify;
use crate::groups::Member;
use crate::refusal::Unidentified;
use crate::validate::{TokenRefusal, open};

/// The attested workload whose client presents the token.
#[derive(Clone, Debug)]
pub struct Presenter<'a> {
    pub name: &'a str,
    pub tenant: &'a str,
    pub client_id: &'a str,
}

impl Identify {
    /// Steps 1 to 17, then that this workload may present it. `is_workloads` tells the client ids of
    /// all configured workloads: an application token of one of them is good from that one alone.
    ///
    /// # Errors
    /// The step that failed; Graph says that the subject is disabled.
    pub async fn presented(
        &self,
        token: &str,
        presenter: &Presenter<'_>,
        is_workloads: impl Fn(&str) -> bool,
        now: Now,
    ) -> Result<Principal, Unidentified> {
        let opened = open(token)?;
        self.ensure_key(&opened, now).await?;
        let keys = self.keys.snapshot(now);
        let mut accepted = opened.check(&keys, &self.rules, None, now.unix_s())?;
        if *accepted.tenant != *presenter.tenant {
            return Err(TokenRefusal::PresentedTenant.into());
        }
        let of_other = *accepted.app != *presenter.client_id && is_workloads(&accepted.app);
        if accepted.kind == PrincipalKind::Application && of_other {
            return Err(TokenRefusal::PresentedByOther.into());
        }
        accepted.groups = self.completed(&accepted, now).await?;
        let principal = self.principal(accepted, EvidenceKind::Presented, presenter.name, now);
        match self.enabled(&principal).await {
            Err(error) if error.is_transient() => {
                // Entra's own word is younger than the token's life; the next look asks again.
                tracing::warn!(%error, oid = %principal.oid, "Graph is away: not asked for a state");
            }
            outcome => outcome?,
        }
        Ok(principal)
    }

    /// Whether a subject whose token was presented is still good.
    ///
    /// # Errors
    /// The token has ended, or Graph says that the subject is disabled or gone. Without
    /// `identity.graph` only the token's end is known.
    pub async fn still_presented(
        &self,
        principal: &Principal,
        now: Now,
    ) -> Result<(), Unidentified> {
        if now.unix_s() >= principal.valid_until_s {
            return Err(TokenRefusal::Expired.into());
        }
        match self.enabled(principal).await {
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, oid = %principal.oid, "Graph is away: the token still serves");
                Ok(())
            }
            outcome => outcome,
        }
    }

    async fn enabled(&self, principal: &Principal) -> Result<(), Unidentified> {
        let member = Member {
            tenant: Arc::clone(&principal.tenant),
            oid: Arc::clone(&principal.oid),
            kind: principal.kind,
        };
        if self.is_enabled(&member).await? {
            Ok(())
        } else {
            Err(Unidentified::Disabled)
        }
    }
}
