//! What all flows of a node share.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use weir_decide::{Budgets, PolicySet, TargetRef};
use weir_govern::CancelKey;
use weir_identify::{Identify, Method, WorkloadIdentity};
use weir_mask::{MaskKey, OutputPatterns};
use weir_model::flow::FlowOrigin;
use weir_model::ident::{RevokedKind, SessionId};
use weir_state::State;

use crate::attested::{Attested, PodIdentities};
use crate::catalog::CatalogCache;
use crate::credentials::Credentials;
use crate::found::FoundPlaces;
use crate::host::{FlowNote, Host, HostError};
use crate::killed::{self, KillList};
use crate::metrics::Metrics;
use crate::protocol::Protocol;
use crate::registry::{FlowRow, KillOutcome, Registry};
use crate::subject::Subject;

/// One protected service.
pub struct Target {
    pub name: Arc<str>,
    pub protocol: Protocol,
    /// Address and prefix length.
    pub nets: Vec<(IpAddr, u8)>,
    /// Empty means any.
    pub ports: Vec<u16>,
    /// Where it was found to be by name.
    pub found: FoundPlaces,
    pub tls: Option<TlsAcceptor>,
    pub tls_required: bool,
    /// Clients present an access token in the protocol; only where TLS is required.
    pub accept_token: bool,
    /// How the server is proven, where its protocol does not do that itself.
    pub upstream_tls: Option<UpstreamTls>,
    /// Keys of ConfigMaps that masks are for; all when empty.
    pub config_keys: Arc<[String]>,
    /// For SSH only.
    pub ssh: Option<SshTarget>,
    /// What is injected.
    pub credentials: Credentials,
    /// Policy says what it would do, and does not do it.
    pub observe: bool,
    /// What principals used here, for budgets that begin anew.
    pub budgets: Budgets,
}

/// Trusts one CA, for one name.
#[derive(Clone)]
pub struct UpstreamTls {
    pub connector: tokio_rustls::TlsConnector,
    pub name: rustls::pki_types::ServerName<'static>,
}

/// By what agents know the host, and what the host is known by.
#[derive(Clone)]
pub struct SshTarget {
    pub identity: weir_ssh::HostIdentity,
    pub keys: weir_ssh::ServerKeys,
    /// What the target's secrets are.
    pub secret: SshSecret,
}

/// How an account of SSH is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SshSecret {
    Password,
    Key,
}

impl Target {
    /// As policy knows it.
    pub(crate) fn reference(&self) -> TargetRef {
        TargetRef {
            name: Arc::clone(&self.name),
            namespace: self.protocol.namespace(),
        }
    }
}

/// All targets; the longest prefix wins, an exact port before any port.
pub struct Targets(Vec<Arc<Target>>);

impl Targets {
    #[must_use]
    pub fn new(targets: Vec<Arc<Target>>) -> Self {
        Self(targets)
    }

    /// `None` when no target covers the address: the kernel redirected what we do not know, and
    /// the flow is refused.
    #[must_use]
    pub fn find(&self, dst: SocketAddr) -> Option<&Arc<Target>> {
        let ip = dst.ip().to_canonical();
        let mut best: Option<((bool, u8), &Arc<Target>)> = None;
        for target in &self.0 {
            if let Some(exact) = target.found.covers(ip, dst.port()) {
                // A whole address: nothing is longer.
                let rank = (exact, if ip.is_ipv4() { 32 } else { 128 });
                if best.is_none_or(|(have, _)| rank > have) {
                    best = Some((rank, target));
                }
            }
            let exact = target.ports.contains(&dst.port());
            if !exact && !target.ports.is_empty() {
                continue;
            }
            for (net, prefix) in &target.nets {
                let rank = (exact, *prefix);
                if contains(*net, *prefix, ip) && best.is_none_or(|(have, _)| rank > have) {
                    best = Some((rank, target));
                }
            }
        }
        best.map(|(_, target)| target)
    }

    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Arc<Target>> {
        self.0.iter().find(|target| &*target.name == name)
    }
}

