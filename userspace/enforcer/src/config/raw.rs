//! The names of the file, as they are written. No rule is applied here.

mod sets;

pub(super) use self::sets::{
    RawAllow, RawContainer, RawDns, RawEgress, RawExempt, RawKubernetes, RawMembers, RawPods,
    RawRuntime, RawService,
};

use serde_json::Value;

use super::console::RawConsole;
use super::credential::{CERTIFICATE, KEY, PASSWORD, RawRole, RawSecret, TOKEN, read_roles};
use super::notifiers::RawNotifier;
use super::read::{Problem, Section};
use super::shared_state::RawState;
use super::sign_in::{RawGraph, RawSignIn};

/// The whole file.
pub(super) struct Raw {
    pub(super) version: Option<u64>,
    pub(super) node: RawNode,
    pub(super) identity: RawIdentity,
    pub(super) workloads: Vec<RawWorkload>,
    pub(super) exempt: RawExempt,
    pub(super) kubernetes: Option<RawKubernetes>,
    pub(super) runtimes: Vec<RawRuntime>,
    pub(super) dns: RawDns,
    pub(super) targets: Vec<RawTarget>,
    /// `policies.directory`: every `*.cedar` file in it.
    pub(super) policies: String,
    /// `policies.groups`: readable names for group GUIDs, usable in policies.
    pub(super) groups: Vec<(String, String)>,
    pub(super) masking: RawMasking,
    pub(super) record: RawRecord,
    pub(super) approvals: RawApprovals,
    /// `admin.http`: loopback address for `/live /ready /metrics`.
    pub(super) admin_http: Option<String>,
    /// `admin.groups`: who may revoke; every reviewer without.
    pub(super) admin_groups: Vec<(String, String)>,
    pub(super) console: Option<RawConsole>,
}

pub(super) struct RawNode {
    pub(super) name: String,
    pub(super) cluster: String,
    /// Spool, keys, certificates, approvals. Root or the node's user only.
    pub(super) state_dir: String,
    /// Sockets.
    pub(super) run_dir: String,
    /// The user that `weir node` becomes.
    pub(super) user: String,
    /// Weir's own cgroup, below the cgroup v2 mount.
    pub(super) cgroup: String,
    /// Roots of the governed subtrees: one, or a list.
    pub(super) governed: Vec<String>,
    pub(super) pins: String,
    /// How long sessions that cannot move to a successor may go on.
    pub(super) drain_s: Option<u64>,
}

pub(super) struct RawIdentity {
    pub(super) authority: String,
    pub(super) allow_plain_loopback: Option<bool>,
    pub(super) tenants: Vec<String>,
    pub(super) audience: String,
    pub(super) required_role: String,
    pub(super) reviewer_client_id: Option<String>,
    pub(super) reviewer_scope: Option<String>,
    pub(super) clock_skew_s: Option<u64>,
    pub(super) remint_s: Option<u64>,
    pub(super) metadata: Option<String>,
    /// Issuer, keys file, node.
    pub(super) cluster: Option<(String, String, Option<String>)>,
    pub(super) graph: Option<RawGraph>,
}

pub(super) struct RawWorkload {
    pub(super) path: String,
    pub(super) name: String,
    pub(super) members: RawMembers,
    pub(super) egress: RawEgress,
    pub(super) netns: Option<String>,
    pub(super) sign_in: RawSignIn,
}

pub(super) struct RawTarget {
    pub(super) path: String,
    pub(super) name: String,
    pub(super) protocol: String,
    /// `enforce`, or `observe`: policy only says what it would do.
    pub(super) mode: Option<String>,
    pub(super) hosts: Vec<String>,
    pub(super) dns_names: Vec<String>,
    pub(super) services: Vec<RawService>,
    pub(super) ports: Vec<u64>,
    pub(super) agent_tls: Option<String>,
    pub(super) accept_token: Option<bool>,
    pub(super) names: Vec<String>,
    pub(super) upstream_tls: Option<String>,
    pub(super) upstream_ca: Option<String>,
    pub(super) upstream_name: Option<String>,
    pub(super) user: Option<String>,
    pub(super) password: RawSecret,
    pub(super) token: RawSecret,
    pub(super) roles: Vec<RawRole>,
    pub(super) refresh_s: Option<u64>,
    pub(super) server_keys: Option<String>,
    pub(super) config_keys: Vec<String>,
    pub(super) ssh_names: Vec<String>,
    pub(super) host_key: Option<String>,
    pub(super) key: RawSecret,
    pub(super) certificate: RawSecret,
}

