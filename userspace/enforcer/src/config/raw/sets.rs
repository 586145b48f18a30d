//! Who is governed, what is exempt, and what a workload may reach, as written.

use crate::config::read::{Problem, Section};

/// Exactly one of them has to be there.
#[derive(Default)]
pub(in crate::config) struct RawMembers {
    pub(in crate::config) cgroup: Option<String>,
    /// `agent.service`, or the path of a unit below the cgroup v2 mount.
    pub(in crate::config) unit: Option<String>,
    pub(in crate::config) pods: Option<RawPods>,
    pub(in crate::config) container: Option<RawContainer>,
}

pub(in crate::config) struct RawPods {
    pub(in crate::config) path: String,
    pub(in crate::config) namespace: String,
    pub(in crate::config) labels: Vec<(String, String)>,
    pub(in crate::config) service_account: Option<String>,
}

#[derive(Default)]
pub(in crate::config) struct RawContainer {
    pub(in crate::config) path: String,
    /// One of `runtimes`; any without.
    pub(in crate::config) runtime: Option<String>,
    pub(in crate::config) name: Option<String>,
    pub(in crate::config) image: Option<String>,
    pub(in crate::config) labels: Vec<(String, String)>,
}

/// A container runtime that speaks the Docker Engine API.
pub(in crate::config) struct RawRuntime {
    pub(in crate::config) path: String,
    pub(in crate::config) name: String,
    pub(in crate::config) socket: String,
    /// `node.governed` without.
    pub(in crate::config) cgroup_parents: Vec<String>,
}

/// `egress: listed`, and the list.
#[derive(Default)]
pub(in crate::config) struct RawEgress {
    pub(in crate::config) egress: Option<String>,
    pub(in crate::config) allow: Vec<RawAllow>,
}

pub(in crate::config) struct RawAllow {
    pub(in crate::config) path: String,
    pub(in crate::config) hosts: Vec<String>,
    pub(in crate::config) names: Vec<String>,
    /// None means any.
    pub(in crate::config) ports: Vec<u64>,
}

/// Below a governed cgroup, and not governed.
#[derive(Default)]
pub(in crate::config) struct RawExempt {
    pub(in crate::config) cgroups: Vec<String>,
    pub(in crate::config) pods: Vec<RawPods>,
    pub(in crate::config) containers: Vec<RawContainer>,
}

/// How the node asks the Kubernetes API.
pub(in crate::config) struct RawKubernetes {
    /// `https://host:port`.
    pub(in crate::config) server: String,
    pub(in crate::config) ca_file: String,
    pub(in crate::config) token_file: String,
    /// This node's name there; `node.name` without.
    pub(in crate::config) node: Option<String>,
    /// The kubelet's `--cgroup-root`.
    pub(in crate::config) cgroup_root: Option<String>,
    /// The kubelet's `--root-dir`.
    pub(in crate::config) kubelet_dir: Option<String>,
}

#[derive(Default)]
pub(in crate::config) struct RawDns {
    /// `address:port`; the machine's own without.
    pub(in crate::config) servers: Vec<String>,
    /// How long an address counts after the last answer that held it.
    pub(in crate::config) keep_s: Option<u64>,
}

pub(in crate::config) struct RawService {
    pub(in crate::config) path: String,
    pub(in crate::config) namespace: String,
    pub(in crate::config) name: String,
}

fn path_of(section: &Section<'_>) -> String {
    section.path_of("").trim_end_matches('.').to_owned()
}

impl RawMembers {
    pub(super) fn read(section: &mut Section<'_>, problems: &mut Vec<Problem>) -> Self {
        Self {
            cgroup: section.opt_text("cgroup", problems),
            unit: section.opt_text("unit", problems),
            pods: section
                .opt_section("pods", problems)
                .map(|pods| RawPods::read(pods, problems)),
            container: section
                .opt_section("container", problems)
                .map(|container| RawContainer::read(container, problems)),
        }
    }
}

impl RawPods {
    fn read(mut section: Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let raw = Self {
            path: path_of(&section),
            namespace: section.text("namespace", problems),
            labels: section.text_map("labels", problems),
            service_account: section.opt_text("service_account", problems),
        };
        section.finish(problems);
        raw
    }
}

impl RawContainer {
    fn read(mut section: Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let raw = Self {
            path: path_of(&section),
            runtime: section.opt_text("runtime", problems),
            name: section.opt_text("name", problems),
            image: section.opt_text("image", problems),
            labels: section.text_map("labels", problems),
        };
        section.finish(problems);
        raw
    }
}

impl RawRuntime {
    pub(super) fn read(mut section: Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let raw = Self {
            path: path_of(&section),
            name: section.text("name", problems),
            socket: section.text("socket", problems),
            cgroup_parents: section.texts("cgroup_parents", problems),
        };
        section.finish(problems);
        raw
    }
}

impl RawEgress {
    pub(super) fn read(section: &mut Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let egress = section.opt_text("egress", problems);
        let allow = section.sections("allow", problems).into_iter();
        Self {
            egress,
            allow: allow.map(|item| RawAllow::read(item, problems)).collect(),
        }
    }
}

impl RawAllow {
    fn read(mut section: Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let raw = Self {
            path: path_of(&section),
            hosts: section.texts("hosts", problems),
            names: section.texts("names", problems),
            ports: section.numbers("ports", problems),
        };
        section.finish(problems);
        raw
    }
}

impl RawExempt {
    pub(super) fn read(section: Option<Section<'_>>, problems: &mut Vec<Problem>) -> Self {
        let Some(mut section) = section else {
            return Self::default();
        };
        let cgroups = section.texts("cgroups", problems);
        let pods = section.sections("pods", problems).into_iter();
        let pods = pods.map(|item| RawPods::read(item, problems)).collect();
        let containers = section.sections("containers", problems).into_iter();
        let containers = containers.map(|item| RawContainer::read(item, problems));
        let containers = containers.collect();
        section.finish(problems);
        Self {
            cgroups,
            pods,
            containers,
        }
    }
}

impl RawKubernetes {
    pub(super) fn read(mut section: Section<'_>, problems: &mut Vec<Problem>) -> Self {
        let raw = Self {
            server: section.text("server", problems),
            ca_file: section.text("ca_file", problems),
            token_file: section.text("token_file", problems),
            node: section.opt_text("node", problems),
            cgroup_root: section.opt_text("cgroup_root", problems),
            kubelet_dir: section.opt_text("kubelet_dir", problems),
        };
        section.finish(problems);
        raw
    }
}

impl RawDns {
    pub(super) fn read(section: Option<Section<'_>>, problems: &mut Vec<Problem>) -> Self {
        let Some(mut section) = section else {
            return Self::default();
        };
        let raw = Self {
            servers: section.texts("servers", problems),
            keep_s: section.opt_number("keep_s", problems),
        };
        section.finish(problems);
        raw
    }
}

impl RawService {
    pub(super) fn read_all(section: &mut Section<'_>, problems: &mut Vec<Problem>) -> Vec<Self> {
        let items = section.sections("services", problems).into_iter();
        let read = |mut item: Section<'_>| {
            let raw = Self {
                path: path_of(&item),
                namespace: item.text("namespace", problems),
                name: item.text("name", problems),
            };
            item.finish(problems);
            raw
        };
        items.map(read).collect()
    }
}
