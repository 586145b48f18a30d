//! Secrets of backends: where each comes from, and its rotation without a restart.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use weir_broker::client::NodeLink;
use weir_identify::{Authority, Identify, Secret, SecretSource, WorkloadIdentity};
use weir_relay::{BackendUser, Credentials, WorkloadBinding};
use zeroize::Zeroizing;

use super::{host, prepare};
use crate::config::{Config, Credential, Remote, SecretFrom, Target};

/// Names a target's own credential, and those of its roles.
pub(super) fn name_of(target: &str, role: Option<usize>) -> String {
    match role {
        Some(index) => format!("{target}#{index}"),
        None => target.to_owned(),
    }
}

/// What the broker reads or runs for the node.
pub(super) fn of_broker(config: &Config) -> Vec<weir_broker::CredentialConfig> {
    let mut found = Vec::new();
    for target in &config.targets {
        let roles = target.roles.iter().enumerate();
        let all = roles
            .map(|(index, role)| (name_of(&target.name, Some(index)), &role.from))
            .chain(
                target
                    .credential
                    .from()
                    .map(|from| (name_of(&target.name, None), from)),
            );
        for (name, from) in all {
            let source = match from {
                SecretFrom::File(path) => weir_broker::CredentialSource::File(path.clone()),
                SecretFrom::Exec(command) => weir_broker::CredentialSource::Exec(command.clone()),
                SecretFrom::Env(_) | SecretFrom::Remote(_) => continue,
            };
            found.push(weir_broker::CredentialConfig { name, source });
        }
    }
    found
}

/// One secret that is asked for again and again.
struct Followed {
    name: String,
    user: Arc<BackendUser>,
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
        let Some(from) = target.credential.from() else {
            // Keys of SSH are used where they are read.
            return Ok(Credentials::fixed(String::new(), Zeroizing::default()));
        };
        let user = match &target.credential {
            Credential::Password { user, .. } => user.as_str(),
            Credential::Token { .. } | Credential::SshKey { .. } => "",
        };
        let usual = self.one(config, target, (None, user), from)?;
        let mut roles = Vec::with_capacity(target.roles.len());
        for (index, role) in target.roles.iter().enumerate() {
            let backend = self.one(config, target, (Some(index), &role.user), &role.from)?;
            let group = config.groups.get(&role.group).unwrap_or(&role.group);
            roles.push((group.clone(), backend));
        }
        Ok(Credentials { usual, roles })
    }

    fn one(
        &mut self,
        config: &Config,
        target: &Target,
        (role, user): (Option<usize>, &str),
        from: &SecretFrom,
    ) -> Result<Arc<BackendUser>> {
        let (secret, remote, follow) = match from {
            SecretFrom::File(path) => (Some(prepare::read_secret(path)?), None, true),
            SecretFrom::Env(name) => (Some(environment(name)?), None, false),
            SecretFrom::Exec(_) => (None, None, true),
            SecretFrom::Remote(remote) => (None, Some(service(config, remote)?), true),
        };
        let backend = Arc::new(BackendUser::new(user.to_owned(), secret));
        if follow {
            self.0.push(Followed {
                name: name_of(&target.name, role),
                user: Arc::clone(&backend),
                remote,
                every: Duration::from_secs(target.refresh_s),
            });
        }
        Ok(backend)
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
                    if self.user.replace(secret) {
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