#[derive(Default)]
pub(super) struct RawMasking {
    /// 32 random bytes; made by the broker when absent.
    pub(super) key_file: Option<String>,
    /// Names of detectors for output; the usual ones without.
    pub(super) detectors: Vec<String>,
    /// Name → regular expression.
    pub(super) patterns: Vec<(String, String)>,
}

impl RawMasking {
    fn read(section: Option<Section<'_>>, problems: &mut Vec<Problem>) -> Self {
        let Some(mut section) = section else {
            return Self::default();
        };
        let raw = Self {
            key_file: section.opt_text("key_file", problems),
            detectors: section.texts("detectors", problems),
            patterns: section.text_map("patterns", problems),
        };
        section.finish(problems);
        raw
    }
}

pub(super) struct RawRecord {
    pub(super) limit_bytes: Option<u64>,
    pub(super) durability: Option<String>,
    pub(super) rows_head: Option<u64>,
    pub(super) clickhouse: Option<RawClickHouse>,
    pub(super) anchor_s: Option<u64>,
    pub(super) witness: Option<RawWitness>,
}

/// A second place for anchors: a file, or a service.
pub(super) struct RawWitness {
    pub(super) file: Option<String>,
    pub(super) url: Option<String>,
    pub(super) ca_file: Option<String>,
    pub(super) token_file: Option<String>,
}

pub(super) struct RawClickHouse {
    /// One address, or those of several replicas of one shard.
    pub(super) urls: Vec<String>,
    pub(super) database: Option<String>,
    /// Bearer of the writer; `weir node` uses it.
    pub(super) token_file: Option<String>,
    /// Bearer of the reader; `weir sessions` and `weir audit` use it.
    pub(super) reader_token_file: Option<String>,
    /// Bearer that may change the schema; `weir db migrate` uses it.
    pub(super) migrator_token_file: Option<String>,
}

pub(super) struct RawApprovals {
    pub(super) expires_s: Option<u64>,
    pub(super) in_transaction_s: Option<u64>,
    pub(super) reviewer_groups: Vec<(String, String)>,
    pub(super) notifiers: Vec<RawNotifier>,
    pub(super) state: Option<RawState>,
}

impl Raw {
    pub(super) fn read(tree: &Value, problems: &mut Vec<Problem>) -> Self {
        let mut root = Section::root(tree, problems);
        let version = root.opt_number("version", problems);
        let node = RawNode::read(root.section("node", problems), problems);
        let identity = RawIdentity::read(root.section("identity", problems), problems);
        let workloads = root.sections("workloads", problems);
        let workloads = workloads
            .into_iter()
            .map(|item| RawWorkload::read(item, problems))
            .collect();
        let exempt = RawExempt::read(root.opt_section("exempt", problems), problems);
        let kubernetes = root.opt_section("kubernetes", problems);
        let kubernetes = kubernetes.map(|section| RawKubernetes::read(section, problems));
        let runtimes = root.sections("runtimes", problems).into_iter();
        let runtimes = runtimes
            .map(|item| RawRuntime::read(item, problems))
            .collect();
        let dns = RawDns::read(root.opt_section("dns", problems), problems);
        let targets = root.sections("targets", problems);
        let targets = targets
            .into_iter()
            .map(|item| RawTarget::read(item, problems))
            .collect();
        let mut policies_section = root.section("policies", problems);
        let policies = policies_section.text("directory", problems);
        let groups = policies_section.text_map("groups", problems);
        policies_section.finish(problems);
        let masking = RawMasking::read(root.opt_section("masking", problems), problems);
        let record = RawRecord::read(root.opt_section("record", problems), problems);
        let approvals = RawApprovals::read(root.opt_section("approvals", problems), problems);
        let (mut admin_http, mut admin_groups) = (None, Vec::new());
        if let Some(mut section) = root.opt_section("admin", problems) {
            admin_http = section.opt_text("http", problems);
            admin_groups = section.text_map("groups", problems);
            section.finish(problems);
        }
        let console = root.opt_section("console", problems);
        let console = console.map(|section| RawConsole::read(section, problems));
        root.finish(problems);
        Self {
            version,
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
            masking,
            record,
            approvals,
            admin_http,
            admin_groups,
            console,
        }
    }
}

