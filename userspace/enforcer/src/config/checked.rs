//! The rules of the file: from names as written to types that cannot be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_mask::{Detector, OutputPatterns};

use super::console::{Console, check_console};
use super::containers::{Runtime, check_runtimes};
use super::notifiers::{Notifier, check_notifiers};
use super::raw::{
    Raw, RawApprovals, RawClickHouse, RawMasking, RawRecord, RawWitness, RawWorkload,
};
use super::read::Problem;
use super::sets::{
    Dns, Egress, Exempt, Kubernetes, Members, WORKLOADS_MAX, check_dns, check_egress, check_exempt,
    check_found, check_kubernetes, check_members, is_within,
};
use super::shared_state::{self, StatePlace};
use super::sign_in::{Cluster, Graph, SignIn, Signing, check_graph, check_sign_in};
use super::targets::{Target, check_targets};

/// Everything the product reads from its file.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) node: NodeSettings,
    pub(crate) identity: Identity,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) exempt: Exempt,
    pub(crate) kubernetes: Option<Kubernetes>,
    pub(crate) runtimes: Vec<Runtime>,
    pub(crate) dns: Dns,
    pub(crate) targets: Vec<Target>,
    pub(crate) policies: PathBuf,
    /// Readable group name → Entra object id.
    pub(crate) groups: BTreeMap<String, String>,
    pub(crate) mask_key_file: PathBuf,
    /// Of output: what is masked where policy asks for that.
    pub(crate) patterns: OutputPatterns,
    pub(crate) record: Record,
    pub(crate) approvals: Approvals,
    pub(crate) admin_http: Option<SocketAddr>,
    /// Name → Entra group GUID: who may revoke; every reviewer when empty.
    pub(crate) admin_groups: BTreeMap<String, String>,
    pub(crate) console: Option<Console>,
}

#[derive(Clone, Debug)]
pub(crate) struct NodeSettings {
    pub(crate) name: String,
    pub(crate) cluster: String,
    pub(crate) state_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) user: String,
    /// Starts with `/`, below the cgroup v2 mount.
    pub(crate) cgroup: String,
    /// None lies in another.
    pub(crate) governed: Vec<String>,
    pub(crate) pins: PathBuf,
    pub(crate) drain_s: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) authority: String,
    pub(crate) allow_plain_loopback: bool,
    pub(crate) tenants: Vec<String>,
    pub(crate) audience: String,
    pub(crate) required_role: String,
    pub(crate) reviewer_client_id: Option<String>,
    pub(crate) reviewer_scope: String,
    pub(crate) clock_skew_s: u32,
    pub(crate) remint_s: u32,
    pub(crate) metadata: Option<String>,
    pub(crate) cluster: Option<Cluster>,
    pub(crate) graph: Option<Graph>,
}

#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) name: Arc<str>,
    pub(crate) members: Members,
    /// `egress: listed`.
    pub(crate) egress: Option<Egress>,
    pub(crate) netns: Option<PathBuf>,
    pub(crate) sign_in: SignIn,
}

#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) limit_bytes: u64,
    pub(crate) durability: Durability,
    pub(crate) rows_head: usize,
    pub(crate) clickhouse: Option<ClickHouse>,
    /// How often signed anchors leave the node.
    pub(crate) anchor_s: u64,
    pub(crate) witness: Option<Witness>,
}

