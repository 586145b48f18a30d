//! Targets as the relay needs them: certificates made, secrets read while that is still allowed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::pki_types::ServerName;
use weir_accept::{authority, tls};
use weir_decide::Budgets;
use weir_relay::{Credentials, FoundPlaces, Protocol, SshSecret, SshTarget, Target, UpstreamTls};
use weir_ssh::{HostIdentity, ServerKeys};
use zeroize::Zeroizing;

use super::credentials::Rotation;
use super::prepare::{self, StatePaths};
use crate::config::{self, AgentTls, Config, Credential, SshFiles};

/// What one target keeps secret, or proves its server by.
struct OfTarget {
    credentials: Credentials,
    /// PEM.
    server_ca: Option<String>,
    ssh: Option<SshSecrets>,
}

struct SshSecrets {
    server_keys: String,
    host_key: Zeroizing<String>,
}

/// Of all targets; read before privileges are dropped.
pub(super) struct TargetSecrets {
    by_target: HashMap<Arc<str>, OfTarget>,
    intermediate: authority::Pair,
    ssh_authority: Zeroizing<String>,
    rotation: Rotation,
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

impl TargetSecrets {
    pub(super) fn read(config: &Config, paths: &StatePaths) -> Result<Self> {
        let mut by_target = HashMap::new();
        let mut rotation = Rotation::default();
        for target in &config.targets {
            let credentials = rotation
                .credentials(config, target)
                .with_context(|| format!("credential of target {}", target.name))?;
            let of_target = Self::read_one(target, credentials, paths)
                .with_context(|| format!("secrets of target {}", target.name))?;
            by_target.insert(Arc::clone(&target.name), of_target);
        }
        Ok(Self {
            by_target,
            intermediate: prepare::read_intermediate(paths)?,
            ssh_authority: prepare::read_key(&paths.ssh_authority)?,
            rotation,
        })
    }

    /// What has to be asked for again; once.
    pub(super) fn rotation(&mut self) -> Rotation {
        std::mem::take(&mut self.rotation)
    }

    fn read_one(
        target: &config::Target,
        credentials: Credentials,
        paths: &StatePaths,
    ) -> Result<OfTarget> {
        let server_ca = match &target.upstream {
            Some(upstream) => Some(text(&upstream.ca_file)?),
            None => None,
        };
        let ssh = match &target.ssh {
            Some(files) => Some(Self::read_ssh(files, paths)?),
            None => None,
        };
        Ok(OfTarget {
            credentials,
            server_ca,
            ssh,
        })
    }

    fn read_ssh(files: &SshFiles, paths: &StatePaths) -> Result<SshSecrets> {
        Ok(SshSecrets {
            server_keys: text(&files.server_keys)?,
            host_key: prepare::read_key(files.host_key.as_ref().unwrap_or(&paths.ssh_host_key))?,
        })
    }

    /// All targets, ready to serve. Their secrets are moved out.
    pub(super) fn all(&mut self, config: &Config) -> Result<Vec<Arc<Target>>> {
        let targets = config.targets.iter();
        targets
            .map(|target| self.target(target).map(Arc::new))
            .collect()
    }

    fn target(&mut self, config: &config::Target) -> Result<Target> {
        let secrets = self
            .by_target
            .remove(&config.name)
            .with_context(|| format!("secrets of target {}", config.name))?;
        self.make(config, secrets)
            .with_context(|| format!("target {}", config.name))
    }

    fn make(&self, config: &config::Target, secrets: OfTarget) -> Result<Target> {
        let protocol = Protocol::parse(&config.protocol).context("no such protocol")?;
        let tls = if config.agent_tls == AgentTls::Off {
            None
        } else {
            let now_s = weir_clock::now().unix_s();
            let leaf =
                authority::new_leaf(&self.intermediate, &config.names, &addresses(config), now_s)
                    .context("its certificate")?;
            Some(tls::acceptor(&leaf, protocol.alpn()).context("its TLS")?)
        };
        let upstream_tls = match (&config.upstream, &secrets.server_ca) {
            (Some(upstream), Some(ca)) => Some(upstream_tls(upstream, ca, protocol)?),
            (Some(_) | None, _) => None,
        };
        let ssh = match &secrets.ssh {
            Some(ssh) => Some(self.ssh(config, ssh)?),
            None => None,
        };
        Ok(Target {
            name: Arc::clone(&config.name),
            protocol,
            nets: config.matching.nets.clone(),
            ports: config.matching.ports.clone(),
            found: FoundPlaces::default(),
            tls,
            tls_required: config.agent_tls == AgentTls::Required,
            accept_token: config.accept_token,
            upstream_tls,
            config_keys: Arc::clone(&config.config_keys),
            ssh,
            credentials: secrets.credentials,
            observe: config.observe,
            budgets: Budgets::default(),
        })
    }

    fn ssh(&self, config: &config::Target, secrets: &SshSecrets) -> Result<SshTarget> {
        let now_s = u64::try_from(weir_clock::now().unix_s()).unwrap_or(0);
        let names = host_names(config);
        Ok(SshTarget {
            identity: HostIdentity::new(&self.ssh_authority, &secrets.host_key, &names, now_s)?,
            keys: ServerKeys::parse(&secrets.server_keys).context("upstream.host_keys_file")?,
            secret: match &config.credential {
                Credential::SshKey { .. } => SshSecret::Key,
                Credential::Password { .. } => SshSecret::Password,
                Credential::Token { .. } => anyhow::bail!("SSH has no tokens"),
            },
        })
    }
}

/// Single addresses that the target matches.
fn addresses(config: &config::Target) -> Vec<IpAddr> {
    let nets = config.matching.nets.iter();
    nets.filter(|(addr, prefix)| *prefix == if addr.is_ipv4() { 32 } else { 128 })
        .map(|(addr, _)| *addr)
        .collect()
}

/// What clients look a host up by: names and addresses; with a port that is not 22, in brackets
/// (sshd(8), "known_hosts").
pub(crate) fn host_names(config: &config::Target) -> Vec<String> {
    let mut names = config.names.clone();
    names.extend(addresses(config).iter().map(ToString::to_string));
    names
}

fn upstream_tls(config: &config::UpstreamTls, ca: &str, protocol: Protocol) -> Result<UpstreamTls> {
    Ok(UpstreamTls {
        connector: tls::connector(ca, protocol.alpn())
            .with_context(|| format!("the CA in {}", config.ca_file.display()))?,
        name: ServerName::try_from(config.server_name.clone())
            .with_context(|| format!("the name {}", config.server_name))?,
    })
}
