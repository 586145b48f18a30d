//! What a broker is started with.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use weir_kernel::KernelError;
use weir_model::fault::{Fault, FaultKind};

/// All of it comes from the checked configuration file.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// The uid that `weir node` becomes.
    pub node_uid: u32,
    /// Holds `broker.sock` and `admin.sock`.
    pub run_dir: PathBuf,
    pub pins: PathBuf,
    /// Weir's own cgroup, below the mount.
    pub own_cgroup: String,
    /// Roots of the governed subtrees; none lies in another.
    pub governed: Vec<String>,
    /// Cgroups below them that are not governed.
    pub exempt: Vec<String>,
    /// The kubelet's `--cgroup-root`.
    pub pods_root: String,
    /// The kubelet's `--root-dir`.
    pub kubelet_dir: PathBuf,
    /// Name of a container runtime and its socket.
    pub runtimes: Vec<(String, PathBuf)>,
    /// Name of a container runtime and the cgroups that its containers are made right below.
    pub runtime_parents: Vec<(String, Vec<String>)>,
    pub workloads: Vec<WorkloadConfig>,
    pub destinations: Vec<Destination>,
    pub credentials: Vec<CredentialConfig>,
    /// Targets whose addresses the node finds.
    pub found_targets: Vec<String>,
    /// How long a namespace without a process stays guarded, milliseconds: the next process in it
    /// finds the guard in place.
    pub guard_ms: u64,
}

/// A backend's secret that the node cannot read by itself.
#[derive(Clone, Debug)]
pub struct CredentialConfig {
    pub name: String,
    pub source: CredentialSource,
}

#[derive(Clone, Debug)]
pub enum CredentialSource {
    File(PathBuf),
    /// Absolute path and arguments.
    Exec(Vec<String>),
}

#[derive(Clone, Debug)]
pub struct WorkloadConfig {
    pub name: String,
    pub members: Members,
    /// Found from the cgroup's processes when absent.
    pub netns: Option<PathBuf>,
    pub token: TokenSource,
    /// Reaches nothing but its targets and this list, when there is one.
    pub egress: Option<Egress>,
}

/// Where the broker finds what proves a workload.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// A file of root's: the workload's own token, or a credential that may ask for it.
    File(PathBuf),
    /// An absolute path inside the workload's own root. What is there is the workload's choice.
    InContainer(PathBuf),
    /// The kubelet's copy of a pod's projected token.
    Kubelet,
    /// The workload needs none.
    None,
}

/// Which cgroups are a workload's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Members {
    /// This one, by its path, and all below it.
    Cgroup(String),
    /// Those that the node tells of.
    Told,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    pub allow: Vec<Destination>,
    /// The node finds more, by their names.
    pub named: bool,
}

/// One protected place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    pub net: IpAddr,
    pub prefix: u8,
    /// 0 means any.
    pub port: u16,
}

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("cgroup v2 is not mounted on this host: Weir needs it")]
    NoCgroup2,
    #[error("another broker runs on this host with the same node.pins: end that one first")]
    Another,
    #[error("{path}: {source}")]
    File {
        path: String,
        source: std::io::Error,
    },
    #[error("{what}: {source}")]
    System {
        what: &'static str,
        source: std::io::Error,
    },
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl Fault for BrokerError {
    fn kind(&self) -> FaultKind {
        FaultKind::Kernel
    }
}

pub(crate) fn file(path: &Path, source: impl Into<std::io::Error>) -> BrokerError {
    BrokerError::File {
        path: path.display().to_string(),
        source: source.into(),
    }
}

pub(crate) fn system(what: &'static str, source: impl Into<std::io::Error>) -> BrokerError {
    BrokerError::System {
        what,
        source: source.into(),
    }
}
