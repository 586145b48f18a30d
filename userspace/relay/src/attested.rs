//! Who signs in for a flow: the workload, the person of a process tree, or the pod that the kernel
//! saw connecting.
//!
//! A flow's cgroup was captured by the kernel at its connect. The broker says which pod it belongs
//! to, the API server what that pod is; nothing is taken from the pod itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use weir_identify::{Method, WorkloadIdentity};
use weir_model::addr::CgroupId;

use crate::bind::Unbound;
use crate::host::PodAsk;
use crate::node::{Node, WorkloadBinding};

/// Cgroups whose pods are remembered; an id is never given twice.
const KNOWN_MAX: usize = 8192;

/// What the API server says of pods. Implemented by `enforcer` over its watch.
pub trait PodIdentities: Send + Sync {
    /// As what that pod signs in now.
    ///
    /// # Errors
    /// Why it cannot, for the operator.
    fn of(&self, uid: &str) -> Result<PodIdentity, String>;

    /// Whether some pod signs in, or could, as this application.
    fn has_application(&self, client_id: &str) -> bool;
}

/// One pod's way to its principal.
#[derive(Clone, Debug)]
pub struct PodIdentity {
    pub identity: WorkloadIdentity,
    pub ask: PodAsk,
}

/// Pods by the cgroups that flows came from.
#[derive(Default)]
pub(crate) struct Attested(Mutex<HashMap<u64, Arc<str>>>);

impl Attested {
    fn get(&self, cgroup: u64) -> Option<Arc<str>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&cgroup).cloned()
    }

    fn put(&self, cgroup: u64, uid: &Arc<str>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(cgroup, Arc::clone(uid));
    }
}

/// Who signs in.
pub(crate) struct Whose {
    pub(crate) identity: WorkloadIdentity,
    /// Of this pod, when it is one's own token.
    pub(crate) pod: Option<PodAsk>,
}

impl Node {
    /// Asks the broker once for each cgroup.
    pub(crate) async fn whose(&self, workload: &str, cgroup: u64) -> Result<Whose, Unbound> {
        if let Some(WorkloadBinding::Pods(_)) = self.workloads.get(workload)
            && self.attested.get(cgroup).is_none()
        {
            let uid = self.host.pod(CgroupId(cgroup)).await;
            let uid = uid.map_err(|error| unattested(&error.to_string()))?;
            let uid =
                uid.ok_or_else(|| unattested("the cgroup belongs to no pod that is known"))?;
            self.attested.put(cgroup, &Arc::from(uid));
        }
        self.whose_is(workload, cgroup)
    }

    /// Without asking anybody.
    fn whose_is(&self, workload: &str, cgroup: u64) -> Result<Whose, Unbound> {
        match self.workloads.get(workload) {
            None => Err(Unbound {
                code: "unknown_workload",
                text: "weir: this workload is not configured",
                operator: format!("workload {workload} has no identity in the configuration"),
            }),
            Some(WorkloadBinding::Whole(identity)) => {
                let mut identity = identity.as_ref().clone();
                // People are bound by process tree.
                if matches!(identity.method, Method::Person) {
                    identity.cgroup = Some(cgroup);
                }
                Ok(Whose {
                    identity,
                    pod: None,
                })
            }
            Some(WorkloadBinding::Pods(pods)) => {
                let uid = self.attested.get(cgroup);
                let uid = uid.ok_or_else(|| unattested("the pod was not asked for yet"))?;
                let found = pods.of(&uid).map_err(|error| unattested(&error))?;
                Ok(Whose {
                    identity: found.identity,
                    pod: Some(found.ask),
                })
            }
        }
    }

    /// As far as it is known by now.
    pub(crate) fn identity_now(&self, workload: &str, cgroup: u64) -> Option<WorkloadIdentity> {
        let whose = self.whose_is(workload, cgroup).ok()?;
        Some(whose.identity)
    }

    /// Ends the flows that sign in as this one does, since it has been revoked.
    pub(crate) fn end_all_of(&self, workload: &str, whose: &Whose, text: &'static str) -> usize {
        self.registry.kill_where(text, |row| {
            let same_pod = whose.pod.as_ref().is_none_or(|pod| {
                let other = self.attested.get(row.owner.cgroup);
                other.is_some_and(|other| *other == *pod.uid)
            });
            &*row.workload == workload && same_pod
        })
    }
}

fn unattested(why: &str) -> Unbound {
    Unbound {
        code: "unattested",
        text: "weir: the pod of this connection is not known to the cluster's API as one that may \
               sign in; try again in a moment",
        operator: why.to_owned(),
    }
}
