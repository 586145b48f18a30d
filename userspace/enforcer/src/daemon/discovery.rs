//! What the node finds out and tells the broker: pods of this node, and addresses of names and
//! Services.
//!
//! The relay learns of a new address before the kernel sends flows to it, and forgets an old one
//! after the kernel does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use weir_broker::client::NodeLink;
use weir_broker::{Found, MemberKind, MemberReport, World};
use weir_discover::{
    Api, ApiConfig, Change, Choice, Names, NamesConfig, Pod, Query, Resolver, Rules, ServiceName,
    Services, resolver,
};
use weir_relay::Target;

use crate::config::{Config, Members};

/// Places of one target or list, as the broker takes them.
const PLACES_MAX: usize = 512;
/// Sockets may be made in a moment only: the resolver is tried again.
const RESOLVER_EVERY: Duration = Duration::from_secs(5);

/// Read while that is still allowed.
pub(super) fn read_secrets(config: &Config) -> Result<Option<ApiConfig>> {
    let Some(kubernetes) = &config.kubernetes else {
        return Ok(None);
    };
    let ca = std::fs::read_to_string(&kubernetes.ca_file)
        .with_context(|| format!("reading {}", kubernetes.ca_file.display()))?;
    let token = std::fs::read_to_string(&kubernetes.token_file)
        .with_context(|| format!("reading {}", kubernetes.token_file.display()))?;
    Ok(Some(ApiConfig {
        host: kubernetes.host.clone(),
        port: kubernetes.port,
        ca,
        token_file: kubernetes.token_file.clone(),
        token,
    }))
}

/// What one target or list consists of.
struct Wanted {
    whose: Whose,
    /// Name and port (0: any).
    names: Vec<(String, u16)>,
    services: Vec<ServiceName>,
    /// As last told, and whether it was complete.
    told: Option<(Vec<Found>, bool)>,
}

enum Whose {
    Target(Arc<Target>),
    /// A listed workload's.
    List(String),
}

/// Everything that is known by name.
struct Known {
    names: Names,
    services: BTreeMap<ServiceName, Services>,
    /// Those whose Service and slices were both listed.
    heard: BTreeMap<ServiceName, BTreeSet<Half>>,
    wanted: Vec<Wanted>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Half {
    Service,
    Slices,
}

/// Runs in the background from [`Finder::start`] on.
pub(super) struct Finder {
    link: Arc<NodeLink>,
    api: Option<Api>,
    /// This node's name in the cluster, when its pods are followed.
    node: Option<String>,
    rules: Rules,
    servers: Vec<std::net::SocketAddr>,
    known: Mutex<Known>,
}

impl Finder {
    pub(super) fn new(
        config: &Config,
        targets: &[Arc<Target>],
        cluster: Option<ApiConfig>,
        link: Arc<NodeLink>,
    ) -> Result<Arc<Self>> {
        let wanted = wanted(config, targets);
        let all = wanted.iter().flat_map(|one| &one.names);
        let names = Names::new(
            NamesConfig {
                keep_s: config.dns.keep_s,
            },
            all.map(|(name, _)| name.clone()),
        );
        let services = wanted.iter().flat_map(|one| one.services.iter().cloned());
        let known = Known {
            names,
            services: services.map(|name| (name, Services::default())).collect(),
            heard: BTreeMap::new(),
            wanted,
        };
        let rules = rules(config);
        let follows_pods = !rules.workloads.is_empty() || !rules.exempt.is_empty();
        let kubernetes = config.kubernetes.as_ref().filter(|_| follows_pods);
        let api = cluster.map(Api::new).transpose();
        Ok(Arc::new(Self {
            link,
            api: api.map_err(|text| anyhow::anyhow!("kubernetes.ca_file: {text}"))?,
            node: kubernetes.map(|kubernetes| kubernetes.node.clone()),
            rules,
            servers: config.dns.servers.clone(),
            known: Mutex::new(known),
        }))
    }