impl RawNode {
    fn read(mut section: Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let mut or = |name: &'static str, default: &str, problems: &mut Vec<Problem>| {
            section
                .opt_text(name, problems)
                .unwrap_or_else(|| default.to_owned())
        };
        let cluster = or("cluster", "default", problems);
        let state_dir = or("state_dir", "/var/lib/weir", problems);
        let run_dir = or("run_dir", "/run/weir", problems);
        let user = or("user", "weir", problems);
        let cgroup = or("cgroup", "/weir", problems);
        let pins = or("pins", "/sys/fs/bpf/weir", problems);
        let name = section.text("name", problems);
        let governed = section.text_or_texts("governed", problems);
        let drain_s = section.opt_number("drain_s", problems);
        section.finish(problems);
        Self {
            name,
            cluster,
            state_dir,
            run_dir,
            user,
            cgroup,
            governed,
            pins,
            drain_s,
        }
    }
}

impl RawIdentity {
    fn read(mut section: Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let raw = Self {
            authority: section.text("authority", problems),
            allow_plain_loopback: section.opt_flag("allow_plain_loopback", problems),
            tenants: section.texts("tenants", problems),
            audience: section.text("audience", problems),
            required_role: section.text("required_role", problems),
            reviewer_client_id: section.opt_text("reviewer_client_id", problems),
            reviewer_scope: section.opt_text("reviewer_scope", problems),
            clock_skew_s: section.opt_number("clock_skew_s", problems),
            remint_s: section.opt_number("remint_s", problems),
            metadata: section.opt_text("metadata", problems),
            cluster: section.opt_section("cluster", problems).map(|mut cluster| {
                let issuer = cluster.text("issuer", problems);
                let keys_file = cluster.text("keys_file", problems);
                let node = cluster.opt_text("node", problems);
                cluster.finish(problems);
                (issuer, keys_file, node)
            }),
            graph: section
                .opt_section("graph", problems)
                .map(|graph| RawGraph::read(graph, problems)),
        };
        section.finish(problems);
        raw
    }
}

impl RawWorkload {
    fn read(mut section: Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let path = section.path_of("");
        let name = section.text("name", problems);
        let members = RawMembers::read(&mut section, problems);
        let egress = RawEgress::read(&mut section, problems);
        let netns = section.opt_text("netns", problems);
        let sign_in = RawSignIn::read(section.section("identity", problems), problems);
        section.finish(problems);
        Self {
            path: path.trim_end_matches('.').to_owned(),
            name,
            members,
            egress,
            netns,
            sign_in,
        }
    }
}

/// Whether agents speak TLS, and the names of the certificate that they see.
fn read_tls(
    section: &mut Section<'_>,
    problems: &mut Vec<Problem>,
) -> (Option<String>, Vec<String>) {
    let Some(mut tls) = section.opt_section("tls", problems) else {
        return (None, Vec::new());
    };
    let read = (
        tls.opt_text("agent", problems),
        tls.texts("names", problems),
    );
    tls.finish(problems);
    read
}

