//! Binds a workload to its principal, and keeps the binding as long as it is good.
//!
//! One sign-in at a time per workload; a refusal is remembered for a moment, so that a client
//! that retries in a loop does not become a load on Entra.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_model::ident::{EvidenceKind, Groups, Principal};
use weir_model::time::Now;

use crate::Identify;
use crate::attest::Attested;
use crate::groups::Member;
use crate::keys::fetch::Wanted;
use crate::method::Method;
use crate::refusal::Unidentified;
use crate::secret::Secret;
use crate::validate::{Accepted, open};

/// A binding lives this long at most, whatever the token says.
const BINDING_S_MAX: i64 = 3600;
/// Share of a token's life after which it is minted anew, at the latest.
const REFRESH_PERCENT: i64 = 80;
/// The cadence of minting varies by this, so that nodes do not ask in step.
const REMINT_SPREAD_PERCENT: i64 = 20;
/// A refusal is repeated without asking Entra for this long.
const NEGATIVE_MS: u64 = 30_000;
/// While a new token is due and cannot be had, it is asked for this often.
const RETRY_S: i64 = 30;
/// Workload identities held at once; more than a node can have.
const BINDINGS_MAX: usize = 4096;

/// Who a workload signs in as, and how.
#[derive(Clone, Debug)]
pub struct WorkloadIdentity {
    /// Name of the workload as configured.
    pub name: String,
    /// Tenant GUID.
    pub tenant: String,
    /// Client-id GUID of the workload's own application or managed identity.
    pub client_id: String,
    pub method: Method,
    /// What its service-account token is compared with.
    pub attested: Option<Attested>,
    /// The process tree of a person; absent for every other method.
    pub cgroup: Option<u64>,
}

/// A recreated pod is another one, whatever its name.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    name: String,
    tenant: String,
    client_id: String,
    pod_uid: Option<String>,
    cgroup: Option<u64>,
}

impl WorkloadIdentity {
    fn key(&self) -> Key {
        let attested = self.attested.as_ref();
        Key {
            name: self.name.clone(),
            tenant: self.tenant.clone(),
            client_id: self.client_id.clone(),
            pod_uid: attested.and_then(|attested| attested.pod_uid.clone()),
            cgroup: self.cgroup,
        }
    }
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
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
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
        let key = workload.key();
        let mut slots = locked(&self.slots);
        if let Some(slot) = slots.get(&key) {
            return Arc::clone(slot);
        }
        if slots.len() >= BINDINGS_MAX {
            slots.clear();
        }
        Arc::clone(slots.entry(key).or_default())
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
    /// `handed` is what the broker handed over for a method that needs it: the workload's
    /// service-account token, or a credential that may ask for one. It is used once and wiped.
    ///
    /// # Errors
    /// Every reason of [`Unidentified`]. Repeated calls within 30 s of a refusal repeat it
    /// without asking Entra. While Entra is away a valid binding keeps serving until it expires.
    pub async fn bind(
        &self,
        workload: &WorkloadIdentity,
        handed: impl Into<Option<Secret>>,
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
        match self.sign_in(workload, handed.into(), now).await {
            Ok(mut accepted) => {
                accepted.groups = match self.completed(&accepted, now).await {
                    Ok(groups) => groups,
                    Err(refusal) => return slot.refuse(refusal, now),
                };
                let refresh_at_s = refresh_at(&accepted, self.settings.remint_s, now);
                let principal = Arc::new(self.principal(
                    accepted,
                    workload.method.evidence(),
                    &workload.name,
                    now,
                ));
                slot.accept(&principal, refresh_at_s);
                Ok(principal)
            }
            Err(refusal) => slot.refuse(refusal, now),
        }
    }

    /// Seconds until a live session of the workload should ask again: when a new token is due, or,
    /// while none can be had, soon.
    #[must_use]
    pub fn look_again_s(&self, workload: &WorkloadIdentity, now: Now) -> u64 {
        let slot = self.bindings.slot(workload);
        let refresh_at_s = locked(&slot.binding).refresh_at_s;
        let overdue_s = self.settings.remint_s.min(RETRY_S);
        match u64::try_from(refresh_at_s.saturating_sub(now.unix_s())) {
            Ok(left_s) if left_s > 0 => left_s,
            Ok(_) | Err(_) => u64::try_from(overdue_s).unwrap_or(1).max(1),
        }
    }

    /// A person's binding, right after the sign-in.
    pub(crate) fn bind_person(&self, identity: &WorkloadIdentity, principal: Principal, now: Now) {
        let remint_s = self.settings.remint_s.min(BINDING_S_MAX);
        let refresh_at_s = now.unix_s().saturating_add(remint_s);
        let slot = self.bindings.slot(identity);
        slot.accept(&Arc::new(principal), refresh_at_s);
    }

    /// Groups that the token left out.
    pub(crate) async fn completed(
        &self,
        accepted: &Accepted,
        now: Now,
    ) -> Result<Groups, Unidentified> {
        let member = Member {
            tenant: Arc::clone(&accepted.tenant),
            oid: Arc::clone(&accepted.oid),
            kind: accepted.kind,
        };
        self.groups_of(member, accepted.groups.clone(), now).await
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

/// When to mint anew: at 80 % of the token's life at the latest, else at the configured cadence.
fn refresh_at(accepted: &Accepted, remint_s: i64, now: Now) -> i64 {
    let life_s = accepted.expires_s.saturating_sub(now.unix_s()).max(0);
    let spread_s = remint_s * REMINT_SPREAD_PERCENT / 100;
    let cadence_s = rand::random_range(remint_s - spread_s..=remint_s + spread_s);
    now.unix_s()
        .saturating_add(cadence_s.min(life_s * REFRESH_PERCENT / 100))
}