/// Where anchors go besides ClickHouse.
#[derive(Clone, Debug)]
pub(crate) enum Witness {
    File(PathBuf),
    Service {
        url: String,
        ca_file: Option<PathBuf>,
        token_file: Option<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Survives the death of the process.
    Process,
    /// Survives loss of power as well.
    PowerLoss,
}

#[derive(Clone, Debug)]
pub(crate) struct ClickHouse {
    pub(crate) url: String,
    /// Further replicas of the same shard, which take batches when the first does not.
    pub(crate) replicas: Vec<String>,
    pub(crate) database: String,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) reader_token_file: Option<PathBuf>,
    pub(crate) migrator_token_file: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub(crate) struct Approvals {
    pub(crate) expires_s: u32,
    pub(crate) in_transaction_s: u32,
    /// Name used in `@hold(…)` → Entra group GUID.
    pub(crate) reviewer_groups: BTreeMap<String, String>,
    pub(crate) notifiers: Vec<Notifier>,
    pub(crate) state: StatePlace,
}

/// Longest time a request may be held.
const EXPIRES_S_MAX: u64 = 24 * 3600;
/// A held request in a transaction keeps its locks, so it is given up sooner.
const IN_TRANSACTION_S: u64 = 300;
const SPOOL_BYTES_MIN: u64 = 16 * 1024 * 1024;
const ROWS_HEAD_MAX: u64 = 1000;

pub(super) struct Checker<'a> {
    base: &'a Path,
    problems: &'a mut Vec<Problem>,
}

impl Checker<'_> {
    pub(super) fn say(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.problems.push(Problem {
            path: path.into(),
            message: message.into(),
        });
    }

    pub(super) fn file(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }

    /// Names become metric labels, cgroup ids and policy ids.
    pub(super) fn name(&mut self, path: &str, name: &str) {
        let fits = (1..=63).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if !fits {
            self.say(path, "must be 1 to 63 letters, digits, '-', '_' or '.'");
        }
    }

    pub(super) fn guid(&mut self, path: &str, text: &str) {
        if !is_guid(text) {
            self.say(
                path,
                "must be a lower-case GUID, such as 00000000-0000-4000-8000-000000000001",
            );
        }
    }

    pub(super) fn cgroup(&mut self, path: &str, text: &str) {
        let plain = text.starts_with('/')
            && text.len() > 1
            && !text.ends_with('/')
            && !text.contains("//")
            && !text.split('/').any(|part| part == ".." || part == ".");
        if !plain {
            self.say(
                path,
                "must be a path below the cgroup v2 mount, such as /agents/analyst",
            );
        }
    }

    pub(super) fn number(
        &mut self,
        path: &str,
        value: Option<u64>,
        range: (u64, u64),
        or: u64,
    ) -> u64 {
        let value = value.unwrap_or(or);
        if value < range.0 || value > range.1 {
            self.say(path, format!("must be from {} to {}", range.0, range.1));
            return or;
        }
        value
    }
}

/// In lower case.
pub(crate) fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

/// `None` when a part is too broken to stand for anything.
pub(super) fn check(raw: Raw, base: &Path, problems: &mut Vec<Problem>) -> Option<Config> {
    let mut checker = Checker { base, problems };
    match raw.version {
        Some(1) => {}
        Some(other) => checker.say(
            "version",
            format!("{other} is not known; this is version 1"),
        ),
        None => checker.say("version", "is required; this is version 1"),
    }
    let node = check_node(&raw, &mut checker);
    let identity = check_identity(&raw, &mut checker);
    let workloads = check_workloads(&raw.workloads, &node, &identity, &mut checker);
    let exempt = check_exempt(&raw.exempt, &node, &cgroups(&workloads), &mut checker);
    let kubernetes = check_kubernetes(raw.kubernetes.as_ref(), &node.name, &mut checker);
    let runtimes = check_runtimes(&raw.runtimes, &node, &mut checker);
    let dns = check_dns(&raw.dns, &mut checker);
    let targets = check_targets(&raw.targets, &mut checker);
    let admin_groups = check_groups("admin.groups", raw.admin_groups, &mut checker);
    let groups = check_groups("policies.groups", raw.groups, &mut checker);
    let record = check_record(raw.record, &mut checker);
    let approvals = check_approvals(raw.approvals, &mut checker);
    let admin_http = check_admin_http(raw.admin_http.as_deref(), &mut checker);
    let named = (&approvals, &admin_groups);
    let console = check_console(raw.console.as_ref(), named, &mut checker);
    let patterns = check_patterns(&raw.masking, &mut checker);
    let mask_key_file = match &raw.masking.key_file {
        Some(file) => checker.file(file),
        None => node.state_dir.join("mask.key"),
    };
    let policies = checker.file(&raw.policies);
    let config = Config {
        node,
        identity,
        workloads,
        exempt,
        kubernetes,
        runtimes,
        dns,
        targets,
        policies,
        groups,
        mask_key_file,
        patterns: patterns?,
        record,
        approvals,
        admin_http,
        admin_groups,
        console,
    };
    check_found(&config, &mut checker);
    Some(config)
}

