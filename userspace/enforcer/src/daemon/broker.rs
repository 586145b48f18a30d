//! `weir broker` and `weir uninstall`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;
use weir_broker::{BrokerConfig, Destination, Egress, Members, WorkloadConfig};

use super::{credentials, prepare};
use crate::config::{self, Config, TokenSource};
use crate::{output, privileges};

/// A namespace that lost its last process is guarded for this long.
const GUARD_MS: u64 = 30_000;

/// Runs until a signal.
pub(crate) fn run(path: &Path) -> Result<ExitCode> {
    super::start_logging();
    privileges::no_core_dumps()?;
    let config = output::load(path)?;
    if !Uid::effective().is_root() {
        bail!("weir broker needs root: it loads eBPF programs and enters namespaces");
    }
    prepare::prepare(&config)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("signal handler")?;
    }
    weir_broker::run(broker_config(&config)?, &stop, || output::line("READY"))?;
    Ok(ExitCode::SUCCESS)
}

fn broker_config(config: &Config) -> Result<BrokerConfig> {
    let (uid, _gid) = privileges::user(&config.node.user)?;
    let workloads = config
        .workloads
        .iter()
        .map(|workload| WorkloadConfig {
            name: workload.name.to_string(),
            members: match &workload.members {
                config::Members::Cgroup(path) => Members::Cgroup(path.clone()),
                config::Members::Pods(_) | config::Members::Container(_) => Members::Told,
            },
            netns: workload.netns.clone(),
            token: token_source(workload.sign_in.token()),
            egress: workload.egress.as_ref().map(|egress| Egress {
                allow: egress.nets.iter().map(destination).collect(),
                named: !egress.names.is_empty(),
            }),
        })
        .collect();
    let mut destinations = Vec::new();
    for target in &config.targets {
        for (net, prefix) in &target.matching.nets {
            let any = target.matching.ports.is_empty().then_some(0);
            for port in target.matching.ports.iter().copied().chain(any) {
                destinations.push(destination(&(*net, *prefix, port)));
            }
        }
    }
    // No target covers it, so what is redirected from it meets nobody: governed processes never
    // reach the console, whatever their uid.
    if let Some(console) = &config.console {
        let addr = console.listen.ip();
        let whole = if addr.is_ipv4() { 32 } else { 128 };
        destinations.push(destination(&(addr, whole, console.listen.port())));
    }
    Ok(BrokerConfig {
        node_uid: uid.as_raw(),
        run_dir: config.node.run_dir.clone(),
        pins: config.node.pins.clone(),
        own_cgroup: config.node.cgroup.clone(),
        governed: config.node.governed.clone(),
        exempt: config.exempt.cgroups.clone(),
        pods_root: match &config.kubernetes {
            Some(kubernetes) => kubernetes.cgroup_root.clone(),
            None => "/".to_owned(),
        },
        kubelet_dir: match &config.kubernetes {
            Some(kubernetes) => kubernetes.kubelet_dir.clone(),
            None => PathBuf::new(),
        },
        runtimes: of_runtimes(config, |one| one.socket.clone()),
        runtime_parents: of_runtimes(config, |one| one.parents.clone()),
        workloads,
        destinations,
        credentials: credentials::of_broker(config),
        found_targets: config
            .targets
            .iter()
            .filter(|target| target.matching.is_found())
            .map(|target| target.name.to_string())
            .collect(),
        guard_ms: GUARD_MS,
    })
}

fn of_runtimes<T>(config: &Config, what: impl Fn(&config::Runtime) -> T) -> Vec<(String, T)> {
    let runtimes = config.runtimes.iter();
    runtimes.map(|one| (one.name.clone(), what(one))).collect()
}

fn token_source(token: Option<&TokenSource>) -> weir_broker::TokenSource {
    match token {
        Some(TokenSource::File(path)) => weir_broker::TokenSource::File(path.clone()),
        Some(TokenSource::InContainer(path)) => weir_broker::TokenSource::InContainer(path.clone()),
        Some(TokenSource::Request(request)) => {
            weir_broker::TokenSource::File(request.credential_file.clone())
        }
        Some(TokenSource::Kubelet) => weir_broker::TokenSource::Kubelet,
        None => weir_broker::TokenSource::None,
    }
}

const fn destination((net, prefix, port): &(IpAddr, u8, u16)) -> Destination {
    Destination {
        net: *net,
        prefix: *prefix,
        port: *port,
    }
}

/// Removes every pin; whoever was governed is not any more.
pub(crate) fn uninstall(path: &Path) -> Result<ExitCode> {
    let config = output::load(path)?;
    weir_kernel::uninstall(&config.node.pins)?;
    output::line("every pinned program, map and link is removed; nothing is governed any more");
    Ok(ExitCode::SUCCESS)
}
