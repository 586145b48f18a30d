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
    /// Root of the governed subtree.
    pub governed_cgroup: String,
    pub workloads: Vec<WorkloadConfig>,
    pub destinations: Vec<Destination>,
    pub credentials: Vec<CredentialConfig>,
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
    pub cgroup: String,
    /// Found from the cgroup's processes when absent.
    pub netns: Option<PathBuf>,
    pub token: TokenSource,
}

/// Where the broker finds what proves a workload.
#[derive(Clone, Debug)]
pub enum TokenSource {
    /// A file of root's: the workload's own token, or a credential that may ask for it.
    File(PathBuf),
    /// An absolute path inside the workload's own root. What is there is the workload's choice.
    InContainer(PathBuf),
    /// The workload needs none.
    None,
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
