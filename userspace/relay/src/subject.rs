//! Whose a flow is: one principal, or the subject of a presented token beside its workload.

use std::sync::Arc;

use weir_decide::{Bound, PolicySet};
use weir_model::ident::Principal;

use crate::node::{Node, Target};

/// Who is permitted or not, and recorded.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) principal: Arc<Principal>,
    /// The workload's own principal, where its client presented a token of `principal`.
    pub(crate) attested: Option<Arc<Principal>>,
}

impl Subject {
    pub(crate) const fn own(principal: Arc<Principal>) -> Self {
        Self {
            principal,
            attested: None,
        }
    }

    pub(crate) const fn presented(principal: Arc<Principal>, attested: Arc<Principal>) -> Self {
        Self {
            principal,
            attested: Some(attested),
        }
    }

    /// All whose revocation ends the flow.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Principal> {
        [Some(&self.principal), self.attested.as_ref()]
            .into_iter()
            .flatten()
            .map(|principal| &**principal)
    }

    /// Both have to be permitted where there are two.
    pub(crate) fn bind(&self, policies: &Arc<PolicySet>, target: &Target) -> Bound {
        let reference = target.reference();
        let bound = match &self.attested {
            Some(attested) => policies.bind_presented(&self.principal, attested, &reference),
            None => policies.bind(&self.principal, &reference),
        };
        let bound = bound.sharing(&target.budgets);
        if target.observe {
            bound.observing()
        } else {
            bound
        }
    }

    pub(crate) fn revoked(&self, node: &Node, workload: &str, cgroup: u64) -> bool {
        self.all()
            .any(|principal| node.killed.covers(principal, workload, cgroup))
    }

    /// For the record, which has columns for one: who presented the token.
    pub(crate) fn note(&self) -> Option<String> {
        let attested = self.attested.as_ref()?;
        Some(format!(
            "presented by {} {} of application {}, tenant {} ({})",
            attested.workload,
            attested.oid,
            attested.app,
            attested.tenant,
            attested.evidence.label()
        ))
    }
}
