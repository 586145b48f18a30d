//! etcd, kube-apiserver and kube-controller-manager in the lab's database namespace.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::build::Built;
use super::parts::{ADMIN, Parts};
use crate::lab::model::Lab;
use crate::lab::secret::{random_word, write_private};
use crate::{place, run, say};

/// One server for each way, so that what a group leaves behind in one changes nothing in the other.
#[derive(Clone, Copy)]
pub(super) struct Instance {
    pub(super) name: &'static str,
    /// Beside the lab's own test API server.
    pub(super) port: u16,
    pub(super) etcd_port: u16,
    pub(super) manager_port: u16,
    pub(super) authorization: &'static str,
}

/// Protected by Weir: `tests/conformance/kubernetes/target.yaml` has its name and port, too.
pub(super) const GOVERNED: Instance = Instance {
    name: "conformance",
    port: 6444,
    etcd_port: 2379,
    manager_port: 10257,
    authorization: "RBAC",
};

/// As the suite starts its own.
pub(super) const DIRECT: Instance = Instance {
    name: "conformance-direct",
    port: 6445,
    etcd_port: 2389,
    manager_port: 10267,
    authorization: "RBAC,AlwaysAllow",
};

/// The server that the suite was written for.
pub(super) struct Server {
    pub(super) url: String,
    /// Of somebody who may do everything, straight at the server.
    pub(super) kubeconfig: String,
}

/// The lab's configuration with one more target; its path.
pub(super) fn configuration() -> Result<PathBuf> {
    let lab = fs::read_to_string(place::root().join("deploy/lab/weir.yaml"));
    let lab = lab.context("the lab's configuration")?;
    let target = fs::read_to_string(super::folder().join("target.yaml")).context("the target")?;
    let (before, after) = lab
        .split_once("\npolicies:\n")
        .context("the lab's configuration has no policies")?;
    let folder = place::target().join("conformance");
    fs::create_dir_all(&folder).context("a folder for the configuration")?;
    let path = folder.join("weir.yaml");
    fs::write(&path, format!("{before}\n{target}\npolicies:\n{after}"))
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Starts all three and gives the agents their roles.
pub(super) fn start(lab: &mut Lab, built: &Built, instance: Instance) -> Result<Server> {
    let step = say::step(format!("kube-apiserver 1.20.2, {}", instance.name));
    let parts = Parts {
        folder: lab.state_dir.join(instance.name),
        built,
        instance,
        address: lab.database.addresses.v4.to_string(),
    };
    fs::create_dir_all(&parts.folder).context("the server's folder")?;
    let weir_token = random_word()?;
    write_private(
        &lab.secrets().join(format!("{}-token", instance.name)),
        weir_token.as_bytes(),
    )?;
    let people = format!("{ADMIN},admin,,\"system:masters\"\n{weir_token},weir,,\n");
    write_private(&parts.folder.join("tokens.csv"), people.as_bytes())?;
    let key = parts.folder.join("accounts.key");
    run::quiet(Command::new("openssl").args(["genrsa", "-out"]).arg(key))?;
    parts.start(lab, "etcd", parts.etcd(lab))?;
    parts.start(lab, "kube-apiserver", parts.apiserver())?;
    let server = Server {
        url: parts.url(),
        kubeconfig: parts.kubeconfig(lab)?,
    };
    parts.start(lab, "kube-controller-manager", parts.manager())?;
    parts.apply_roles(lab)?;
    step.done(&server.url);
    Ok(server)
}
