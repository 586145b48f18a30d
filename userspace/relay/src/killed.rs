//! The kill list in memory: looked at before a flow is bound, and again once it is listed.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use weir_model::ident::{Principal, RevokedKind};

use crate::registry::FlowRow;

/// What the agent is told.
pub(crate) const TEXT: &str =
    "weir: an administrator has revoked this identity; ask the platform team";

#[derive(Default)]
pub(crate) struct KillList {
    entries: Mutex<HashSet<(RevokedKind, String)>>,
}

impl KillList {
    fn entries(&self) -> MutexGuard<'_, HashSet<(RevokedKind, String)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, kind: RevokedKind, value: &str) {
        self.entries().insert((kind, value.to_owned()));
    }

    pub(crate) fn remove(&self, kind: RevokedKind, value: &str) {
        self.entries().remove(&(kind, value.to_owned()));
    }

    /// Whether this principal may have no session in this workload and cgroup.
    pub(crate) fn covers(&self, principal: &Principal, workload: &str, cgroup: u64) -> bool {
        let entries = self.entries();
        if entries.is_empty() {
            return false;
        }
        let person = principal.on_behalf_of.as_deref().unwrap_or_default();
        [
            (RevokedKind::Tenant, &*principal.tenant),
            (RevokedKind::Principal, &*principal.oid),
            (RevokedKind::Principal, person),
            (RevokedKind::Application, &*principal.app),
            (RevokedKind::Workload, workload),
            (RevokedKind::Cgroup, &cgroup.to_string()),
        ]
        .into_iter()
        .any(|(kind, value)| entries.contains(&(kind, value.to_owned())))
    }
}

/// Whether an entry is about this live flow.
pub(crate) fn concerns(kind: RevokedKind, value: &str, row: &FlowRow) -> bool {
    match kind {
        RevokedKind::Tenant => row.owner.all().any(|owner| owner.tenant == value),
        RevokedKind::Principal => row
            .owner
            .all()
            .any(|owner| owner.principal == value || owner.on_behalf_of == value),
        RevokedKind::Application => row.owner.all().any(|owner| owner.application == value),
        RevokedKind::Workload => *row.workload == *value,
        RevokedKind::Cgroup => row.owner.cgroup.to_string() == value,
        RevokedKind::Session => row.session.to_string() == value,
    }
}
