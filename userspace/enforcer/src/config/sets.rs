//! The rules of governed sets: exactly one selector, below a governed root; what is exempt; what a
//! listed workload may reach.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use weir_discover::{ContainerSelector, PodSelector, ServiceName};

use super::checked::{Checker, NodeSettings};
use super::containers::{check_asked, check_container};
use super::raw::{
    RawAllow, RawDns, RawEgress, RawExempt, RawKubernetes, RawMembers, RawPods, RawService,
};
use super::targets::net;

/// The kernel's classes of workloads.
pub(super) const WORKLOADS_MAX: usize = weir_kernel::ClassId::WORKLOAD_MAX as usize;
/// Names and Services of one file.
const NAMES_MAX: usize = 256;
/// The longest name of DNS, as text.
const NAME_BYTES_MAX: usize = 253;
/// The kubelet's own default.
const KUBELET_DIR: &str = "/var/lib/kubelet";
const KEEP_S_MAX: u64 = 7 * 24 * 3600;

/// Whose processes are a workload's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Members {
    /// By path below the cgroup v2 mount; of a unit as well.
    Cgroup(String),
    Pods(PodSelector),
    /// Of a runtime.
    Container(ContainerSelector),
}

/// What a listed workload reaches beside its targets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Egress {
    /// Network, prefix length, port (0: any).
    pub(crate) nets: Vec<(IpAddr, u8, u16)>,
    /// Name and ports (none: any).
    pub(crate) names: Vec<(String, Vec<u16>)>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Exempt {
    pub(crate) cgroups: Vec<String>,
    pub(crate) pods: Vec<PodSelector>,
    pub(crate) containers: Vec<ContainerSelector>,
}

#[derive(Clone, Debug)]
pub(crate) struct Kubernetes {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) ca_file: PathBuf,
    pub(crate) token_file: PathBuf,
    pub(crate) node: String,
    pub(crate) cgroup_root: String,
    pub(crate) kubelet_dir: PathBuf,
}

