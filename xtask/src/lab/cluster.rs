//! The test API server, in the database's namespace.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::daemon::{self, Plan};
use super::model::Lab;
use super::secret::write_private;
use super::{agents, network};
use crate::binaries::Binaries;
use crate::run;

/// The name by which Weir proves the server.
const NAME: &str = "kubernetes.default.svc";

/// Where it listens, beside the database.
const PORT: u16 = 6443;

/// The test API server of a lab.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cluster {
    pub(crate) server: String,
    pub(crate) port: u16,
    pub(crate) folder: PathBuf,
    /// The credential that Weir holds.
    pub(crate) token_file: PathBuf,
    pub(crate) ca_file: PathBuf,
    /// The server's own log: one JSON line per request that reached it.
    pub(crate) log: PathBuf,
}

impl Cluster {
    pub(crate) fn plan(number: u8, state_dir: &Path) -> Self {
        let address = network::addresses(number, network::DATABASE).v4;
        let folder = state_dir.join("cluster");
        Self {
            server: format!("https://{address}:{PORT}"),
            port: PORT,
            token_file: state_dir.join("secrets/cluster-token"),
            ca_file: folder.join("ca.pem"),
            log: folder.join("audit.jsonl"),
            folder,
        }
    }
}

pub(crate) fn start(lab: &mut Lab, binaries: &Binaries) -> Result<()> {
    let folder = &lab.cluster.folder;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let addresses = lab.database.addresses;
    let log = lab.log("apiserver");
    let process = daemon::start(&Plan {
        command: vec![
            "nsenter".to_owned(),
            format!("--net={}", lab.database.netns.display()),
            binaries.apiserver.display().to_string(),
            "--stay".to_owned(),
            "--listen".to_owned(),
            // IPv4 as well: the socket takes both.
            format!("[::]:{}", lab.cluster.port),
            "--dir".to_owned(),
            folder.display().to_string(),
            "--names".to_owned(),
            format!("{NAME},{},{}", addresses.v4, addresses.v6),
        ],
        envs: BTreeMap::new(),
        cgroup: lab.cgroup_path(agents::PARTS),
        log: &log,
        folder: PathBuf::from("/"),
    })?;
    process.wait_ready(0)?;
    let token = fs::read(folder.join("admin.token")).context("the cluster's token")?;
    write_private(&lab.cluster.token_file, &token)?;
    lab.processes.insert("apiserver".to_owned(), process);
    lab.save()
}

/// What a platform team would roll out to an agent.
pub(crate) fn kubeconfig(lab: &Lab) -> Result<Option<String>> {
    let Some(weir) = &lab.weir else {
        return Ok(None);
    };
    run::output(
        Command::new(&weir.binary)
            .args(["ca", "kubeconfig", "--target", "cluster"])
            .args(["--server", &lab.cluster.server])
            .arg("--config")
            .arg(&weir.config),
    )
    .map(Some)
    .context("a kubeconfig for the agent")
}
