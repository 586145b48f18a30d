//! Pods as the API server knows them, and as what each signs in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use weir_discover::{Change, Pod, ServiceAccount};
use weir_identify::{
    Account, AssertionSource, Attested, ClusterKeys, Method, TokenRequests, WorkloadIdentity,
};
use weir_relay::{PodAsk, PodIdentities, PodIdentity};

use crate::config::{self, Config, Members};

/// What the watches have told so far.
#[derive(Default)]
pub(crate) struct PodBook(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_uid: BTreeMap<String, Pod>,
    /// By namespace and name.
    accounts: BTreeMap<(String, String), ServiceAccount>,
}

impl PodBook {
    fn locked(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn hear_pods(&self, change: &Change) {
        let mut known = self.locked();
        match change {
            Change::All(objects) => {
                known.by_uid.clear();
                objects.iter().for_each(|object| known.put(object));
            }
            Change::Put(object) => known.put(object),
            Change::Gone(object) => known.strike(object),
        }
    }

    /// All of `namespace`.
    pub(super) fn hear_accounts(&self, namespace: &str, change: &Change) {
        let mut known = self.locked();
        let key = |one: &ServiceAccount| (one.namespace.clone(), one.name.clone());
        match change {
            Change::All(objects) => {
                known.accounts.retain(|(of, _), _| of != namespace);
                let read = objects.iter().filter_map(ServiceAccount::read);
                known.accounts.extend(read.map(|one| (key(&one), one)));
            }
            Change::Put(object) => {
                let read = ServiceAccount::read(object);
                known.accounts.extend(read.map(|one| (key(&one), one)));
            }
            Change::Gone(object) => {
                if let Some(one) = ServiceAccount::read(object) {
                    known.accounts.remove(&key(&one));
                }
            }
        }
    }
}

impl Known {
    fn put(&mut self, object: &Value) {
        match Pod::read(object).filter(|_| !Pod::has_ended(object)) {
            Some(pod) => {
                self.by_uid.insert(pod.uid.clone(), pod);
            }
            None => self.strike(object),
        }
    }

    fn strike(&mut self, object: &Value) {
        if let Some(uid) = object.pointer("/metadata/uid").and_then(Value::as_str) {
            self.by_uid.remove(uid);
        }
    }
}

/// How the pods of one workload sign in.
pub(super) struct SigningPods {
    pub(super) book: Arc<PodBook>,
    pub(super) workload: String,
    /// Where the service account does not name one.
    pub(super) tenant: String,
    /// Configured; else the service account names it.
    pub(super) client_id: Option<String>,
    pub(super) means: Means,
    /// Of the token exchange, by which the projected token is found.
    pub(super) audience: String,
    /// This node's name in the cluster.
    pub(super) node: Option<String>,
    pub(super) cluster: Option<Arc<ClusterKeys>>,
}

/// By what a pod proves itself.
pub(super) struct Means {
    /// Of Entra Agent ID.
    pub(super) blueprint: Option<String>,
    pub(super) token: PodTokens,
}

/// Where the pod's own service-account token comes from.
pub(super) enum PodTokens {
    /// The broker reads it: the kubelet's copy.
    Kubelet,
    /// The broker reads it inside the pod.
    InContainer,
    /// The API server gives one.
    Requested(Arc<TokenRequests>),
}

impl PodIdentities for SigningPods {
    fn of(&self, uid: &str) -> Result<PodIdentity, String> {
        let (pod, account) = {
            let known = self.book.locked();
            let pod = known.by_uid.get(uid).cloned();
            let pod = pod.ok_or_else(|| format!("pod {uid} is not one of this node's"))?;
            let key = (pod.namespace.clone(), pod.service_account.clone());
            (pod, known.accounts.get(&key).cloned())
        };
        if pod.service_account.is_empty() {
            return Err(format!(
                "pod {}/{} has no service account",
                pod.namespace, pod.name
            ));
        }
        Ok(PodIdentity {
            identity: WorkloadIdentity {
                name: self.workload.clone(),
                tenant: self.tenant_of(account.as_ref()),
                client_id: self.client_of(&pod, account.as_ref())?,
                method: self.method(&pod)?,
                attested: Some(Attested {
                    namespace: pod.namespace.clone(),
                    service_account: pod.service_account.clone(),
                    pod_uid: Some(pod.uid.clone()),
                    node: self.node.clone(),
                    cluster: self.cluster.clone(),
                }),
                cgroup: None,
            },
            ask: PodAsk {
                volume: self.volume(&pod),
                uid: pod.uid,
            },
        })
    }

    fn has_application(&self, client_id: &str) -> bool {
        self.is_application(client_id)
    }
}

impl SigningPods {
    fn is_application(&self, client_id: &str) -> bool {
        match &self.client_id {
            Some(configured) => configured == client_id,
            None => {
                let known = self.book.locked();
                let mut accounts = known.accounts.values();
                accounts.any(|account| account.client_id.as_deref() == Some(client_id))
            }
        }
    }

    fn tenant_of(&self, account: Option<&ServiceAccount>) -> String {
        // One that is not allowed is refused at the sign-in.
        let annotated = account.and_then(|account| account.tenant.clone());
        annotated.unwrap_or_else(|| self.tenant.clone())
    }

    fn client_of(&self, pod: &Pod, account: Option<&ServiceAccount>) -> Result<String, String> {
        if let Some(configured) = &self.client_id {
            return Ok(configured.clone());
        }
        let annotated = account.and_then(|account| account.client_id.clone());
        annotated.filter(|id| config::is_guid(id)).ok_or_else(|| {
            format!(
                "service account {}/{} names no application: annotate it with \
                 azure.workload.identity/client-id (a GUID), or configure client_id",
                pod.namespace, pod.service_account
            )
        })
    }

