//! `weir node`: reads secrets, joins the broker, gives privileges up, then serves.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use tokio::sync::watch;
use weir_accept::{authority, tls};
use weir_broker::client::NodeLink;
use weir_decide::PolicySet;
use weir_identify::{Identify, IdentityConfig, WorkloadIdentity};
use weir_mask::MaskKey;
use weir_record::{Durability, Shipper, ShipperConfig, SpoolConfig, SpoolDir};
use weir_relay::{
    Intake, Metrics, Node, NodeParts, Protocol, Settings, Target, Targets, WorkloadBinding, Workers,
};
use weir_state::State;
use zeroize::Zeroizing;

use super::host::BrokerHost;
use super::prepare::{self, StatePaths};
use crate::admin::{AdminState, PeerRule, SignIns, serve_tcp, serve_unix};
use crate::config::{AgentTls, Config};
use crate::privileges::{self, Reach};
use crate::{output, policies};

/// Flows are given this long to end on their own at shutdown.
const DRAIN: std::time::Duration = std::time::Duration::from_secs(5);

/// What only root can read, read before the drop.
struct Secrets {
    passwords: HashMap<Arc<str>, Zeroizing<String>>,
    mask_key: MaskKey,
    writer_token: Option<Zeroizing<String>>,
    intermediate: authority::Pair,
}

/// Runs until a signal; exit 0 on a clean end.
pub(crate) fn run(path: &std::path::Path) -> Result<ExitCode> {
    super::start_logging();
    let config = output::load(path)?;
    let paths = StatePaths::of(&config);
    let link = NodeLink::connect(&config.node.run_dir.join("broker.sock"))
        .context("no broker answers: start weir broker first")?;
    let secrets = read_secrets(&config, &paths)?;
    let policies = policies::load(&config)?;
    privileges::drop_all(&config.node.user, &reach(&config, &paths))?;
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("weir-control")
        .enable_all()
        .build()
        .context("starting the control runtime")?;
    let handle = control.handle().clone();
    control.block_on(serve(config, paths, secrets, policies, link, handle))
}

fn reach(config: &Config, paths: &StatePaths) -> Reach {
    let mut read_only: Vec<std::path::PathBuf> = ["/etc", "/proc", "/dev", "/usr", "/lib", "/lib64"]
        .iter()
        .map(std::path::PathBuf::from)
        .collect();
    read_only.push(config.policies.clone());
    Reach { read_write: vec![paths.node_dir.clone()], read_only }
}

fn read_secrets(config: &Config, paths: &StatePaths) -> Result<Secrets> {
    let mut passwords = HashMap::new();
    for target in &config.targets {
        let password = prepare::read_secret(&target.password_file)
            .with_context(|| format!("credential of target {}", target.name))?;
        passwords.insert(Arc::clone(&target.name), password);
    }
    let key = std::fs::read(&config.mask_key_file)
        .with_context(|| format!("reading {}", config.mask_key_file.display()))?;
    let key: [u8; 32] = key
        .try_into()
        .map_err(|_| anyhow::anyhow!("masking.key_file must hold exactly 32 bytes"))?;
    let writer_token = match config.record.clickhouse.as_ref().and_then(|c| c.token_file.clone()) {
        Some(file) => Some(prepare::read_secret(&file).context("record.clickhouse.token_file")?),
        None => None,
    };
    Ok(Secrets {
        passwords,
        mask_key: MaskKey::new(key),
        writer_token,
        intermediate: prepare::read_intermediate(paths)?,
    })
}

/// Also used by `weir token verify`.
pub(crate) fn identify(config: &Config) -> Result<Identify> {
    let identity = IdentityConfig {
        authority: config.identity.authority.clone(),
        allow_plain_loopback: config.identity.allow_plain_loopback,
        tenants: config.identity.tenants.clone(),
        audience: config.identity.audience.clone(),
        required_role: config.identity.required_role.clone(),
        reviewer_client_id: config.identity.reviewer_client_id.clone(),
        reviewer_scope: config.identity.reviewer_scope.clone(),
        clock_skew_s: config.identity.clock_skew_s,
    };
    Identify::new(identity).map_err(|problems| anyhow::anyhow!("identity: {problems:?}"))
}

/// A target as flows need it: its certificate made, its credential in place.
fn target(config: &config::Target, secrets: &mut Secrets) -> Result<Target> {
    let addrs: Vec<std::net::IpAddr> = config
        .matching
        .nets
        .iter()
        .filter(|(addr, prefix)| *prefix == if addr.is_ipv4() { 32 } else { 128 })
        .map(|(addr, _)| *addr)
        .collect();
    let tls = if config.agent_tls == AgentTls::Off {
        None
    } else {
        let now_s = weir_clock::now().unix_s();
        let leaf = authority::new_leaf(&secrets.intermediate, &config.names, &addrs, now_s)
            .with_context(|| format!("certificate of target {}", config.name))?;
        Some(tls::acceptor(&leaf, &[]).with_context(|| format!("TLS of target {}", config.name))?)
    };
    Ok(Target {
        name: Arc::clone(&config.name),
        protocol: Protocol::Postgres,
        nets: config.matching.nets.clone(),
        ports: config.matching.ports.clone(),
        tls,
        tls_required: config.agent_tls == AgentTls::Required,
        user: config.user.clone(),
        password: secrets.passwords.remove(&config.name).unwrap_or_default(),
    })
}

fn workloads(config: &Config) -> HashMap<Arc<str>, WorkloadBinding> {
    config
        .workloads
        .iter()
        .map(|workload| {
            let identity = WorkloadIdentity {
                name: workload.name.to_string(),
                tenant: workload.tenant.clone(),
                client_id: workload.client_id.clone(),
            };
            (Arc::clone(&workload.name), WorkloadBinding { identity })
        })
        .collect()
}
