//! Binds a workload to its principal, and keeps the binding as long as it is good.
//!
//! One sign-in at a time per workload; a refusal is remembered for a moment, so that a client
//! that retries in a loop does not become a load on Entra.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_model::ident::{EvidenceKind, Principal, PrincipalKind};
use weir_model::time::Now;

use crate::Identify;
use crate::federated::{check_assertion, exchange};
use crate::keys::fetch::Wanted;
use crate::refusal::Unidentified;
use crate::secret::Secret;
use crate::validate::{Accepted, open};

/// A binding lives this long at most, whatever the token says.
const BINDING_S_MAX: i64 = 3600;
/// Share of a token's life after which it is minted anew, at the latest.
const REFRESH_PERCENT: i64 = 80;
/// An active identity is minted anew after 10 to 15 min: revocation has no push.
const REMINT_S: (i64, i64) = (600, 900);
/// A refusal is repeated without asking Entra for this long.
const NEGATIVE_MS: u64 = 30_000;
/// Workload identities held at once; more than a node can have.
const BINDINGS_MAX: usize = 4096;

/// Who a workload signs in as.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkloadIdentity {
    /// Name of the workload as configured.
    pub name: String,
    /// Tenant GUID.
    pub tenant: String,
    /// Client-id GUID of the workload's own application or managed identity.
    pub client_id: String,
}

#[derive(Default)]
struct Binding {
    principal: Option<Arc<Principal>>,
    /// Unix seconds from which a new token is minted.
    refresh_at_s: i64,
    /// A refusal and the monotonic microsecond until which it is repeated.
    refused: Option<(u64, Unidentified)>,
}

/// All bindings of the node.
#[derive(Default)]
pub(crate) struct Bindings {
    slots: Mutex<HashMap<WorkloadIdentity, Arc<Slot>>>,
}

#[derive(Default)]
struct Slot {
    binding: Mutex<Binding>,
    /// Held during a sign-in.
    turn: tokio::sync::Mutex<()>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bindings {
    fn slot(&self, workload: &WorkloadIdentity) -> Arc<Slot> {
        let mut slots = locked(&self.slots);
        if let Some(slot) = slots.get(workload) {
            return Arc::clone(slot);
        }
        if slots.len() >= BINDINGS_MAX {
            slots.clear();
        }
        Arc::clone(slots.entry(workload.clone()).or_default())
    }
}

impl Slot {
    /// The principal, while no new token is due.
    fn fresh(&self, now: Now) -> Option<Arc<Principal>> {
        let binding = locked(&self.binding);
        let principal = binding.principal.as_ref()?;
        (now.unix_s() < binding.refresh_at_s && now.unix_s() < principal.valid_until_s)
            .then(|| Arc::clone(principal))
    }

    /// A refusal that still stands; a transient one gives way to a principal that is still valid.
    fn standing(&self, now: Now) -> Option<Result<Arc<Principal>, Unidentified>> {
        let binding = locked(&self.binding);
        let (until_us, refusal) = binding.refused.as_ref()?;
        (now.mono_us < *until_us).then(|| binding.instead_of(refusal.clone(), now))
    }

    fn accept(&self, principal: &Arc<Principal>, refresh_at_s: i64) {
        *locked(&self.binding) = Binding {
            principal: Some(Arc::clone(principal)),
            refresh_at_s,
            refused: None,
        };
    }

    fn refuse(&self, refusal: Unidentified, now: Now) -> Result<Arc<Principal>, Unidentified> {
        let mut binding = locked(&self.binding);
        if !refusal.is_transient() {
            binding.principal = None;
        }
        binding.refused = Some((now.mono_after_ms(NEGATIVE_MS), refusal.clone()));
        binding.instead_of(refusal, now)
    }
}

impl Binding {
    fn instead_of(&self, refusal: Unidentified, now: Now) -> Result<Arc<Principal>, Unidentified> {
        match &self.principal {
            Some(principal) if refusal.is_transient() && now.unix_s() < principal.valid_until_s => {
                Ok(Arc::clone(principal))
            }
            Some(_) | None => Err(refusal),
        }
    }
}

impl Identify {
    /// The workload's principal, if it is bound and no new token is due.
    #[must_use]
    pub fn cached(&self, workload: &WorkloadIdentity, now: Now) -> Option<Arc<Principal>> {
        self.bindings.slot(workload).fresh(now)
    }

