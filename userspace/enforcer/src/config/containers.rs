//! The rules of containers: which runtimes are asked, and which containers are whose.

use std::path::PathBuf;

use weir_discover::ContainerSelector;

use super::checked::{Checker, NodeSettings};
use super::raw::{RawContainer, RawRuntime};
use super::sets::{Members, is_within};

/// Each keeps a connection open.
const RUNTIMES_MAX: usize = 4;

/// A container runtime that speaks the Docker Engine API.
#[derive(Clone, Debug)]
pub(crate) struct Runtime {
    pub(crate) name: String,
    pub(crate) socket: PathBuf,
    /// Cgroups that its containers are made right below.
    pub(crate) parents: Vec<String>,
}

pub(super) fn check_runtimes(
    raw: &[RawRuntime],
    node: &NodeSettings,
    checker: &mut Checker<'_>,
) -> Vec<Runtime> {
    if raw.len() > RUNTIMES_MAX {
        checker.say("runtimes", format!("more than {RUNTIMES_MAX}"));
    }
    let mut runtimes: Vec<Runtime> = Vec::with_capacity(raw.len());
    for item in raw {
        checker.name(&format!("{}.name", item.path), &item.name);
        if runtimes.iter().any(|one| one.name == item.name) {
            checker.say(format!("{}.name", item.path), "is another runtime's too");
        }
        if !item.socket.starts_with('/') {
            let message = "must be the path of a unix socket, such as /run/docker.sock";
            checker.say(format!("{}.socket", item.path), message);
        }
        for (index, parent) in item.cgroup_parents.iter().enumerate() {
            let path = format!("{}.cgroup_parents[{index}]", item.path);
            checker.cgroup(&path, parent);
            if !node.governed.iter().any(|root| is_within(parent, root)) {
                let message = format!(
                    "must lie below node.governed ({}): nothing governs it",
                    node.governed.join(", ")
                );
                checker.say(path, message);
            }
        }
        runtimes.push(Runtime {
            name: item.name.clone(),
            socket: PathBuf::from(&item.socket),
            parents: if item.cgroup_parents.is_empty() {
                node.governed.clone()
            } else {
                item.cgroup_parents.clone()
            },
        });
    }
    runtimes
}

pub(super) fn check_container(raw: &RawContainer, checker: &mut Checker<'_>) -> ContainerSelector {
    if raw.name.is_none() && raw.image.is_none() && raw.labels.is_empty() {
        checker.say(&raw.path, "needs a name, an image or labels");
    }
    if let Some(name) = raw.name.as_ref().filter(|name| name.starts_with('/')) {
        let message = format!("is {} without its slash", name.trim_start_matches('/'));
        checker.say(format!("{}.name", raw.path), message);
    }
    ContainerSelector {
        runtime: raw.runtime.clone(),
        name: raw.name.clone(),
        image: raw.image.clone(),
        labels: raw.labels.iter().cloned().collect(),
    }
}

/// Whatever names containers needs a runtime to ask, and one that is there.
pub(super) fn check_asked(config: &super::Config, checker: &mut Checker<'_>) {
    let of_workloads = config.workloads.iter().enumerate();
    let of_workloads = of_workloads.filter_map(|(index, one)| match &one.members {
        Members::Container(selector) => Some((format!("workloads[{index}].container"), selector)),
        Members::Cgroup(_) | Members::Pods(_) => None,
    });
    let exempt = config.exempt.containers.iter().enumerate();
    let exempt = exempt.map(|(index, one)| (format!("exempt.containers[{index}]"), one));
    for (path, selector) in of_workloads.chain(exempt) {
        if config.runtimes.is_empty() {
            checker.say("runtimes", format!("is required: {path} names containers"));
        } else if let Some(name) = &selector.runtime
            && !config.runtimes.iter().any(|one| one.name == *name)
        {
            checker.say(format!("{path}.runtime"), "is not one of runtimes");
        }
    }
}