    /// Each source in a task of its own.
    pub(super) fn start(self: Arc<Self>) {
        if let (Some(api), Some(node)) = (self.api.clone(), self.node.clone()) {
            drop(tokio::spawn(Arc::clone(&self).follow_pods(api, node)));
        }
        if let Some(api) = &self.api {
            let services: Vec<ServiceName> = self.locked().services.keys().cloned().collect();
            for name in services {
                let service = Arc::clone(&self).follow_service(api.clone(), name.clone());
                drop(tokio::spawn(service));
                let slices = Arc::clone(&self).follow_slices(api.clone(), name);
                drop(tokio::spawn(slices));
            }
        }
        drop(tokio::spawn(self.follow_names()));
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn follow_pods(self: Arc<Self>, api: Api, node: String) {
        let query = Query {
            path: "/api/v1/pods".to_owned(),
            selector: ("fieldSelector", format!("spec.nodeName={node}")),
        };
        let mut roll = Roll::default();
        api.follow(&query, |change| {
            for world in roll.take(change, &self.rules) {
                self.tell(world);
            }
        })
        .await;
    }

    async fn follow_service(self: Arc<Self>, api: Api, name: ServiceName) {
        let query = Query {
            path: format!("/api/v1/namespaces/{}/services", name.namespace),
            selector: ("fieldSelector", format!("metadata.name={}", name.name)),
        };
        api.follow(&query, |change| {
            self.heard(&name, Half::Service, |service| match &change {
                Change::All(all) => service.set_service(all.first()),
                Change::Put(object) => service.set_service(Some(object)),
                Change::Gone(_) => service.set_service(None),
            });
        })
        .await;
    }

    async fn follow_slices(self: Arc<Self>, api: Api, name: ServiceName) {
        let query = Query {
            path: format!(
                "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
                name.namespace
            ),
            selector: (
                "labelSelector",
                format!("kubernetes.io/service-name={}", name.name),
            ),
        };
        api.follow(&query, |change| {
            self.heard(&name, Half::Slices, |service| match &change {
                Change::All(all) => service.replace_slices(all),
                Change::Put(object) => service.set_slice(object),
                Change::Gone(object) => service.remove_slice(object),
            });
        })
        .await;
    }

    fn heard(&self, name: &ServiceName, half: Half, change: impl FnOnce(&mut Services)) {
        let mut known = self.locked();
        if let Some(service) = known.services.get_mut(name) {
            change(service);
        }
        known.heard.entry(name.clone()).or_default().insert(half);
        self.publish(&mut known);
    }

    async fn follow_names(self: Arc<Self>) {
        if self.locked().wanted.iter().all(|one| one.names.is_empty()) {
            // Nothing of it is found by name: said once, so that the broker need not wait.
            let mut known = self.locked();
            self.publish(&mut known);
            return;
        }
        let resolver = loop {
            match resolver(&self.servers) {
                Ok(resolver) => break resolver,
                Err(error) => tracing::error!(error, "names cannot be looked up"),
            }
            tokio::time::sleep(RESOLVER_EVERY).await;
        };
        loop {
            let next = self.locked().names.due(weir_clock::now());
            match next {
                Some(name) => self.ask(&resolver, &name).await,
                None => {
                    let wait_us = self.locked().names.wait_us(weir_clock::now());
                    // A little more: the clock that sleeps is another one.
                    tokio::time::sleep(Duration::from_micros(wait_us.saturating_add(1_000))).await;
                }
            }
        }
    }

    async fn ask(&self, resolver: &Resolver, name: &str) {
        let lookup = resolver.lookup(name).await;
        let mut known = self.locked();
        known.names.answer(name, lookup.as_ref(), weir_clock::now());
        self.publish(&mut known);
    }

    /// Tells what is different from what was told.
    fn publish(&self, known: &mut Known) {
        let Known {
            names,
            services,
            heard,
            wanted,
        } = known;
        for one in wanted {
            let found = places(one, names, services);
            let both = |name: &ServiceName| heard.get(name).is_some_and(|halves| halves.len() == 2);
            let complete = names.answered(one.names.iter().map(|(name, _)| name))
                && one.services.iter().all(both);
            let now = (found, complete);
            if one.told.as_ref() == Some(&now) {
                continue;
            }
            self.tell_places(one, &now);
            one.told = Some(now);
        }
    }

    fn tell_places(&self, one: &Wanted, (found, complete): &(Vec<Found>, bool)) {
        let pairs = |found: &[Found]| -> Vec<(IpAddr, u16)> {
            found.iter().map(|place| (place.addr, place.port)).collect()
        };
        match &one.whose {
            Whose::List(workload) => self.tell(World::Allowed {
                workload: workload.clone(),
                found: found.clone(),
                complete: *complete,
            }),
            Whose::Target(target) => {
                tracing::info!(target = %target.name, places = found.len(), "found by name");
                let (new, target) = (pairs(found), Arc::clone(target));
                let mut both = new.clone();
                both.extend(one.told.iter().flat_map(|(found, _)| pairs(found)));
                target.found.replace(both);
                let world = World::Target {
                    name: target.name.to_string(),
                    found: found.clone(),
                    complete: *complete,
                };
                self.link.world(world, move |done| match done {
                    Ok(()) => target.found.replace(new),
                    Err(error) => {
                        tracing::error!(target = %target.name, %error, "the broker did not take its places");
                    }
                });
            }
        }
    }

    fn tell(&self, world: World) {
        self.link.world(world, |done| {
            if let Err(error) = done {
                tracing::error!(%error, "the broker did not take what was found");
            }
        });
    }
}

fn rules(config: &Config) -> Rules {
    let mut rules = Rules {
        workloads: Vec::new(),
        exempt: config.exempt.pods.clone(),
    };
    for workload in &config.workloads {
        if let Members::Pods(selector) = &workload.members {
            let name = workload.name.to_string();
            rules.workloads.push((name, selector.clone()));
        }
    }
    rules
}

fn wanted(config: &Config, targets: &[Arc<Target>]) -> Vec<Wanted> {
    let cross = |name: &String, ports: &[u16]| -> Vec<(String, u16)> {
        let any = ports.is_empty().then_some(0);
        let ports = ports.iter().copied().chain(any);
        ports.map(|port| (name.clone(), port)).collect()
    };
    let mut wanted = Vec::new();
    for (target, made) in config.targets.iter().zip(targets) {
        let matching = &target.matching;
        if matching.is_found() {
            let names = matching.names.iter();
            wanted.push(Wanted {
                whose: Whose::Target(Arc::clone(made)),
                names: names
                    .flat_map(|name| cross(name, &matching.ports))
                    .collect(),
                services: matching.services.clone(),
                told: None,
            });
        }
    }
    for workload in &config.workloads {
        let Some(egress) = workload.egress.as_ref().filter(|one| !one.names.is_empty()) else {
            continue;
        };
        let names = egress.names.iter();
        wanted.push(Wanted {
            whose: Whose::List(workload.name.to_string()),
            names: names.flat_map(|(name, ports)| cross(name, ports)).collect(),
            services: Vec::new(),
            told: None,
        });
    }
    wanted
}

/// Sorted, limited.
fn places(one: &Wanted, names: &Names, services: &BTreeMap<ServiceName, Services>) -> Vec<Found> {
    let mut found = BTreeSet::new();
    for (name, port) in &one.names {
        let addresses = names.addresses(name).into_iter();
        found.extend(addresses.map(|addr| Found { addr, port: *port }));
    }
    for service in one.services.iter().filter_map(|name| services.get(name)) {
        let places = service.places().into_iter();
        found.extend(places.map(|place| Found {
            addr: place.addr,
            port: place.port,
        }));
    }
    if found.len() > PLACES_MAX {
        tracing::error!(
            places = found.len(),
            "more than {PLACES_MAX} places were found: the rest does not count"
        );
    }
    found.into_iter().take(PLACES_MAX).collect()
}

/// The pods that were told of, by uid.
#[derive(Default)]
struct Roll(BTreeMap<String, MemberReport>);

impl Roll {
    /// What is new to the broker.
    fn take(&mut self, change: Change, rules: &Rules) -> Vec<World> {
        let mut worlds = Vec::new();
        match change {
            Change::All(objects) => {
                let present: BTreeSet<&str> = objects.iter().filter_map(uid).collect();
                let gone: Vec<String> = self
                    .0
                    .keys()
                    .filter(|uid| !present.contains(uid.as_str()))
                    .cloned()
                    .collect();
                worlds.extend(gone.iter().filter_map(|uid| self.strike(uid)));
                for object in &objects {
                    worlds.extend(self.put(object, rules));
                }
                worlds.push(World::MembersComplete);
            }
            Change::Put(object) => worlds.extend(self.put(&object, rules)),
            Change::Gone(object) => worlds.extend(uid(&object).and_then(|uid| self.strike(uid))),
        }
        worlds
    }

