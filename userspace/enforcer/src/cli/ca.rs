//! `weir ca`: what a platform team rolls out to clients, so that they trust Weir's certificates.

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use clap::{Args, Subcommand};
use serde_json::json;

use weir_ssh::HostIdentity;

use super::ConfigArg;
use crate::config::Config;
use crate::daemon::prepare::{self, StatePaths};
use crate::daemon::targets::host_names;
use crate::output;

#[derive(Args)]
pub(crate) struct CaArgs {
    #[command(subcommand)]
    command: CaCommand,
}

#[derive(Subcommand)]
enum CaCommand {
    /// Print the root certificate (PEM)
    #[command(
        after_help = "Examples:\n  weir ca bundle > /usr/local/share/ca-certificates/weir.crt"
    )]
    Bundle(ConfigArg),
    /// Print a kubeconfig for agents: the cluster's own address, Weir's root, no credential
    #[command(
        after_help = "Examples:\n  weir ca kubeconfig --target cluster --server https://10.96.0.1:443"
    )]
    Kubeconfig(KubeconfigArgs),
    /// Print lines of known_hosts for SSH targets: Weir's authority and host key
    #[command(
        after_help = "Examples:\n  weir ca known-hosts >> /etc/ssh/ssh_known_hosts\n  \
                      weir ca known-hosts --plain > known_hosts   # for paramiko"
    )]
    KnownHosts {
        #[command(flatten)]
        config: ConfigArg,
        /// Only host keys, for clients that cannot read @cert-authority
        #[arg(long)]
        plain: bool,
    },
}

#[derive(Args)]
struct KubeconfigArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Name of a Kubernetes target
    #[arg(long)]
    target: String,
    /// Address of the API server as agents know it; the target's first name and port without
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// Default namespace
    #[arg(long, default_value = "default")]
    namespace: String,
}

pub(crate) fn run(args: &CaArgs) -> Result<ExitCode> {
    match &args.command {
        CaCommand::Bundle(arg) => {
            let config = output::load(&arg.config)?;
            output::data(root(&config)?.trim_end());
        }
        CaCommand::Kubeconfig(args) => {
            let config = output::load(&args.config.config)?;
            output::json(&kubeconfig(&config, args)?)?;
        }
        CaCommand::KnownHosts { config, plain } => {
            let config = output::load(&config.config)?;
            output::data(known_hosts(&config, *plain)?.trim_end());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Certificates for clients that take them, plain keys for those that do not (sshd(8)).
fn known_hosts(config: &Config, plain: bool) -> Result<String> {
    let paths = StatePaths::of(config);
    let public = |path: &std::path::Path| -> Result<String> {
        let key = prepare::read_key(path).context("the broker makes it when it first starts")?;
        HostIdentity::public(&key).with_context(|| format!("reading {}", path.display()))
    };
    let authority = public(&paths.ssh_authority)?;
    let mut lines = String::new();
    for target in &config.targets {
        let Some(ssh) = &target.ssh else {
            continue;
        };
        let key = public(ssh.host_key.as_ref().unwrap_or(&paths.ssh_host_key))?;
        let ports = match target.matching.ports.as_slice() {
            [] => &[22][..],
            ports => ports,
        };
        let hosts: Vec<String> = host_names(target)
            .iter()
            .flat_map(|name| {
                ports.iter().map(move |port| match port {
                    22 => name.clone(),
                    port => format!("[{name}]:{port}"),
                })
            })
            .collect();
        let hosts = hosts.join(",");
        if !plain {
            lines += &format!("@cert-authority {hosts} {authority}\n");
        }
        lines += &format!("{hosts} {key}\n");
    }
    if lines.is_empty() {
        bail!("no target is of protocol ssh");
    }
    Ok(lines)
}

fn root(config: &Config) -> Result<String> {
    let path = StatePaths::of(config).root_certificate;
    std::fs::read_to_string(&path).with_context(|| {
        format!(
            "reading {}: the broker makes it when it first starts",
            path.display()
        )
    })
}

/// JSON is YAML, and every client of Kubernetes reads it.
fn kubeconfig(config: &Config, args: &KubeconfigArgs) -> Result<serde_json::Value> {
    let target = config
        .targets
        .iter()
        .find(|target| *target.name == *args.target)
        .with_context(|| format!("no target is called {}", args.target))?;
    if &*target.protocol != "kubernetes" {
        bail!("target {} is not of protocol kubernetes", args.target);
    }
    let server = match (&args.server, target.names.first()) {
        (Some(server), _) => server.clone(),
        (None, Some(name)) => {
            let port = target.matching.ports.first().copied().unwrap_or(443);
            format!("https://{name}:{port}")
        }
        (None, None) => bail!("--server is needed: the target has no names"),
    };
    let ca = base64::engine::general_purpose::STANDARD.encode(root(config)?);
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": args.target,
            "cluster": { "server": server, "certificate-authority-data": ca },
        }],
        // Who asks is known from the workload; kubectl would ask for a user name without this.
        "users": [{ "name": "agent", "user": { "token": "weir-sets-the-credential" } }],
        "contexts": [{
            "name": "weir",
            "context": {
                "cluster": args.target, "user": "agent", "namespace": args.namespace,
            },
        }],
        "current-context": "weir",
    }))
}