fn check_admin_http(text: Option<&str>, checker: &mut Checker<'_>) -> Option<SocketAddr> {
    let Ok(addr) = text?.parse::<SocketAddr>() else {
        checker.say("admin.http", "must be address:port, such as 127.0.0.1:9464");
        return None;
    };
    if !addr.ip().is_loopback() {
        let message = "must be a loopback address: it has no authentication";
        checker.say("admin.http", message);
    }
    Some(addr)
}

/// Those that the file names.
fn cgroups(workloads: &[Workload]) -> BTreeSet<String> {
    workloads
        .iter()
        .filter_map(|workload| match &workload.members {
            Members::Cgroup(path) => Some(path.clone()),
            Members::Pods(_) | Members::Container(_) => None,
        })
        .collect()
}

fn check_node(raw: &Raw, checker: &mut Checker<'_>) -> NodeSettings {
    checker.name("node.name", &raw.node.name);
    checker.name("node.cluster", &raw.node.cluster);
    checker.cgroup("node.cgroup", &raw.node.cgroup);
    let governed = &raw.node.governed;
    for (index, root) in governed.iter().enumerate() {
        let path = match governed.len() {
            1 => "node.governed".to_owned(),
            _ => format!("node.governed[{index}]"),
        };
        checker.cgroup(&path, root);
        if is_within(&raw.node.cgroup, root) {
            checker.say("node.cgroup", "must not lie in the governed subtree");
        }
        let others = governed
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        // Programs on both would see each connect twice.
        if others.into_iter().any(|(_, other)| is_within(root, other)) {
            checker.say(&path, "lies in another governed subtree");
        }
    }
    let drain = checker.number("node.drain_s", raw.node.drain_s, (1, 604_800), 3600);
    NodeSettings {
        drain_s: u32::try_from(drain).unwrap_or(3600),
        name: raw.node.name.clone(),
        cluster: raw.node.cluster.clone(),
        state_dir: checker.file(&raw.node.state_dir),
        run_dir: checker.file(&raw.node.run_dir),
        user: raw.node.user.clone(),
        cgroup: raw.node.cgroup.clone(),
        governed: raw.node.governed.clone(),
        pins: checker.file(&raw.node.pins),
    }
}

fn check_identity(raw: &Raw, checker: &mut Checker<'_>) -> Identity {
    let identity = &raw.identity;
    if identity.tenants.is_empty() {
        checker.say("identity.tenants", "needs at least one tenant");
    }
    for (index, tenant) in identity.tenants.iter().enumerate() {
        checker.guid(&format!("identity.tenants[{index}]"), tenant);
    }
    checker.guid("identity.audience", &identity.audience);
    if let Some(client) = &identity.reviewer_client_id {
        checker.guid("identity.reviewer_client_id", client);
    }
    let skew = checker.number("identity.clock_skew_s", identity.clock_skew_s, (0, 300), 60);
    let remint = checker.number(
        "identity.remint_s",
        identity.remint_s,
        (1, 3600),
        u64::from(weir_identify::REMINT_S_DEFAULT),
    );
    let mut checked = Identity {
        authority: identity.authority.clone(),
        allow_plain_loopback: identity.allow_plain_loopback.unwrap_or(false),
        tenants: identity.tenants.clone(),
        audience: identity.audience.clone(),
        required_role: identity.required_role.clone(),
        reviewer_client_id: identity.reviewer_client_id.clone(),
        reviewer_scope: identity
            .reviewer_scope
            .clone()
            .unwrap_or_else(|| "Agent.Run".to_owned()),
        clock_skew_s: u32::try_from(skew).unwrap_or(60),
        remint_s: u32::try_from(remint).unwrap_or(weir_identify::REMINT_S_DEFAULT),
        metadata: identity.metadata.clone(),
        cluster: identity
            .cluster
            .as_ref()
            .map(|(issuer, keys_file, node)| Cluster {
                issuer: issuer.clone(),
                keys_file: checker.file(keys_file),
                node: node.clone(),
            }),
        graph: None,
    };
    checked.graph = identity
        .graph
        .as_ref()
        .and_then(|graph| check_graph(graph, &checked, checker));
    checked
}

