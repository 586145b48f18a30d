//! Reviewers who signed in, held in memory only.
//!
//! Keyed by the uid of the socket's peer, which is always 0 today: whoever is root on the node
//! outside the governed subtree shares a reviewer's sign-in for as long as it is fresh.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_identify::DeviceHandle;
use weir_model::ident::{Groups, Principal};
use weir_model::time::Now;

use super::api::Who;
use super::browser::Browsers;

/// Decisions are taken from a sign-in for this long.
const FRESH_S: i64 = 15 * 60;

struct SignedIn {
    principal: Arc<Principal>,
    since_s: i64,
}

/// All sign-ins and those under way.
#[derive(Default)]
pub(crate) struct SignIns {
    done: Mutex<HashMap<u32, SignedIn>>,
    under_way: Mutex<HashMap<u32, DeviceHandle>>,
    /// Whose browser has not come back.
    pub(super) browsers: Browsers,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SignIns {
    pub(crate) fn begin(&self, uid: u32, handle: DeviceHandle) {
        locked(&self.under_way).insert(uid, handle);
    }

    pub(crate) fn under_way(&self, uid: u32) -> Option<DeviceHandle> {
        locked(&self.under_way).get(&uid).cloned()
    }

    pub(crate) fn finish(&self, uid: u32, principal: Arc<Principal>, now: Now) -> Who {
        locked(&self.under_way).remove(&uid);
        let signed_in = SignedIn {
            principal,
            since_s: now.unix_s(),
        };
        let who = describe(&signed_in, now);
        locked(&self.done).insert(uid, signed_in);
        who
    }

    pub(crate) fn give_up(&self, uid: u32) {
        locked(&self.under_way).remove(&uid);
    }

    pub(crate) fn forget(&self, uid: u32) {
        locked(&self.done).remove(&uid);
    }

    /// The reviewer, while the sign-in is fresh.
    pub(crate) fn fresh(&self, uid: u32, now: Now) -> Option<Arc<Principal>> {
        let mut done = locked(&self.done);
        let signed_in = done.get(&uid)?;
        if now.unix_s() - signed_in.since_s > FRESH_S
            || now.unix_s() > signed_in.principal.valid_until_s
        {
            done.remove(&uid);
            return None;
        }
        Some(Arc::clone(&signed_in.principal))
    }

    pub(crate) fn who(&self, uid: u32, now: Now) -> Option<Who> {
        self.fresh(uid, now)?;
        locked(&self.done)
            .get(&uid)
            .map(|signed_in| describe(signed_in, now))
    }
}

/// A person of a process tree, who decides nothing.
pub(super) fn describe_person(principal: &Principal) -> Who {
    Who {
        tenant: principal.tenant.to_string(),
        oid: principal.oid.to_string(),
        groups: principal
            .groups
            .certain()
            .map(ToString::to_string)
            .collect(),
        fresh_for_s: 0,
    }
}

fn describe(signed_in: &SignedIn, now: Now) -> Who {
    let principal = &signed_in.principal;
    let groups = match &principal.groups {
        Groups::Known(ids) => ids.iter().map(ToString::to_string).collect(),
        Groups::Overage | Groups::Unknown => Vec::new(),
    };
    Who {
        tenant: principal.tenant.to_string(),
        oid: principal.oid.to_string(),
        groups,
        fresh_for_s: FRESH_S - (now.unix_s() - signed_in.since_s),
    }
}