    /// Drops what is known of a workload: the next bind asks Entra.
    pub fn forget(&self, workload: &WorkloadIdentity) {
        *locked(&self.bindings.slot(workload).binding) = Binding::default();
    }

    /// Signs in as the workload, or returns the binding that is still good.
    ///
    /// `assertion` is the workload's service-account token; it is used once and wiped.
    ///
    /// # Errors
    /// Every reason of [`Unidentified`]. Repeated calls within 30 s of a refusal repeat it
    /// without asking Entra. While Entra is away a valid binding keeps serving until it expires.
    pub async fn bind(
        &self,
        workload: &WorkloadIdentity,
        assertion: Secret,
        now: Now,
    ) -> Result<Arc<Principal>, Unidentified> {
        let slot = self.bindings.slot(workload);
        let _turn = slot.turn.lock().await;
        if let Some(principal) = slot.fresh(now) {
            return Ok(principal);
        }
        if let Some(answer) = slot.standing(now) {
            return answer;
        }
        match self.sign_in(workload, &assertion, now).await {
            Ok(accepted) => {
                let refresh_at_s = refresh_at(&accepted, now);
                let principal = Arc::new(self.principal(
                    accepted,
                    EvidenceKind::Federated,
                    &workload.name,
                    now,
                ));
                slot.accept(&principal, refresh_at_s);
                Ok(principal)
            }
            Err(refusal) => slot.refuse(refusal, now),
        }
    }

    async fn sign_in(
        &self,
        workload: &WorkloadIdentity,
        assertion: &Secret,
        now: Now,
    ) -> Result<Accepted, Unidentified> {
        let settings = &self.settings;
        if !settings
            .tenants
            .iter()
            .any(|tenant| **tenant == *workload.tenant)
        {
            return Err(Unidentified::TenantNotAllowed);
        }
        check_assertion(assertion, &settings.authority.exchange_audience, None, now)
            .map_err(Unidentified::Assertion)?;
        let discovery = self
            .keys
            .discovery(&self.http, settings, &workload.tenant, now)
            .await?;
        let endpoint = &discovery.token_endpoint;
        let token = exchange(
            &self.http,
            settings,
            endpoint,
            &workload.client_id,
            assertion,
        )
        .await?;
        let accepted = self.validated(&token, &workload.tenant, now).await?;
        accepted.bound_to(
            PrincipalKind::Application,
            &workload.tenant,
            &workload.client_id,
        )?;
        Ok(accepted)
    }

    /// Validates a token that Weir asked `tenant` for.
    pub(crate) async fn validated(
        &self,
        token: &Secret,
        tenant: &str,
        now: Now,
    ) -> Result<Accepted, Unidentified> {
        let opened = open(token.expose())?;
        let wanted = Wanted {
            tenant,
            kid: Some(opened.kid()),
        };
        self.keys
            .ensure(&self.http, &self.settings, wanted, now)
            .await?;
        let keys = self.keys.snapshot(now);
        Ok(opened.check(&keys, &self.rules, Some(tenant), now.unix_s())?)
    }

    pub(crate) fn principal(
        &self,
        accepted: Accepted,
        evidence: EvidenceKind,
        workload: &str,
        now: Now,
    ) -> Principal {
        Principal {
            kind: accepted.kind,
            cloud: Arc::clone(&self.settings.authority.cloud),
            tenant: accepted.tenant,
            oid: accepted.oid,
            app: accepted.app,
            roles: accepted.roles,
            groups: accepted.groups,
            on_behalf_of: None,
            token_id: accepted.token_id,
            evidence,
            workload: workload.into(),
            valid_until_s: accepted
                .expires_s
                .min(now.unix_s().saturating_add(BINDING_S_MAX)),
        }
    }
}

/// When to mint anew: at 80 % of the token's life at the latest, else after 10 to 15 min.
fn refresh_at(accepted: &Accepted, now: Now) -> i64 {
    let life_s = accepted.expires_s.saturating_sub(now.unix_s()).max(0);
    let cadence_s = rand::random_range(REMINT_S.0..=REMINT_S.1);
    now.unix_s()
        .saturating_add(cadence_s.min(life_s * REFRESH_PERCENT / 100))
}