fn check_workloads(
    raw: &[RawWorkload],
    node: &NodeSettings,
    identity: &Identity,
    checker: &mut Checker<'_>,
) -> Vec<Workload> {
    if raw.is_empty() {
        checker.say(
            "workloads",
            "needs at least one workload: otherwise nobody is governed",
        );
    }
    if raw.len() > WORKLOADS_MAX {
        checker.say(
            "workloads",
            format!("has more than {WORKLOADS_MAX} workloads"),
        );
    }
    let mut names = BTreeSet::new();
    let mut cgroups = BTreeSet::new();
    let mut workloads = Vec::with_capacity(raw.len());
    for item in raw {
        let at = |field: &str| format!("{}.{field}", item.path);
        checker.name(&at("name"), &item.name);
        if !names.insert(item.name.clone()) {
            checker.say(
                at("name"),
                format!("{} is taken by another workload", item.name),
            );
        }
        let members = check_members(&item.members, &item.path, node, checker);
        if let Some(Members::Cgroup(cgroup)) = &members
            && !cgroups.insert(cgroup.clone())
        {
            checker.say(at("cgroup"), "is taken by another workload");
        }
        let egress = check_egress(&item.egress, &item.path, checker);
        let signing = match members {
            Some(Members::Pods(_)) => Signing::Pods,
            Some(Members::Cgroup(_) | Members::Container(_)) | None => Signing::Workload,
        };
        let place = (&*at("identity"), signing);
        let sign_in = check_sign_in(&item.sign_in, place, identity, checker);
        workloads.push(Workload {
            name: Arc::from(item.name.as_str()),
            members: members.unwrap_or(Members::Cgroup(String::new())),
            egress,
            netns: item.netns.as_deref().map(|path| checker.file(path)),
            sign_in,
        });
    }
    workloads
}

/// Without a choice: what is secret or a number of a person wherever it stands; not mail addresses
/// and telephone numbers, which logs and listings are full of.
fn check_patterns(raw: &RawMasking, checker: &mut Checker<'_>) -> Option<OutputPatterns> {
    let mut detectors = Vec::new();
    for (index, name) in raw.detectors.iter().enumerate() {
        match Detector::parse(name) {
            Some(detector) => detectors.push(detector),
            None => {
                let known: Vec<&str> = Detector::ALL.iter().map(|one| one.name()).collect();
                let message = format!("must be one of {}", known.join(", "));
                checker.say(format!("masking.detectors[{index}]"), message);
            }
        }
    }
    if raw.detectors.is_empty() {
        detectors = Detector::ALL
            .into_iter()
            .filter(|one| !matches!(one, Detector::Email | Detector::Phone))
            .collect();
    }
    match OutputPatterns::new(&detectors, &raw.patterns) {
        Ok(patterns) => Some(patterns),
        Err(problem) => {
            checker.say("masking.patterns", problem.to_string());
            None
        }
    }
}

fn check_groups(
    path: &str,
    groups: Vec<(String, String)>,
    checker: &mut Checker<'_>,
) -> BTreeMap<String, String> {
    for (name, guid) in &groups {
        checker.name(&format!("{path}.{name}"), name);
        checker.guid(&format!("{path}.{name}"), guid);
    }
    groups.into_iter().collect()
}