    fn method(&self, pod: &Pod) -> Result<Method, String> {
        let source = match &self.means.token {
            PodTokens::Kubelet | PodTokens::InContainer => AssertionSource::Handed,
            PodTokens::Requested(from) => {
                let request = from.of(&Account {
                    namespace: pod.namespace.clone(),
                    name: pod.service_account.clone(),
                    pod: Some((pod.name.clone(), pod.uid.clone())),
                });
                AssertionSource::Requested(Arc::new(request?))
            }
        };
        Ok(match &self.means.blueprint {
            None => Method::Federated(source),
            Some(blueprint) => Method::AgentId {
                blueprint: blueprint.clone(),
                source,
            },
        })
    }

    fn volume(&self, pod: &Pod) -> Option<(String, String)> {
        let mut tokens = pod.tokens.iter();
        let token = tokens.find(|token| token.audience == self.audience)?;
        Some((token.volume.clone(), token.path.clone()))
    }
}

/// Namespaces whose service accounts have to be known.
pub(super) fn namespaces(config: &Config) -> BTreeSet<String> {
    let workloads = config.workloads.iter();
    let named = workloads.filter_map(|one| match &one.members {
        Members::Pods(selector) if one.sign_in.is_of_pods() => Some(selector.namespace.clone()),
        Members::Pods(_) | Members::Cgroup(_) | Members::Container(_) => None,
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const UID: &str = "0f5b1a3c-1111-4222-8333-444455556666";
    const CLIENT: &str = "a9000000-0000-4000-8000-000000000001";

    fn pod() -> Value {
        json!({
            "metadata": { "uid": UID, "namespace": "agents", "name": "analyst-0" },
            "spec": {
                "serviceAccountName": "analyst",
                "volumes": [{ "name": "azure", "projected": { "sources": [
                    { "serviceAccountToken": { "audience": "api://x", "path": "token" } },
                ] } }],
            },
            "status": { "phase": "Running" },
        })
    }

    fn account(annotations: &Value) -> Value {
        json!({ "metadata": {
            "namespace": "agents", "name": "analyst", "annotations": annotations,
        } })
    }

    fn signing(client_id: Option<&str>) -> SigningPods {
        SigningPods {
            book: Arc::default(),
            workload: "agents".to_owned(),
            tenant: "configured".to_owned(),
            client_id: client_id.map(ToOwned::to_owned),
            means: Means {
                blueprint: None,
                token: PodTokens::Kubelet,
            },
            audience: "api://x".to_owned(),
            node: Some("n1".to_owned()),
            cluster: None,
        }
    }

    #[test]
    fn a_pod_signs_in_as_its_service_account_says() {
        let pods = signing(None);
        assert!(pods.of(UID).unwrap_err().contains("not one of this node's"));
        pods.book.hear_pods(&Change::All(vec![pod()]));
        assert!(pods.of(UID).unwrap_err().contains("annotate it"));
        for (annotations, good) in [
            (json!({ "azure.workload.identity/client-id": CLIENT }), true),
            (
                json!({ "azure.workload.identity/client-id": "../x" }),
                false,
            ),
            (json!({}), false),
        ] {
            let change = Change::Put(account(&annotations));
            pods.book.hear_accounts("agents", &change);
            assert_eq!(pods.of(UID).is_ok(), good, "{annotations}");
        }
        let annotations = json!({
            "azure.workload.identity/client-id": CLIENT,
            "azure.workload.identity/tenant-id": "annotated",
        });
        let all = Change::All(vec![account(&annotations)]);
        pods.book.hear_accounts("agents", &all);
        let found = pods.of(UID).unwrap();
        assert_eq!(found.identity.client_id, CLIENT);
        assert_eq!(found.identity.tenant, "annotated");
        let attested = found.identity.attested.unwrap();
        assert_eq!(attested.pod_uid.as_deref(), Some(UID));
        assert_eq!(attested.service_account, "analyst");
        let volume = ("azure".to_owned(), "token".to_owned());
        assert_eq!(found.ask.volume, Some(volume));
        assert!(pods.has_application(CLIENT) && !pods.has_application("annotated"));
        // Another namespace's list takes nothing away.
        pods.book.hear_accounts("shop", &Change::All(Vec::new()));
        assert!(pods.of(UID).is_ok());
        pods.book.hear_accounts("agents", &Change::All(Vec::new()));
        assert!(pods.of(UID).is_err());
    }

    #[test]
    fn what_is_configured_needs_no_annotation_and_a_gone_pod_signs_in_no_more() {
        let pods = signing(Some(CLIENT));
        pods.book.hear_pods(&Change::Put(pod()));
        let found = pods.of(UID).unwrap();
        assert_eq!(found.identity.tenant, "configured");
        let mut ended = pod();
        ended["status"]["phase"] = json!("Succeeded");
        pods.book.hear_pods(&Change::Put(ended));
        assert!(pods.of(UID).is_err());
        pods.book.hear_pods(&Change::Put(pod()));
        pods.book.hear_pods(&Change::Gone(pod()));
        assert!(pods.of(UID).is_err());
        pods.book.hear_pods(&Change::Put(pod()));
        pods.book.hear_pods(&Change::All(Vec::new()));
        assert!(pods.of(UID).is_err());
    }
}
