//! Secrets of backends: where each comes from, and its rotation without a restart.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use weir_broker::client::NodeLink;
use weir_identify::{Authority, Identify, Secret, SecretSource, WorkloadIdentity};
use weir_relay::{BackendUser, Credentials, Rotated, WorkloadBinding};
use zeroize::Zeroizing;

use super::{host, prepare};
use crate::config::{Config, Remote, SecretFrom, Target};

/// Names a target's own credential, and those of its roles.
pub(super) fn name_of(target: &str, role: Option<usize>) -> String {
    match role {
        Some(index) => format!("{target}#{index}"),
        None => target.to_owned(),
    }
}

/// Names the certificate of a target's own key.
fn name_of_certificate(target: &str) -> String {
    format!("{target}#certificate")
}

/// Every secret of a target by its name.
fn secrets(target: &Target) -> impl Iterator<Item = (String, &SecretFrom)> {
    let roles = target.roles.iter().enumerate();
    let of_roles = roles.filter_map(|(index, role)| {
        let from = role.from.as_ref()?;
        Some((name_of(&target.name, Some(index)), from))
    });
    let certificate = target.credential.certificate();
    let own = (name_of(&target.name, None), target.credential.from());
    of_roles
        .chain([own])
        .chain(certificate.map(|from| (name_of_certificate(&target.name), from)))
}

/// What the broker reads or runs for the node.
pub(super) fn of_broker(config: &Config) -> Vec<weir_broker::CredentialConfig> {
    let mut found = Vec::new();
    for (name, from) in config.targets.iter().flat_map(secrets) {
        let source = match from {
            SecretFrom::File(path) => weir_broker::CredentialSource::File(path.clone()),
            SecretFrom::Exec(command) => weir_broker::CredentialSource::Exec(command.clone()),
            SecretFrom::Env(_) | SecretFrom::Remote(_) => continue,
        };
        found.push(weir_broker::CredentialConfig { name, source });
    }
    found
}

/// One secret that is asked for again and again.
struct Followed {
    name: String,
    secret: Arc<Rotated>,
    /// Absent where the broker has it.
    remote: Option<SecretSource>,
    every: Duration,
}

/// Of all targets. Made before privileges are dropped, started afterwards.
#[derive(Default)]
pub(super) struct Rotation(Vec<Followed>);

/// A secret that comes later than the node's start is tried this often until it is there.
const FIRST_EVERY: Duration = Duration::from_secs(2);

impl Rotation {
    /// The credentials of a target, with what can be read now; the rest is followed.
    pub(super) fn credentials(&mut self, config: &Config, target: &Target) -> Result<Credentials> {
        let own = &target.credential;
        let secret = self.one(config, target, name_of(&target.name, None), own.from())?;
        let certificate = match own.certificate() {
            Some(from) => {
                let name = name_of_certificate(&target.name);
                Some(self.one(config, target, name, from)?)
            }
            None => None,
        };
        let usual = BackendUser {
            user: own.user().to_owned(),
            secret,
            certificate,
        };
        let mut roles = Vec::with_capacity(target.roles.len());
        for (index, role) in target.roles.iter().enumerate() {
            let (secret, certificate) = match &role.from {
                Some(from) => {
                    let name = name_of(&target.name, Some(index));
                    (self.one(config, target, name, from)?, None)
                }
                None => (Arc::clone(&usual.secret), usual.certificate.clone()),
            };
            let user = BackendUser {
                user: role.user.clone(),
                secret,
                certificate,
            };
            let group = config.groups.get(&role.group).unwrap_or(&role.group);
            roles.push((group.clone(), user));
        }
        Ok(Credentials { usual, roles })
    }

    fn one(
        &mut self,
        config: &Config,
        target: &Target,
        name: String,
        from: &SecretFrom,
    ) -> Result<Arc<Rotated>> {
        let (secret, remote, follow) = match from {
            SecretFrom::File(path) => (Some(prepare::read_secret(path)?), None, true),
            SecretFrom::Env(name) => (Some(environment(name)?), None, false),
            SecretFrom::Exec(_) => (None, None, true),
            SecretFrom::Remote(remote) => (None, Some(service(config, remote)?), true),
        };
        let secret = Arc::new(Rotated::new(secret));
        if follow {
            self.0.push(Followed {
                name,
                secret: Arc::clone(&secret),
                remote,
                every: Duration::from_secs(target.refresh_s),
            });
        }
        Ok(secret)
    }

