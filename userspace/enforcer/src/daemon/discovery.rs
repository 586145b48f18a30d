//! What the node finds out and tells the broker: pods and containers of this node, and addresses of
//! names and Services.
//!
//! The relay learns of a new address before the kernel sends flows to it, and forgets an old one
//! after the kernel does.

mod roll;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use weir_broker::client::NodeLink;
use weir_broker::{Found, RuntimeAsk, World};
use weir_discover::{
    Api, ApiConfig, Change, ContainerSelector, Names, NamesConfig, PodSelector, Query, Resolver,
    Rules, RuntimeQuestion, ServiceName, Services, follow_runtime, resolver,
};
use weir_relay::Target;

use self::roll::{Containers, Roll};
use super::host;
use super::pods::{self, PodBook};

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
    /// Who has not said all members yet.
    silent: BTreeSet<Source>,
}

/// Who knows members.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Pods,
    Runtime(String),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Half {
    Service,
    Slices,
}

/// Of the cluster that the node is in.
pub(super) struct Cluster {
    pub(super) api: Option<ApiConfig>,
    /// Where its pods are written down.
    pub(super) book: Arc<PodBook>,
}

/// Runs in the background from [`Finder::start`] on.
pub(super) struct Finder {
    link: Arc<NodeLink>,
    api: Option<Api>,
    /// This node's name in the cluster, when its pods are followed.
    node: Option<String>,
    pod_rules: Rules<PodSelector>,
    container_rules: Rules<ContainerSelector>,
    runtimes: Vec<String>,
    book: Arc<PodBook>,
    /// Whose service accounts are followed.
    namespaces: BTreeSet<String>,
    servers: Vec<std::net::SocketAddr>,
    known: Mutex<Known>,
}

impl Finder {
    pub(super) fn new(
        config: &Config,
        targets: &[Arc<Target>],
        cluster: Cluster,
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
        let pod_rules = pod_rules(config);
        let follows_pods = !pod_rules.workloads.is_empty() || !pod_rules.exempt.is_empty();
        let kubernetes = config.kubernetes.as_ref().filter(|_| follows_pods);
        let runtimes: Vec<String> = config.runtimes.iter().map(|one| one.name.clone()).collect();
        let mut silent: BTreeSet<Source> = runtimes.iter().cloned().map(Source::Runtime).collect();
        silent.extend(kubernetes.map(|_| Source::Pods));
        let known = Known {
            silent,
            names,
            services: services.map(|name| (name, Services::default())).collect(),
            heard: BTreeMap::new(),
            wanted,
        };
        let api = cluster.api.map(Api::new).transpose();
        Ok(Arc::new(Self {
            link,
            api: api.map_err(|text| anyhow::anyhow!("kubernetes.ca_file: {text}"))?,
            node: kubernetes.map(|kubernetes| kubernetes.node.clone()),
            pod_rules,
            container_rules: container_rules(config),
            runtimes,
            book: cluster.book,
            namespaces: pods::namespaces(config),
            servers: config.dns.servers.clone(),
            known: Mutex::new(known),
        }))
    }

    /// Each source in a task of its own.
    pub(super) fn start(self: Arc<Self>) {
        if let (Some(api), Some(node)) = (self.api.clone(), self.node.clone()) {
            drop(tokio::spawn(Arc::clone(&self).follow_pods(api, node)));
        }
        for runtime in self.runtimes.clone() {
            drop(tokio::spawn(Arc::clone(&self).follow_runtime(runtime)));
        }
        if let Some(api) = &self.api {
            for namespace in self.namespaces.clone() {
                let accounts = Arc::clone(&self).follow_accounts(api.clone(), namespace);
                drop(tokio::spawn(accounts));
            }
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
            selector: Some(("fieldSelector", format!("spec.nodeName={node}"))),
        };
        let mut roll = Roll::default();
        api.follow(&query, |change| {
            let all = matches!(change, Change::All(_));
            // Whoever is told to the broker can sign in.
            self.book.hear_pods(&change);
            for world in roll.take(change, &self.pod_rules) {
                self.tell(world);
            }
            if all {
                self.told_all(&Source::Pods);
            }
        })
        .await;
    }

    async fn follow_accounts(self: Arc<Self>, api: Api, namespace: String) {
        let query = Query {
            path: format!("/api/v1/namespaces/{namespace}/serviceaccounts"),
            selector: None,
        };
        api.follow(&query, |change| {
            self.book.hear_accounts(&namespace, &change)
        })
        .await;
    }

    async fn follow_runtime(self: Arc<Self>, name: String) {
        let mut containers = Containers::of(&name);
        let ask = |question| {
            let ask = match question {
                RuntimeQuestion::List => RuntimeAsk::List,
                RuntimeQuestion::Events => RuntimeAsk::Events,
            };
            host::runtime(&self.link, &name, ask)
        };
        follow_runtime(&name, ask, |all| {
            for world in containers.take(&all, &self.container_rules) {
                self.tell(world);
            }
            self.told_all(&Source::Runtime(name.clone()));
        })
        .await;
    }

    /// What an earlier node told and nobody tells now is gone, once everybody has told.
    fn told_all(&self, source: &Source) {
        let mut known = self.locked();
        if known.silent.remove(source) && known.silent.is_empty() {
            self.tell(World::MembersComplete);
        }
    }

    async fn follow_service(self: Arc<Self>, api: Api, name: ServiceName) {
        let query = Query {
            path: format!("/api/v1/namespaces/{}/services", name.namespace),
            selector: Some(("fieldSelector", format!("metadata.name={}", name.name))),
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
            selector: Some((
                "labelSelector",
                format!("kubernetes.io/service-name={}", name.name),
            )),
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
            silent: _,
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

fn pod_rules(config: &Config) -> Rules<PodSelector> {
    let own = |members: &Members| match members {
        Members::Pods(selector) => Some(selector.clone()),
        Members::Cgroup(_) | Members::Container(_) => None,
    };
    Rules {
        workloads: chosen(config, own),
        exempt: config.exempt.pods.clone(),
    }
}

fn container_rules(config: &Config) -> Rules<ContainerSelector> {
    let own = |members: &Members| match members {
        Members::Container(selector) => Some(selector.clone()),
        Members::Cgroup(_) | Members::Pods(_) => None,
    };
    Rules {
        workloads: chosen(config, own),
        exempt: config.exempt.containers.clone(),
    }
}

fn chosen<S>(config: &Config, own: impl Fn(&Members) -> Option<S>) -> Vec<(String, S)> {
    let workloads = config.workloads.iter();
    let named = workloads.filter_map(|one| Some((one.name.to_string(), own(&one.members)?)));
    named.collect()
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