impl Kubernetes {
    /// Another name for this node; false when it can be none.
    #[must_use]
    pub(crate) fn set_node(&mut self, name: &str) -> bool {
        let good = is_dns_name(name);
        if good {
            name.clone_into(&mut self.node);
        }
        good
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Dns {
    pub(crate) servers: Vec<SocketAddr>,
    pub(crate) keep_s: u32,
}

/// `None` when it stands for nothing.
pub(super) fn check_members(
    raw: &RawMembers,
    path: &str,
    node: &NodeSettings,
    checker: &mut Checker<'_>,
) -> Option<Members> {
    let given = [
        raw.cgroup.is_some(),
        raw.unit.is_some(),
        raw.pods.is_some(),
        raw.container.is_some(),
    ];
    if given.iter().filter(|one| **one).count() != 1 {
        checker.say(
            path,
            "needs exactly one of cgroup, unit, pods and container",
        );
        return None;
    }
    if let Some(container) = &raw.container {
        return Some(Members::Container(check_container(container, checker)));
    }
    if let Some(pods) = &raw.pods {
        return Some(Members::Pods(check_pods(pods, checker)));
    }
    let (field, cgroup) = match (&raw.cgroup, &raw.unit) {
        (Some(cgroup), _) => {
            checker.cgroup(&format!("{path}.cgroup"), cgroup);
            ("cgroup", cgroup.clone())
        }
        (None, Some(unit)) => match unit_path(unit) {
            Some(cgroup) => ("unit", cgroup),
            None => {
                let message = "must be a unit such as agent.service or agents.slice, or the path \
                               of one below the cgroup v2 mount";
                checker.say(format!("{path}.unit"), message);
                return None;
            }
        },
        (None, None) => return None,
    };
    if !node.governed.iter().any(|root| is_within(&cgroup, root)) {
        let message = format!(
            "must lie below node.governed ({})",
            node.governed.join(", ")
        );
        checker.say(format!("{path}.{field}"), message);
    }
    Some(Members::Cgroup(cgroup))
}

/// The root itself counts.
pub(super) fn is_within(path: &str, root: &str) -> bool {
    let rest = path.strip_prefix(root);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Where systemd puts a unit of the system manager (systemd.slice(5), systemd.unit(5)); a path is
/// taken as it is.
fn unit_path(unit: &str) -> Option<String> {
    let plain = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.@:\\".contains(&byte))
    };
    let ends = |name: &str| {
        let kinds = [".service", ".scope", ".slice"];
        kinds
            .iter()
            .any(|kind| name.len() > kind.len() && name.ends_with(kind))
    };
    if let Some(path) = unit.strip_prefix('/') {
        let mut parts = path.split('/');
        let good = parts.all(|part| plain(part) && part != "." && part != "..");
        return (good && ends(path)).then(|| unit.to_owned());
    }
    if !plain(unit) || !ends(unit) {
        return None;
    }
    if let Some(slice) = unit.strip_suffix(".slice") {
        return slice_path(slice);
    }
    // An instance lies in a slice of its template.
    match unit.split_once('@') {
        Some((template, _)) if unit.ends_with(".service") && !template.is_empty() => {
            let escaped = template.replace('-', "\\x2d");
            Some(format!("/system.slice/system-{escaped}.slice/{unit}"))
        }
        Some(_) | None => Some(format!("/system.slice/{unit}")),
    }
}

/// `a-b.slice` lies in `a.slice`.
fn slice_path(name: &str) -> Option<String> {
    let mut path = String::new();
    let mut so_far = String::new();
    for part in name.split('-') {
        if part.is_empty() {
            return None;
        }
        if !so_far.is_empty() {
            so_far.push('-');
        }
        so_far.push_str(part);
        path.push_str(&format!("/{so_far}.slice"));
    }
    Some(path)
}

fn check_pods(raw: &RawPods, checker: &mut Checker<'_>) -> PodSelector {
    checker.dns_label(&format!("{}.namespace", raw.path), &raw.namespace);
    if let Some(account) = &raw.service_account {
        checker.dns_name(&format!("{}.service_account", raw.path), account);
    }
    PodSelector {
        namespace: raw.namespace.clone(),
        labels: raw.labels.iter().cloned().collect(),
        service_account: raw.service_account.clone(),
    }
}

pub(super) fn check_exempt(
    raw: &RawExempt,
    node: &NodeSettings,
    workloads: &BTreeSet<String>,
    checker: &mut Checker<'_>,
) -> Exempt {
    for (index, cgroup) in raw.cgroups.iter().enumerate() {
        let path = format!("exempt.cgroups[{index}]");
        checker.cgroup(&path, cgroup);
        if workloads.contains(cgroup) {
            checker.say(&path, "is a workload's cgroup");
        }
        let below = |root: &String| cgroup != root && is_within(cgroup, root);
        if !node.governed.iter().any(below) {
            checker.say(
                &path,
                "does not lie below node.governed: nothing governs it",
            );
        }
    }
    Exempt {
        cgroups: raw.cgroups.clone(),
        pods: raw
            .pods
            .iter()
            .map(|pods| check_pods(pods, checker))
            .collect(),
        containers: raw
            .containers
            .iter()
            .map(|container| check_container(container, checker))
            .collect(),
    }
}

pub(super) fn check_egress(
    raw: &RawEgress,
    path: &str,
    checker: &mut Checker<'_>,
) -> Option<Egress> {
    match raw.egress.as_deref() {
        Some("listed") => {}
        None | Some("open") => {
            if !raw.allow.is_empty() {
                checker.say(format!("{path}.allow"), "belongs to egress: listed");
            }
            return None;
        }
        Some(_) => checker.say(format!("{path}.egress"), "must be open or listed"),
    }
    let mut egress = Egress::default();
    for item in &raw.allow {
        check_allow(item, &mut egress, checker);
    }
    Some(egress)
}

fn check_allow(raw: &RawAllow, egress: &mut Egress, checker: &mut Checker<'_>) {
    if raw.hosts.is_empty() && raw.names.is_empty() {
        checker.say(&raw.path, "needs hosts or names");
    }
    let ports = checker.ports(&format!("{}.ports", raw.path), &raw.ports);
    for (index, host) in raw.hosts.iter().enumerate() {
        match net(host) {
            Ok((net, prefix)) => {
                let any = ports.is_empty().then_some(0);
                let ports = ports.iter().copied().chain(any);
                egress.nets.extend(ports.map(|port| (net, prefix, port)));
            }
            Err(message) => checker.say(format!("{}.hosts[{index}]", raw.path), message),
        }
    }
    for (index, name) in raw.names.iter().enumerate() {
        checker.dns_name(&format!("{}.names[{index}]", raw.path), name);
        egress.names.push((name.clone(), ports.clone()));
    }
}

pub(super) fn check_kubernetes(
    raw: Option<&RawKubernetes>,
    node_name: &str,
    checker: &mut Checker<'_>,
) -> Option<Kubernetes> {
    let raw = raw?;
    let server = url::Url::parse(&raw.server).ok().filter(|url| {
        url.scheme() == "https" && matches!(url.path(), "" | "/") && url.query().is_none()
    });
    let host = server.as_ref().and_then(url::Url::host_str);
    if host.is_none() {
        checker.say("kubernetes.server", "must be https://host:port");
    }
    let cgroup_root = raw.cgroup_root.clone().unwrap_or_else(|| "/".to_owned());
    if cgroup_root != "/" {
        checker.cgroup("kubernetes.cgroup_root", &cgroup_root);
    }
    let kubelet_dir = raw.kubelet_dir.as_deref().unwrap_or(KUBELET_DIR);
    if !kubelet_dir.starts_with('/') {
        checker.say("kubernetes.kubelet_dir", "must be an absolute path");
    }
    let node = raw.node.clone().unwrap_or_else(|| node_name.to_owned());
    checker.dns_name("kubernetes.node", &node);
    Some(Kubernetes {
        // Brackets belong to the URL.
        host: host.unwrap_or_default().trim_matches(['[', ']']).to_owned(),
        port: server.as_ref().and_then(url::Url::port).unwrap_or(443),
        ca_file: checker.file(&raw.ca_file),
        token_file: checker.file(&raw.token_file),
        node,
        cgroup_root,
        kubelet_dir: PathBuf::from(kubelet_dir),
    })
}

pub(super) fn check_dns(raw: &RawDns, checker: &mut Checker<'_>) -> Dns {
    let mut servers = Vec::new();
    for (index, text) in raw.servers.iter().enumerate() {
        let addr = text.parse::<SocketAddr>();
        match addr.or_else(|error| {
            text.parse()
                .map(|ip| SocketAddr::new(ip, 53))
                .map_err(|_| error)
        }) {
            Ok(addr) => servers.push(addr),
            Err(_) => checker.say(
                format!("dns.servers[{index}]"),
                "must be an address or address:port",
            ),
        }
    }
    let keep_s = checker.number("dns.keep_s", raw.keep_s, (1, KEEP_S_MAX), 3600);
    Dns {
        servers,
        keep_s: u32::try_from(keep_s).unwrap_or(3600),
    }
}

pub(super) fn check_services(raw: &[RawService], checker: &mut Checker<'_>) -> Vec<ServiceName> {
    let mut services = Vec::new();
    for item in raw {
        checker.dns_label(&format!("{}.namespace", item.path), &item.namespace);
        checker.dns_label(&format!("{}.name", item.path), &item.name);
        services.push(ServiceName {
            namespace: item.namespace.clone(),
            name: item.name.clone(),
        });
    }
    services
}

/// What needs the Kubernetes API, and how much is found by name.
pub(super) fn check_found(config: &super::Config, checker: &mut Checker<'_>) {
    let of_pods = config
        .workloads
        .iter()
        .any(|one| matches!(one.members, Members::Pods(_)));
    let services: usize = config
        .targets
        .iter()
        .map(|one| one.matching.services.len())
        .sum();
    let needed = of_pods || services > 0 || !config.exempt.pods.is_empty();
    check_asked(config, checker);
    if needed && config.kubernetes.is_none() {
        let message = "is required: workloads, exempt or targets name pods or Services";
        checker.say("kubernetes", message);
    }
    let names: usize = config
        .targets
        .iter()
        .map(|one| one.matching.names.len())
        .sum();
    let allowed = config
        .workloads
        .iter()
        .filter_map(|one| one.egress.as_ref());
    let allowed: usize = allowed.map(|egress| egress.names.len()).sum();
    if names + allowed + services > NAMES_MAX {
        let message = format!("more than {NAMES_MAX} names and Services are to be found");
        checker.say("targets", message);
    }
}

impl Checker<'_> {
    pub(super) fn ports(&mut self, path: &str, raw: &[u64]) -> Vec<u16> {
        let mut ports = Vec::with_capacity(raw.len());
        for (index, port) in raw.iter().enumerate() {
            match u16::try_from(*port) {
                Ok(port) if port > 0 => ports.push(port),
                _ => self.say(format!("{path}[{index}]"), "must be from 1 to 65535"),
            }
        }
        ports
    }

    /// A name of Kubernetes (RFC 1123, a label).
    fn dns_label(&mut self, path: &str, text: &str) {
        if !is_label(text) || text.contains('_') {
            self.say(
                path,
                "must be a name of Kubernetes: lower-case letters, digits and '-'",
            );
        }
    }

    /// A name of DNS without its last dot, at most 253 bytes; no wildcard.
    pub(super) fn dns_name(&mut self, path: &str, text: &str) {
        if !is_dns_name(text) {
            self.say(
                path,
                "must be a name of DNS in lower case, such as db.example.com",
            );
        }
    }
}

fn is_dns_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && text.split('.').all(is_label)
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_'
    };
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// What is true of a good file and should be known all the same.
pub(crate) fn warnings(config: &super::Config) -> Vec<String> {
    let mut found = Vec::new();
    let open: Vec<&str> = config
        .workloads
        .iter()
        .filter(|one| one.egress.is_none())
        .map(|one| &*one.name)
        .collect();
    for target in &config.targets {
        if target.observe {
            found.push(format!(
                "target {} only observes: what policy would deny or hold goes through, masks aside",
                target.name
            ));
        }
        if !target.matching.names.is_empty() && !open.is_empty() {
            found.push(format!(
                "target {} is found by DNS name: an address that Weir's resolver has not seen is not \
                 protected from {} (egress: listed closes it)",
                target.name,
                open.join(", ")
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_where_systemd_puts_them() {
        for (unit, path) in [
            ("agent.service", Some("/system.slice/agent.service")),
            ("my-agent.service", Some("/system.slice/my-agent.service")),
            (
                "agent@one.service",
                Some("/system.slice/system-agent.slice/agent@one.service"),
            ),
            (
                "my-agent@1.service",
                Some("/system.slice/system-my\\x2dagent.slice/my-agent@1.service"),
            ),
            ("run-7.scope", Some("/system.slice/run-7.scope")),
            ("agents.slice", Some("/agents.slice")),
            (
                "agents-a-b.slice",
                Some("/agents.slice/agents-a.slice/agents-a-b.slice"),
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/agent.service",
                Some("/user.slice/user-1000.slice/user@1000.service/app.slice/agent.service"),
            ),
            ("agent", None),
            (".service", None),
            ("agent.socket", None),
            ("-a.slice", None),
            ("a--b.slice", None),
            ("a b.service", None),
            ("a/b.service", None),
            ("../agent.service", None),
            ("/system.slice/../agent.service", None),
            ("/system.slice//agent.service", None),
            ("/system.slice", Some("/system.slice")),
            ("/agents", None),
            ("", None),
        ] {
            assert_eq!(unit_path(unit).as_deref(), path, "{unit}");
        }
    }

    #[test]
    fn a_path_lies_within_a_root_by_whole_names() {
        assert!(is_within("/agents", "/agents"));
        assert!(is_within("/agents/a", "/agents"));
        assert!(!is_within("/agents2", "/agents"));
        assert!(!is_within("/", "/agents"));
    }
}