    /// Starts a task for each.
    pub(super) fn start(self, identify: &Arc<Identify>, link: &Arc<NodeLink>) {
        for followed in self.0 {
            let (identify, link) = (Arc::clone(identify), Arc::clone(link));
            drop(tokio::spawn(followed.follow(identify, link)));
        }
    }
}

impl Followed {
    async fn follow(self, identify: Arc<Identify>, link: Arc<NodeLink>) {
        let mut said = String::new();
        let mut known = false;
        loop {
            match self.ask(&identify, &link).await {
                Ok(secret) => {
                    known = true;
                    said.clear();
                    let secret = Zeroizing::new(secret.expose().to_owned());
                    if self.secret.replace(secret) {
                        tracing::info!(credential = self.name, "a new secret is in use");
                    }
                }
                Err(why) => {
                    let text = format!("{why:#}");
                    if text != said {
                        tracing::error!(
                            credential = self.name, reason = %text,
                            "a secret cannot be had; what is known stays in use"
                        );
                        said = text;
                    }
                }
            }
            tokio::time::sleep(if known { self.every } else { FIRST_EVERY }).await;
        }
    }

    async fn ask(&self, identify: &Identify, link: &NodeLink) -> Result<Secret> {
        let Some(remote) = &self.remote else {
            return host::credential(link, &self.name)
                .await
                .context("the broker");
        };
        let handed = match remote.wants_assertion_of() {
            Some(workload) => Some(
                host::assertion(link, workload, None)
                    .await
                    .context("the broker")?,
            ),
            None => None,
        };
        identify
            .fetch_secret(remote, handed, weir_clock::now())
            .await
            .map_err(|error| anyhow::anyhow!(error.operator_text()))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the configuration names this variable as the source of a secret"
)]
fn environment(name: &str) -> Result<Zeroizing<String>> {
    std::env::var(name)
        .map(Zeroizing::new)
        .with_context(|| format!("the variable {name} of the node's environment"))
}

fn service(config: &Config, remote: &Remote) -> Result<SecretSource> {
    let said = |text: String| anyhow::anyhow!("credential: {text}");
    let pem = |file: &Option<std::path::PathBuf>| match file {
        Some(file) => std::fs::read_to_string(file)
            .with_context(|| format!("reading {}", file.display()))
            .map(Some),
        None => Ok(None),
    };
    let token = |file: &std::path::Path| -> Result<Secret> {
        Ok(Secret::new(prepare::read_secret(file)?.as_str()))
    };
    match remote {
        Remote::Vault {
            url,
            ca_file,
            path,
            field,
            token_file,
        } => {
            let ca = pem(ca_file)?;
            SecretSource::vault(url, ca.as_deref(), (path, field), token(token_file)?).map_err(said)
        }
        Remote::KubernetesSecret {
            server,
            ca_file,
            path,
            key,
            token_file,
        } => {
            let ca = pem(ca_file)?;
            SecretSource::kubernetes(server, ca.as_deref(), (path, key), token(token_file)?)
                .map_err(said)
        }
        Remote::AzureKeyVault {
            url,
            secret,
            workload,
        } => {
            let authority = Authority::parse(
                &config.identity.authority,
                config.identity.allow_plain_loopback,
            )
            .map_err(said)?;
            let reader = reader(config, workload)?;
            SecretSource::key_vault(url, secret, reader, &authority).map_err(said)
        }
        Remote::Entra { scope, workload } => {
            Ok(SecretSource::entra(scope, reader(config, workload)?))
        }
    }
}

fn reader(config: &Config, workload: &str) -> Result<WorkloadIdentity> {
    match super::identities::read(config, &Arc::default())?.remove(workload) {
        Some(WorkloadBinding::Whole(identity)) => Ok(Arc::unwrap_or_clone(identity)),
        Some(WorkloadBinding::Pods(_)) => {
            anyhow::bail!("credential: each pod of workload {workload} signs in for itself")
        }
        None => anyhow::bail!("credential: there is no workload {workload}"),
    }
}
