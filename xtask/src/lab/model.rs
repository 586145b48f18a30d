//! What a lab is, as written to its state file.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::cluster::Cluster;
use super::console::Console;
use super::daemon::Process;
use super::host::Host;
use super::secret::write_private;

/// Every lab of this machine lies here; root only below each lab's own folders.
pub(crate) const LABS: &str = "/var/lib/weir-lab";
/// Sockets and locks of labs.
pub(crate) const RUNS: &str = "/run/weir-lab";

/// Everything that `lab env` prints and `lab down` removes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Lab {
    pub(crate) name: String,
    /// 0..=254: third number of 10.77.N.0/24, second group of fd77:N::/64.
    pub(crate) number: u8,
    pub(crate) bridge: String,
    /// The addresses by which agents reach the host.
    pub(crate) host: Addresses,
    pub(crate) state_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) pins: PathBuf,
    /// Mount point of the cgroup v2 tree.
    pub(crate) cgroup_mount: PathBuf,
    /// This lab's part of it, `/weir-lab-NAME`.
    pub(crate) cgroup: String,
    pub(crate) database: Database,
    pub(crate) cluster: Cluster,
    pub(crate) ssh_host: Host,
    pub(crate) agents: BTreeMap<String, Agent>,
    /// An ungoverned namespace on the same bridge.
    pub(crate) outside: Outside,
    pub(crate) entra: Option<Entra>,
    pub(crate) store: Option<Store>,
    pub(crate) weir: Option<Weir>,
    pub(crate) console: Option<Console>,
    pub(crate) processes: BTreeMap<String, Process>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Database {
    pub(crate) addresses: Addresses,
    pub(crate) port: u16,
    pub(crate) netns: PathBuf,
    pub(crate) name: String,
    /// The role whose password Weir holds; owner of the demo tables.
    pub(crate) user: String,
    pub(crate) password_file: PathBuf,
    /// By which the server is proven.
    pub(crate) ca_file: PathBuf,
    /// Weir speaks TLS with it.
    pub(crate) tls: bool,
    /// Folder of the server's unix socket; root may connect as `postgres` without a password.
    pub(crate) socket_dir: PathBuf,
    /// The server's own log of every statement.
    pub(crate) log: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Agent {
    pub(crate) addresses: Addresses,
    pub(crate) netns: PathBuf,
    /// Below the cgroup v2 mount.
    pub(crate) cgroup: String,
    /// The host's end of the agent's `eth0`.
    pub(crate) host_device: String,
    pub(crate) token_file: PathBuf,
    pub(crate) client_id: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outside {
    pub(crate) addresses: Addresses,
    pub(crate) netns: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entra {
    pub(crate) origin: String,
    pub(crate) tenant: String,
    pub(crate) audience: String,
    pub(crate) required_role: String,
    pub(crate) reviewer_client_id: String,
    pub(crate) reviewer_scope: String,
    /// Group name → object id.
    pub(crate) groups: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Store {
    pub(crate) url: String,
    pub(crate) writer_token_file: PathBuf,
    pub(crate) reader_token_file: PathBuf,
    pub(crate) migrator_token_file: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Weir {
    pub(crate) binary: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) policies: PathBuf,
    pub(crate) state_dir: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) admin_socket: PathBuf,
    pub(crate) admin_http: String,
    pub(crate) spool: PathBuf,
}

impl Lab {
    /// Names become parts of devices, cgroups and folders.
    pub(crate) fn check_name(name: &str) -> Result<()> {
        let fits = (1..=24).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !name.starts_with('-');
        if !fits {
            bail!("a lab's name is 1 to 24 lower-case letters, digits and '-'");
        }
        Ok(())
    }

    /// The lab as it was last saved.
    pub(crate) fn load(name: &str) -> Result<Self> {
        Self::check_name(name)?;
        let file = Path::new(LABS).join(name).join("lab.json");
        let text = fs::read_to_string(&file)
            .with_context(|| format!("no lab '{name}' is up (cargo xtask lab up --name {name})"))?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", file.display()))
    }

    /// Names of every lab with a state file.
    pub(crate) fn names() -> Vec<String> {
        let Ok(entries) = fs::read_dir(LABS) else {
            return Vec::new();
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().join("lab.json").exists())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Written before what it names is made, so that `down` finds all of it.
    pub(crate) fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(self).context("writing the state file")?;
        let file = self.state_dir.join("lab.json");
        let next = self.state_dir.join("lab.json.next");
        write_private(&next, text.as_bytes())?;
        fs::rename(&next, &file).with_context(|| format!("replacing {}", file.display()))
    }

    /// A folder of this lab's cgroup.
    pub(crate) fn cgroup_path(&self, below: &str) -> PathBuf {
        self.cgroup_mount
            .join(self.cgroup.trim_start_matches('/'))
            .join(below)
    }

    pub(crate) fn secrets(&self) -> PathBuf {
        self.state_dir.join("secrets")
    }

    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.state_dir.join("log").join(format!("{process}.log"))
    }

    pub(crate) fn netns_name(&self, part: &str) -> String {
        format!("weir-{}-{part}", self.name)
    }

    pub(crate) fn agent(&self, name: &str) -> Result<&Agent> {
        self.agents.get(name).with_context(|| {
            let known: Vec<&str> = self.agents.keys().map(String::as_str).collect();
            format!("no agent '{name}'; there are {}", known.join(", "))
        })
    }
}