    fn put(&mut self, object: &Value, rules: &Rules) -> Option<World> {
        let uid = uid(object)?;
        if Pod::has_ended(object) {
            return self.strike(uid);
        }
        let Some(pod) = Pod::read(object) else {
            tracing::error!(
                uid,
                "a pod cannot be understood: its protected connects are refused"
            );
            return self.strike(uid);
        };
        let workload = match rules.choose(&pod) {
            Choice::Workload(name) => Some(name),
            Choice::Exempt => None,
            Choice::Disputed(names) => {
                tracing::error!(
                    namespace = pod.namespace,
                    pod = pod.name,
                    ?names,
                    "several workloads select this pod: its protected connects are refused"
                );
                return self.strike(uid);
            }
        };
        let report = MemberReport {
            id: pod.uid.clone(),
            kind: MemberKind::Pod {
                uid: pod.cgroup_uid,
                containers: pod.containers,
            },
            workload,
        };
        if self.0.get(uid) == Some(&report) {
            return None;
        }
        self.0.insert(pod.uid, report.clone());
        Some(World::Member(report))
    }

    fn strike(&mut self, uid: &str) -> Option<World> {
        let report = self.0.remove(uid)?;
        Some(World::MemberGone { id: report.id })
    }
}

fn uid(object: &Value) -> Option<&str> {
    object.pointer("/metadata/uid")?.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use weir_discover::PodSelector;

    use super::*;

    fn pod(number: u8, app: &str, phase: &str) -> Value {
        json!({
            "metadata": {
                "uid": format!("00000000-0000-4000-8000-00000000000{number}"),
                "namespace": "agents", "name": format!("p{number}"), "labels": { "app": app },
            },
            "spec": {}, "status": { "phase": phase },
        })
    }

    fn rules() -> Rules {
        let own = |name: &str, app: &str| {
            let selector = PodSelector {
                namespace: "agents".to_owned(),
                labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
                service_account: None,
            };
            (name.to_owned(), selector)
        };
        Rules {
            workloads: vec![own("a", "a"), own("b", "b"), own("c", "b")],
            exempt: Vec::new(),
        }
    }

    fn said(worlds: &[World]) -> Vec<String> {
        let short = |id: &str| id.chars().last().unwrap_or_default();
        let one = |world: &World| match world {
            World::Member(report) => {
                let whose = report.workload.as_deref().unwrap_or("exempt");
                format!("{} {whose}", short(&report.id))
            }
            World::MemberGone { id } => format!("{} gone", short(id)),
            World::MembersComplete => "complete".to_owned(),
            World::Target { .. } | World::Allowed { .. } => "other".to_owned(),
        };
        worlds.iter().map(one).collect()
    }

    #[test]
    fn the_broker_is_told_what_is_new_and_nothing_twice() {
        let (mut roll, rules) = (Roll::default(), rules());
        let all = vec![
            pod(1, "a", "Running"),
            pod(2, "x", "Pending"),
            pod(3, "a", "Succeeded"),
            pod(4, "b", "Running"),
        ];
        let first = roll.take(Change::All(all.clone()), &rules);
        assert_eq!(said(&first), ["1 a", "2 exempt", "complete"]);
        assert_eq!(said(&roll.take(Change::All(all), &rules)), ["complete"]);
        // A pod that is selected from now on, one that is disputed from now on, one that ends.
        let changed = roll.take(Change::Put(pod(2, "a", "Running")), &rules);
        assert_eq!(said(&changed), ["2 a"]);
        let changed = roll.take(Change::Put(pod(2, "b", "Running")), &rules);
        assert_eq!(said(&changed), ["2 gone"]);
        let ended = roll.take(Change::Put(pod(1, "a", "Failed")), &rules);
        assert_eq!(said(&ended), ["1 gone"]);
        assert!(
            roll.take(Change::Gone(pod(1, "a", "Failed")), &rules)
                .is_empty()
        );
    }

    #[test]
    fn what_a_new_list_lacks_is_gone() {
        let (mut roll, rules) = (Roll::default(), rules());
        roll.take(Change::Put(pod(1, "a", "Running")), &rules);
        roll.take(Change::Put(pod(2, "a", "Running")), &rules);
        let again = roll.take(Change::All(vec![pod(2, "a", "Running")]), &rules);
        assert_eq!(said(&again), ["1 gone", "complete"]);
    }

    #[test]
    fn a_pod_that_is_not_understood_is_not_known_any_more() {
        let (mut roll, rules) = (Roll::default(), rules());
        roll.take(Change::Put(pod(1, "a", "Running")), &rules);
        let mut broken = pod(1, "a", "Running");
        broken["metadata"]["labels"] = json!([1]);
        assert_eq!(said(&roll.take(Change::Put(broken), &rules)), ["1 gone"]);
    }
}