fn check_record(raw: RawRecord, checker: &mut Checker<'_>) -> Record {
    let limit_bytes = checker.number(
        "record.spool.limit_bytes",
        raw.limit_bytes,
        (SPOOL_BYTES_MIN, u64::MAX),
        4 * 1024 * 1024 * 1024,
    );
    let durability = match raw.durability.as_deref() {
        None | Some("process") => Durability::Process,
        Some("power-loss") => Durability::PowerLoss,
        Some(_) => {
            checker.say("record.durability", "must be process or power-loss");
            Durability::PowerLoss
        }
    };
    let rows_head = checker.number("record.rows_head", raw.rows_head, (0, ROWS_HEAD_MAX), 10);
    let clickhouse = raw.clickhouse.map(|store| check_clickhouse(store, checker));
    let anchor_s = checker.number("record.anchor_s", raw.anchor_s, (1, 3600), 5);
    let witness = raw.witness.and_then(|raw| check_witness(raw, checker));
    Record {
        limit_bytes,
        durability,
        rows_head: usize::try_from(rows_head).unwrap_or(0),
        clickhouse,
        anchor_s,
        witness,
    }
}

fn check_witness(raw: RawWitness, checker: &mut Checker<'_>) -> Option<Witness> {
    let file_only = raw.ca_file.is_none() && raw.token_file.is_none();
    match (raw.file, raw.url) {
        (Some(file), None) if file_only => Some(Witness::File(checker.file(&file))),
        (None, Some(url)) => {
            if !url.starts_with("https://") && !url.starts_with("http://127.0.0.1:") {
                checker.say("record.witness.url", "must start with https://");
            }
            Some(Witness::Service {
                url,
                ca_file: raw.ca_file.as_deref().map(|file| checker.file(file)),
                token_file: raw.token_file.as_deref().map(|file| checker.file(file)),
            })
        }
        _ => {
            checker.say(
                "record.witness",
                "needs either file alone, or url with ca_file and token_file where needed",
            );
            None
        }
    }
}

fn check_clickhouse(raw: RawClickHouse, checker: &mut Checker<'_>) -> ClickHouse {
    let plain = |url: &String| url.starts_with("http://") || url.starts_with("https://");
    if raw.urls.is_empty() || !raw.urls.iter().all(plain) {
        checker.say(
            "record.clickhouse.url",
            "must start with http:// or https://",
        );
    }
    let mut urls = raw.urls.into_iter();
    ClickHouse {
        url: urls.next().unwrap_or_default(),
        replicas: urls.collect(),
        database: raw.database.unwrap_or_else(|| "weir".to_owned()),
        token_file: raw.token_file.as_deref().map(|file| checker.file(file)),
        reader_token_file: raw
            .reader_token_file
            .as_deref()
            .map(|file| checker.file(file)),
        migrator_token_file: raw
            .migrator_token_file
            .as_deref()
            .map(|file| checker.file(file)),
    }
}

fn check_approvals(raw: RawApprovals, checker: &mut Checker<'_>) -> Approvals {
    let expires = checker.number(
        "approvals.expires_s",
        raw.expires_s,
        (1, EXPIRES_S_MAX),
        1800,
    );
    let in_transaction = checker.number(
        "approvals.in_transaction_s",
        raw.in_transaction_s,
        (1, EXPIRES_S_MAX),
        IN_TRANSACTION_S.min(expires),
    );
    let reviewer_groups = check_groups("approvals.reviewer_groups", raw.reviewer_groups, checker);
    let names = reviewer_groups.keys().cloned().collect();
    Approvals {
        notifiers: check_notifiers(&raw.notifiers, &names, checker),
        expires_s: u32::try_from(expires).unwrap_or(1800),
        in_transaction_s: u32::try_from(in_transaction).unwrap_or(300),
        reviewer_groups,
        state: shared_state::check(raw.state, checker),
    }
}
