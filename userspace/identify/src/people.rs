//! People: the tokens of their sign-ins checked, and for those whose process trees are governed
//! (`weir run`) their refresh tokens, by cgroup.
//!
//! A refresh token stays in the node's memory, is never written down, and goes with the oldest
//! entries when there are too many.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_model::ident::{EvidenceKind, Principal, PrincipalKind};
use weir_model::time::Now;

use crate::Identify;
use crate::bind::WorkloadIdentity;
use crate::device::Signed;
use crate::federated::{Minted, minted};
use crate::refusal::Unidentified;
use crate::secret::Secret;
use crate::sign_in::Asked;
use crate::validate::id_token::Expected;
use crate::validate::open;

/// Process trees at once.
const PEOPLE_MAX: usize = 1024;

struct Person {
    refresh: Secret,
    since_us: u64,
}

#[derive(Default)]
pub(crate) struct People {
    by_cgroup: Mutex<HashMap<u64, Person>>,
}

impl People {
    fn locked(&self) -> MutexGuard<'_, HashMap<u64, Person>> {
        self.by_cgroup
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, cgroup: u64, refresh: Secret, now: Now) {
        let mut people = self.locked();
        if people.len() >= PEOPLE_MAX
            && let Some(oldest) = people
                .iter()
                .min_by_key(|(_, person)| person.since_us)
                .map(|(cgroup, _)| *cgroup)
        {
            people.remove(&oldest);
        }
        let since_us = now.mono_us;
        people.insert(cgroup, Person { refresh, since_us });
    }

    fn of(&self, cgroup: u64) -> Option<Secret> {
        let people = self.locked();
        people.get(&cgroup).map(|person| person.refresh.clone())
    }

    fn forget(&self, cgroup: u64) {
        self.locked().remove(&cgroup);
    }
}

impl Identify {
    /// Binds a person who has signed in to the process tree that `identity` names by its cgroup.
    pub fn admit(&self, identity: &WorkloadIdentity, signed: Signed, now: Now) {
        if let (Some(cgroup), Some(refresh)) = (identity.cgroup, signed.refresh) {
            self.people.keep(cgroup, refresh, now);
        }
        let principal = Principal {
            workload: identity.name.as_str().into(),
            ..signed.principal.as_ref().clone()
        };
        self.bind_person(identity, principal, now);
    }

    /// A fresh token of the person of this process tree.
    pub(crate) async fn persons_token(
        &self,
        identity: &WorkloadIdentity,
        now: Now,
    ) -> Result<Secret, Unidentified> {
        let cgroup = identity.cgroup.unwrap_or_default();
        let Some(refresh) = self.people.of(cgroup) else {
            return Err(Unidentified::NotConfigured(
                "nobody has signed in for this process tree: start it with weir run",
            ));
        };
        let endpoint = self.token_endpoint(&identity.tenant, now).await?;
        let scope = self.persons_scope();
        let fields = [
            ("grant_type", "refresh_token"),
            ("client_id", identity.client_id.as_str()),
            ("scope", scope.as_str()),
            ("refresh_token", refresh.expose()),
        ];
        let answer = self.http.post_form(&endpoint, &fields).await?;
        match minted(&answer) {
            Ok(tokens) => {
                if let Some(next) = tokens.refresh_token {
                    self.people.keep(cgroup, next, now);
                }
                Ok(tokens.access_token)
            }
            Err(refused) => {
                let refused = Unidentified::from(refused);
                if !refused.is_transient() {
                    self.people.forget(cgroup);
                }
                Err(refused)
            }
        }
    }

    /// Both tokens must hold and name the same person.
    pub(crate) async fn person(
        &self,
        asked: &Asked<'_>,
        tokens: &Minted,
        now: Now,
    ) -> Result<Arc<Principal>, Unidentified> {
        let Asked {
            tenant,
            client_id,
            nonce,
        } = *asked;
        let mut accepted = self.validated(&tokens.access_token, tenant, now).await?;
        accepted.bound_to(PrincipalKind::Person, tenant, client_id)?;
        let id_token = tokens.id_token.as_ref().ok_or(Unidentified::Malformed {
            what: "token answer without an id_token",
        })?;
        let opened = open(id_token.expose())?;
        let expected = Expected {
            tenant,
            client_id,
            oid: &accepted.oid,
            nonce,
        };
        opened.check_id_token(
            &self.keys.snapshot(now),
            &self.rules,
            &expected,
            now.unix_s(),
        )?;
        accepted.groups = self.completed(&accepted, now).await?;
        Ok(Arc::new(self.principal(
            accepted,
            EvidenceKind::Person,
            "",
            now,
        )))
    }

    /// A reviewer's: nothing renews it.
    pub(crate) fn reviewers_scope(&self) -> String {
        format!(
            "api://{}/{} openid profile",
            self.settings.audience, self.settings.reviewer_scope
        )
    }

    pub(crate) fn persons_scope(&self) -> String {
        format!(
            "api://{}/{} openid profile offline_access",
            self.settings.audience, self.settings.reviewer_scope
        )
    }
}