impl RawTarget {
    fn read(mut section: Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let path = section.path_of("").trim_end_matches('.').to_owned();
        let name = section.text("name", problems);
        let protocol = section.text("protocol", problems);
        let mode = section.opt_text("mode", problems);
        let mut matching = section.section("match", problems);
        let hosts = matching.texts("hosts", problems);
        let dns_names = matching.texts("names", problems);
        let services = RawService::read_all(&mut matching, problems);
        let ports = matching.numbers("ports", problems);
        matching.finish(problems);
        let (agent_tls, names) = read_tls(&mut section, problems);
        let accept_token = section.opt_flag("accept_token", problems);
        let mut config_keys = Vec::new();
        if let Some(mut kubernetes) = section.opt_section("kubernetes", problems) {
            config_keys = kubernetes.texts("masked_config_keys", problems);
            kubernetes.finish(problems);
        }
        let (mut ssh_names, mut host_key) = (Vec::new(), None);
        if let Some(mut ssh) = section.opt_section("ssh", problems) {
            ssh_names = ssh.texts("names", problems);
            host_key = ssh.opt_text("host_key_file", problems);
            ssh.finish(problems);
        }
        let (mut upstream_tls, mut upstream_ca, mut upstream_name) = (None, None, None);
        let mut server_keys = None;
        if let Some(mut upstream) = section.opt_section("upstream", problems) {
            upstream_tls = upstream.opt_text("tls", problems);
            upstream_ca = upstream.opt_text("ca_file", problems);
            upstream_name = upstream.opt_text("server_name", problems);
            server_keys = upstream.opt_text("host_keys_file", problems);
            upstream.finish(problems);
        }
        let mut credential = section.section("credential", problems);
        let user = credential.opt_text("user", problems);
        let password = RawSecret::read(&mut credential, PASSWORD, problems);
        let token = RawSecret::read(&mut credential, TOKEN, problems);
        let roles = read_roles(&mut credential, problems);
        let refresh_s = credential.opt_number("refresh_s", problems);
        let key = RawSecret::read(&mut credential, KEY, problems);
        let certificate = RawSecret::read(&mut credential, CERTIFICATE, problems);
        credential.finish(problems);
        section.finish(problems);
        Self {
            path,
            name,
            protocol,
            mode,
            hosts,
            dns_names,
            services,
            ports,
            agent_tls,
            accept_token,
            names,
            upstream_tls,
            upstream_ca,
            upstream_name,
            user,
            password,
            token,
            roles,
            refresh_s,
            server_keys,
            config_keys,
            ssh_names,
            host_key,
            key,
            certificate,
        }
    }
}

impl RawRecord {
    fn read(section: Option<Section<'_>>, problems: &mut Vec<Problem>) -> Self {
        let Some(mut section) = section else {
            return Self {
                limit_bytes: None,
                durability: None,
                rows_head: None,
                clickhouse: None,
                anchor_s: None,
                witness: None,
            };
        };
        let limit_bytes = section
            .opt_section("spool", problems)
            .and_then(|mut spool| {
                let limit = spool.opt_number("limit_bytes", problems);
                spool.finish(problems);
                limit
            });
        let raw = Self {
            limit_bytes,
            durability: section.opt_text("durability", problems),
            rows_head: section.opt_number("rows_head", problems),
            anchor_s: section.opt_number("anchor_s", problems),
            witness: section.opt_section("witness", problems).map(|mut witness| {
                let raw = RawWitness {
                    file: witness.opt_text("file", problems),
                    url: witness.opt_text("url", problems),
                    ca_file: witness.opt_text("ca_file", problems),
                    token_file: witness.opt_text("token_file", problems),
                };
                witness.finish(problems);
                raw
            }),
            clickhouse: section
                .opt_section("clickhouse", problems)
                .map(|mut store| {
                    let raw = RawClickHouse {
                        urls: store.text_or_texts("url", problems),
                        database: store.opt_text("database", problems),
                        token_file: store.opt_text("token_file", problems),
                        reader_token_file: store.opt_text("reader_token_file", problems),
                        migrator_token_file: store.opt_text("migrator_token_file", problems),
                    };
                    store.finish(problems);
                    raw
                }),
        };
        section.finish(problems);
        raw
    }
}

impl RawApprovals {
    fn read(section: Option<Section<'_>>, problems: &mut Vec<Problem>) -> Self {
        let Some(mut section) = section else {
            return Self {
                expires_s: None,
                in_transaction_s: None,
                reviewer_groups: Vec::new(),
                notifiers: Vec::new(),
                state: None,
            };
        };
        let raw = Self {
            expires_s: section.opt_number("expires_s", problems),
            in_transaction_s: section.opt_number("in_transaction_s", problems),
            reviewer_groups: section.text_map("reviewer_groups", problems),
            notifiers: section
                .sections("notifiers", problems)
                .into_iter()
                .map(|item| RawNotifier::read(item, problems))
                .collect(),
            state: section
                .opt_section("state", problems)
                .map(|state| RawState::read(state, problems)),
        };
        section.finish(problems);
        raw
    }
}