fn contains(net: IpAddr, prefix: u8, ip: IpAddr) -> bool {
    match (net, ip) {
        (IpAddr::V4(net), IpAddr::V4(ip)) => {
            let difference = u32::from(net) ^ u32::from(ip);
            difference.leading_zeros() >= u32::from(prefix)
        }
        (IpAddr::V6(net), IpAddr::V6(ip)) => {
            let difference = u128::from(net) ^ u128::from(ip);
            difference.leading_zeros() >= u32::from(prefix)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

/// How a workload is identified.
#[derive(Clone)]
pub enum WorkloadBinding {
    /// As configured, all its processes alike.
    Whole(Arc<WorkloadIdentity>),
    /// Each of its pods as what the API server says of it.
    Pods(Arc<dyn PodIdentities>),
}

/// Numbers and names that every flow needs.
#[derive(Clone, Debug)]
pub struct Settings {
    pub cluster: String,
    pub node: String,
    /// Rows of a masked reply kept in the record.
    pub rows_head: usize,
    pub hold_expires_s: u32,
    pub hold_in_transaction_s: u32,
    /// Seed for statement shapes.
    pub shape_seed: u64,
}

/// The parts that `enforcer` builds a node from.
pub struct NodeParts {
    pub host: Arc<dyn Host>,
    pub identify: Arc<Identify>,
    pub state: State,
    pub targets: Targets,
    pub workloads: HashMap<Arc<str>, WorkloadBinding>,
    pub policies: watch::Receiver<Arc<PolicySet>>,
    pub mask_key: MaskKey,
    /// Of output: what is masked where policy asks for that.
    pub patterns: OutputPatterns,
    pub metrics: Metrics,
    /// Runtime of everything that is not a flow: sign-in, catalog, broker, state.
    pub control: tokio::runtime::Handle,
    pub settings: Settings,
}

/// Shared by the workers.
pub struct Node {
    pub(crate) host: Arc<dyn Host>,
    pub(crate) identify: Arc<Identify>,
    pub(crate) state: State,
    pub(crate) targets: Targets,
    pub(crate) workloads: HashMap<Arc<str>, WorkloadBinding>,
    pub(crate) policies: watch::Receiver<Arc<PolicySet>>,
    pub(crate) mask_key: MaskKey,
    pub(crate) patterns: OutputPatterns,
    pub(crate) metrics: Metrics,
    pub(crate) control: tokio::runtime::Handle,
    pub(crate) settings: Settings,
    pub(crate) registry: Registry,
    pub(crate) killed: KillList,
    pub(crate) catalogs: CatalogCache,
    pub(crate) attested: Attested,
}

impl Node {
    #[must_use]
    pub fn new(parts: NodeParts) -> Arc<Self> {
        Arc::new(Self {
            host: parts.host,
            identify: parts.identify,
            state: parts.state,
            targets: parts.targets,
            workloads: parts.workloads,
            policies: parts.policies,
            mask_key: parts.mask_key,
            patterns: parts.patterns,
            metrics: parts.metrics,
            control: parts.control,
            settings: parts.settings,
            registry: Registry::default(),
            killed: KillList::default(),
            catalogs: CatalogCache::default(),
            attested: Attested::default(),
        })
    }

    /// A flow is whose it is from here on: for lists, and for those who have to end it.
    pub(crate) fn identified(
        &self,
        id: SessionId,
        (origin, workload): (&FlowOrigin, &Arc<str>),
        subject: &Subject,
        upstream: Option<SocketAddr>,
    ) {
        self.listed(id, subject, &(Arc::clone(workload), origin.cgroup.0));
        self.host.flow_opened(FlowNote {
            session: id,
            netns: origin.netns,
            client: origin.client.0,
            upstream,
            workload: Arc::clone(workload),
            principal: Arc::clone(&subject.principal.oid),
        });
    }

    /// As [`Self::identified`], for a flow that is announced already.
    pub(crate) fn listed(
        &self,
        id: SessionId,
        subject: &Subject,
        (workload, cgroup): &(Arc<str>, u64),
    ) {
        self.registry.identified(id, subject, *cgroup);
        if subject.revoked(self, workload, *cgroup) {
            // Revoked since it was bound.
            let _asked = self.registry.kill(id, killed::TEXT);
        }
    }

    /// A flow has ended.
    pub(crate) fn closed(&self, id: SessionId, cancel: Option<&CancelKey>) {
        self.registry.close(id, cancel);
        self.host.flow_closed(id);
    }

    /// Live flows, oldest first.
    #[must_use]
    pub fn flows(&self) -> Vec<FlowRow> {
        self.registry.rows()
    }

    /// Ends a flow with the protocol's own error.
    #[must_use]
    pub fn kill(&self, session: SessionId) -> KillOutcome {
        self.registry
            .kill(session, "weir: an administrator ended this session")
    }

    /// Ends the flows of a subject and lets none of it in again; returns how many were ended.
    pub fn revoke(&self, kind: RevokedKind, value: &str) -> usize {
        if kind != RevokedKind::Session {
            // First the list: a flow that is being bound looks at it once more when it is listed.
            self.killed.insert(kind, value);
        }
        self.registry
            .kill_where(killed::TEXT, |row| killed::concerns(kind, value, row))
    }

    /// Lets a subject in again.
    pub fn lift(&self, kind: RevokedKind, value: &str) {
        self.killed.remove(kind, value);
    }

    /// How a workload signs in; `None` where each pod does so for itself.
    #[must_use]
    pub fn identity(&self, workload: &str) -> Option<WorkloadIdentity> {
        match self.workloads.get(workload)? {
            WorkloadBinding::Whole(identity) => Some(identity.as_ref().clone()),
            WorkloadBinding::Pods(_) => None,
        }
    }

    /// Whether a configured workload signs in as this application.
    pub(crate) fn has_application(&self, client_id: &str) -> bool {
        self.workloads.values().any(|binding| match binding {
            // People share the public client: it is nobody's own.
            WorkloadBinding::Whole(identity) => {
                !matches!(identity.method, Method::Person) && identity.client_id == client_id
            }
            WorkloadBinding::Pods(pods) => pods.has_application(client_id),
        })
    }

    /// Governs a process of this host, and what it starts, as `workload`; returns its cgroup's id.
    ///
    /// # Errors
    /// The broker refuses or is gone.
    pub async fn enrol(&self, workload: &str, pid: u32) -> Result<u64, HostError> {
        self.host.enrol(workload, pid).await
    }

    /// Flows that are open.
    #[must_use]
    pub fn open_flows(&self) -> usize {
        self.registry.count()
    }

    /// A successor serves: flows that can move do so as soon as that goes. Call it again for those
    /// that were starting.
    pub fn move_all(&self) {
        self.registry.move_all();
    }

    /// The successor's agent cancels what the session with that key runs; false when it is not
    /// here.
    #[must_use]
    pub fn cancel(&self, key: &CancelKey, workload: &str) -> bool {
        self.registry.ask_cancel(key, workload)
    }

    /// Ends all flows, for shutdown.
    pub fn kill_all(&self) {
        self.registry
            .kill_all("weir: the enforcer is shutting down; connect again");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_what_they_should() {
        let case = |net: &str, prefix, ip: &str| {
            contains(net.parse().unwrap(), prefix, ip.parse().unwrap())
        };
        assert!(case("10.77.0.0", 16, "10.77.3.4"));
        assert!(!case("10.77.0.0", 16, "10.78.0.1"));
        assert!(case("0.0.0.0", 0, "192.0.2.1"));
        assert!(case("fd77::", 64, "fd77::9"));
        assert!(!case("fd77::", 64, "fd77:0:0:1::9"));
        assert!(!case("0.0.0.0", 0, "::1"));
        assert!(case("10.0.0.1", 32, "10.0.0.1"));
        assert!(!case("10.0.0.1", 32, "10.0.0.2"));
    }
}
