//! Where the secret of a target's credential comes from, and whose credential it is.

use std::path::PathBuf;

use super::checked::Checker;
use super::read::{Problem, Section};

/// A password or token, by its source.
#[derive(Clone, Debug)]
pub(crate) enum SecretFrom {
    /// Root's file, read again by the broker.
    File(PathBuf),
    /// The node's environment, at its start.
    Env(String),
    /// What a program prints, run by the broker outside Weir's cgroup.
    Exec(Vec<String>),
    /// A service, asked by the node.
    Remote(Remote),
}

#[derive(Clone, Debug)]
pub(crate) enum Remote {
    /// KV version 2: `path` is `MOUNT/data/NAME`.
    Vault {
        url: String,
        ca_file: Option<PathBuf>,
        path: String,
        field: String,
        token_file: PathBuf,
    },
    KubernetesSecret {
        server: String,
        ca_file: Option<PathBuf>,
        path: String,
        key: String,
        token_file: PathBuf,
    },
    /// Asked as a workload of this configuration.
    AzureKeyVault {
        url: String,
        secret: String,
        workload: String,
    },
    /// The workload's own Entra token for this scope is the password.
    Entra { scope: String, workload: String },
}

/// Another user for members of a group; the first that fits is taken.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    /// GUID, or a name of `policies.groups`.
    pub(crate) group: String,
    pub(crate) user: String,
    /// The target's own when absent, which only SSH knows: one key for several accounts.
    pub(crate) from: Option<SecretFrom>,
}

/// As written.
#[derive(Default)]
pub(super) struct RawSecret {
    file: Option<String>,
    env: Option<String>,
    exec: Vec<String>,
    remote: Option<RawRemote>,
}

struct RawRemote {
    kind: String,
    url: Option<String>,
    ca_file: Option<String>,
    path: Option<String>,
    field: Option<String>,
    token_file: Option<String>,
    secret: Option<String>,
    scope: Option<String>,
    workload: Option<String>,
}

pub(super) struct RawRole {
    group: String,
    user: String,
    secret: RawSecret,
    key: RawSecret,
}

impl RawSecret {
    /// `names` are the fields of its sources: a file, a variable, a program, a service.
    pub(super) fn read(
        section: &mut Section<'_>,
        names: [&'static str; 4],
        problems: &mut Vec<Problem>,
    ) -> Self {
        let [file, env, exec, remote] = names;
        Self {
            file: section.opt_text(file, problems),
            env: section.opt_text(env, problems),
            exec: section.texts(exec, problems),
            remote: section.opt_section(remote, problems).map(|mut remote| {
                let raw = RawRemote {
                    kind: remote.text("kind", problems),
                    url: remote.opt_text("url", problems),
                    ca_file: remote.opt_text("ca_file", problems),
                    path: remote.opt_text("path", problems),
                    field: remote.opt_text("field", problems),
                    token_file: remote.opt_text("token_file", problems),
                    secret: remote.opt_text("secret", problems),
                    scope: remote.opt_text("scope", problems),
                    workload: remote.opt_text("workload", problems),
                };
                remote.finish(problems);
                raw
            }),
        }
    }

    pub(super) const fn given(&self) -> bool {
        self.file.is_some() || self.env.is_some() || !self.exec.is_empty() || self.remote.is_some()
    }
}

pub(super) const PASSWORD: [&str; 4] = [
    "password_file",
    "password_env",
    "password_exec",
    "password_from",
];
pub(super) const TOKEN: [&str; 4] = ["token_file", "token_env", "token_exec", "token_from"];
pub(super) const KEY: [&str; 4] = ["key_file", "key_env", "key_exec", "key_from"];
pub(super) const CERTIFICATE: [&str; 4] = [
    "certificate_file",
    "certificate_env",
    "certificate_exec",
    "certificate_from",
];

pub(super) fn read_roles(section: &mut Section<'_>, problems: &mut Vec<Problem>) -> Vec<RawRole> {
    let roles = section.sections("roles", problems);
    roles
        .into_iter()
        .map(|mut role| {
            let raw = RawRole {
                group: role.text("group", problems),
                user: role.text("user", problems),
                secret: RawSecret::read(&mut role, PASSWORD, problems),
                key: RawSecret::read(&mut role, KEY, problems),
            };
            role.finish(problems);
            raw
        })
        .collect()
}

/// Exactly one source; `at` names the field.
pub(super) fn check_secret(raw: &RawSecret, at: &str, checker: &mut Checker<'_>) -> SecretFrom {
    match (&raw.file, &raw.env, raw.exec.as_slice(), &raw.remote) {
        (Some(file), None, [], None) => SecretFrom::File(checker.file(file)),
        (None, Some(name), [], None) => SecretFrom::Env(name.clone()),
        (None, None, [program, ..], None) => {
            if !program.starts_with('/') {
                checker.say(at, "the program must be an absolute path");
            }
            SecretFrom::Exec(raw.exec.clone())
        }
        (None, None, [], Some(remote)) => check_remote(remote, at, checker)
            .map_or_else(|| SecretFrom::File(PathBuf::new()), SecretFrom::Remote),
        (None, None, [], None) => {
            checker.say(at, "is missing");
            SecretFrom::File(PathBuf::new())
        }
        (_, _, _, _) => {
            checker.say(at, "comes from more than one place: name one");
            SecretFrom::File(PathBuf::new())
        }
    }
}

fn check_remote(raw: &RawRemote, at: &str, checker: &mut Checker<'_>) -> Option<Remote> {
    let mut missing = false;
    let mut need = |name: &str, value: &Option<String>| {
        if value.is_none() {
            missing = true;
            checker.say(format!("{at}.{name}"), "is required");
        }
        value.clone().unwrap_or_default()
    };
    let remote = match raw.kind.as_str() {
        "vault" => {
            let (url, path) = (need("url", &raw.url), need("path", &raw.path));
            let (field, token) = (
                need("field", &raw.field),
                need("token_file", &raw.token_file),
            );
            Remote::Vault {
                url,
                ca_file: raw.ca_file.as_deref().map(|file| checker.file(file)),
                path,
                field,
                token_file: checker.file(&token),
            }
        }
        "kubernetes_secret" => {
            let (server, path) = (need("url", &raw.url), need("path", &raw.path));
            let (key, token) = (
                need("field", &raw.field),
                need("token_file", &raw.token_file),
            );
            if path.split('/').count() != 2 {
                checker.say(format!("{at}.path"), "must be namespace/name");
            }
            Remote::KubernetesSecret {
                server,
                ca_file: raw.ca_file.as_deref().map(|file| checker.file(file)),
                path,
                key,
                token_file: checker.file(&token),
            }
        }
        "azure_key_vault" => Remote::AzureKeyVault {
            url: need("url", &raw.url),
            secret: need("secret", &raw.secret),
            workload: need("workload", &raw.workload),
        },
        "entra" => Remote::Entra {
            scope: need("scope", &raw.scope),
            workload: need("workload", &raw.workload),
        },
        _ => {
            let known = "must be vault, kubernetes_secret, azure_key_vault or entra";
            checker.say(format!("{at}.kind"), known);
            return None;
        }
    };
    (!missing).then_some(remote)
}

/// What the secrets of a target's roles may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum RoleSecret {
    Password,
    /// Of SSH; the target's own without.
    SshPassword,
    SshKey,
}

pub(super) fn check_roles(
    raw: &[RawRole],
    kind: RoleSecret,
    at: &str,
    checker: &mut Checker<'_>,
) -> Vec<Role> {
    let mut roles = Vec::with_capacity(raw.len());
    for (index, role) in raw.iter().enumerate() {
        let at = format!("{at}.roles[{index}]");
        if role.user.is_empty() {
            checker.say(format!("{at}.user"), "must not be empty");
        }
        let (own, own_at, other, other_at) = match kind {
            RoleSecret::SshKey => (&role.key, "key_file", &role.secret, "password_file"),
            RoleSecret::Password | RoleSecret::SshPassword => {
                (&role.secret, "password_file", &role.key, "key_file")
            }
        };
        if other.given() {
            checker.say(format!("{at}.{other_at}"), "is not what the target has");
        }
        let needed = kind == RoleSecret::Password || own.given();
        roles.push(Role {
            group: role.group.clone(),
            user: role.user.clone(),
            from: needed.then(|| check_secret(own, &format!("{at}.{own_at}"), checker)),
        });
    }
    roles
}
