//! The rules of a target: what each protocol needs to prove its server and sign in to it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use weir_discover::ServiceName;

use super::checked::Checker;
use super::credential::{Role, RoleSecret, SecretFrom, check_roles, check_secret};
use super::raw::RawTarget;
use super::sets::check_services;

#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: Arc<str>,
    pub(crate) protocol: Arc<str>,
    /// Policy says what it would do, and does not do it.
    pub(crate) observe: bool,
    pub(crate) matching: Match,
    pub(crate) agent_tls: AgentTls,
    /// Clients present an access token in the protocol.
    pub(crate) accept_token: bool,
    /// DNS names that the agent-side certificate is for.
    pub(crate) names: Vec<String>,
    /// How the server is proven over TLS; without it, as its protocol does.
    pub(crate) upstream: Option<UpstreamTls>,
    /// For Kubernetes only: keys of ConfigMaps that masks are for.
    pub(crate) config_keys: Arc<[String]>,
    /// For SSH only.
    pub(crate) ssh: Option<SshFiles>,
    pub(crate) credential: Credential,
    pub(crate) roles: Vec<Role>,
    /// Seconds between looks at the credential's source.
    pub(crate) refresh_s: u64,
}

/// The server's certificate has to be for `server_name` and of this CA.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamTls {
    pub(crate) ca_file: PathBuf,
    pub(crate) server_name: String,
}

/// What is injected; read at start by the node.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    Password {
        user: String,
        from: SecretFrom,
    },
    Token {
        from: SecretFrom,
    },
    /// An account; the one that the client asks for when empty.
    SshKey {
        user: String,
        from: SecretFrom,
        certificate: Option<SecretFrom>,
    },
}

impl Credential {
    /// Where the secret comes from.
    pub(crate) const fn from(&self) -> &SecretFrom {
        match self {
            Self::Password { from, .. } | Self::Token { from } | Self::SshKey { from, .. } => from,
        }
    }

    /// And what belongs to it.
    pub(crate) const fn certificate(&self) -> Option<&SecretFrom> {
        match self {
            Self::SshKey { certificate, .. } => certificate.as_ref(),
            Self::Password { .. } | Self::Token { .. } => None,
        }
    }

    /// Empty for a token.
    pub(crate) fn user(&self) -> &str {
        match self {
            Self::Password { user, .. } | Self::SshKey { user, .. } => user,
            Self::Token { .. } => "",
        }
    }
}

const REFRESH_S: u64 = 30;
const REFRESH_S_MAX: u64 = 3600;

/// What SSH needs besides a credential.
#[derive(Clone, Debug)]
pub(crate) struct SshFiles {
    /// The server's own keys, as in `known_hosts`.
    pub(crate) server_keys: PathBuf,
    /// Shown to agents; a key of the node's own without.
    pub(crate) host_key: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub(crate) struct Match {
    /// Address and prefix length, host bits zero.
    pub(crate) nets: Vec<(IpAddr, u8)>,
    /// Found by the node, of DNS.
    pub(crate) names: Vec<String>,
    /// Found by the node, with their own ports.
    pub(crate) services: Vec<ServiceName>,
    /// Of hosts and names; empty means any port.
    pub(crate) ports: Vec<u16>,
}

impl Match {
    /// Does the node find some of it.
    pub(crate) fn is_found(&self) -> bool {
        !self.names.is_empty() || !self.services.is_empty()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AgentTls {
    Off,
    Optional,
    Required,
}

pub(super) fn check_targets(raw: &[RawTarget], checker: &mut Checker<'_>) -> Vec<Target> {
    if raw.is_empty() {
        checker.say(
            "targets",
            "needs at least one target: otherwise nothing is protected",
        );
    }
    let mut names = BTreeSet::new();
    let mut places = BTreeSet::new();
    let mut targets = Vec::with_capacity(raw.len());
    for item in raw {
        let at = |field: &str| format!("{}.{field}", item.path);
        checker.name(&at("name"), &item.name);
        if !names.insert(item.name.clone()) {
            checker.say(
                at("name"),
                format!("{} is taken by another target", item.name),
            );
        }
        let protocol = TargetProtocol::parse(&item.protocol);
        if protocol.is_none() {
            checker.say(
                at("protocol"),
                "must be 'postgres', 'kubernetes' or 'ssh'; others are not built yet",
            );
        }
        let matching = check_match(item, &mut places, checker);
        let agent_tls = check_agent_tls(item, checker);
        let Some(protocol) = protocol else {
            continue;
        };
        if protocol == TargetProtocol::Kubernetes {
            check_kubernetes(item, agent_tls, checker);
        }
        let agent_tls = if protocol == TargetProtocol::Ssh {
            AgentTls::Off
        } else {
            agent_tls
        };
        if protocol != TargetProtocol::Kubernetes && !item.config_keys.is_empty() {
            checker.say(at("kubernetes.masked_config_keys"), "is for kubernetes");
        }
        let (agent_tls, accept_token) = check_accept_token(item, (protocol, agent_tls), checker);
        let ssh = check_ssh(item, protocol, checker);
        let upstream = check_upstream(item, protocol, checker);
        let credential = check_credential(item, protocol, checker);
        targets.push(Target {
            name: Arc::from(item.name.as_str()),
            protocol: Arc::from(item.protocol.as_str()),
            observe: check_mode(item, checker),
            matching,
            agent_tls,
            accept_token,
            names: match protocol {
                TargetProtocol::Ssh => item.ssh_names.clone(),
                TargetProtocol::Postgres | TargetProtocol::Kubernetes => item.names.clone(),
            },
            upstream,
            config_keys: item.config_keys.as_slice().into(),
            ssh,
            credential,
            roles: check_target_roles(item, protocol, checker),
            refresh_s: checker.number(
                &at("credential.refresh_s"),
                item.refresh_s,
                (1, REFRESH_S_MAX),
                REFRESH_S,
            ),
        });
    }
    targets
}

fn check_mode(item: &RawTarget, checker: &mut Checker<'_>) -> bool {
    match item.mode.as_deref() {
        None | Some("enforce") => false,
        Some("observe") => true,
        Some(_) => {
            let path = format!("{}.mode", item.path);
            checker.say(path, "must be enforce or observe");
            false
        }
    }
}

fn check_agent_tls(item: &RawTarget, checker: &mut Checker<'_>) -> AgentTls {
    match item.agent_tls.as_deref() {
        None | Some("optional") => AgentTls::Optional,
        Some("off") => AgentTls::Off,
        Some("required") => AgentTls::Required,
        Some(_) => {
            let path = format!("{}.tls.agent", item.path);
            checker.say(path, "must be off, optional or required");
            AgentTls::Required
        }
    }
}

/// A token in the clear is anybody's: TLS becomes a must, and nothing else may be written.
fn check_accept_token(
    item: &RawTarget,
    (protocol, agent_tls): (TargetProtocol, AgentTls),
    checker: &mut Checker<'_>,
) -> (AgentTls, bool) {
    if item.accept_token != Some(true) {
        return (agent_tls, false);
    }
    let at = |field: &str| format!("{}.{field}", item.path);
    match protocol {
        TargetProtocol::Ssh => {
            checker.say(at("accept_token"), "is for postgres and kubernetes");
            return (agent_tls, false);
        }
        TargetProtocol::Postgres => {
            if item.agent_tls.is_some() && agent_tls != AgentTls::Required {
                checker.say(
                    at("tls.agent"),
                    "must be required with accept_token: a token is asked for over TLS only",
                );
            }
            if item.names.is_empty() {
                checker.say(
                    at("tls.names"),
                    "needs the names by which agents reach the server: with accept_token they \
                     should verify them (sslmode=verify-full)",
                );
            }
        }
        TargetProtocol::Kubernetes => {}
    }
    (AgentTls::Required, true)
}

fn check_target_roles(
    item: &RawTarget,
    protocol: TargetProtocol,
    checker: &mut Checker<'_>,
) -> Vec<Role> {
    let at = format!("{}.credential", item.path);
    let kind = match protocol {
        TargetProtocol::Ssh if item.key.given() => RoleSecret::SshKey,
        TargetProtocol::Ssh => RoleSecret::SshPassword,
        TargetProtocol::Postgres | TargetProtocol::Kubernetes => RoleSecret::Password,
    };
    if protocol == TargetProtocol::Kubernetes && !item.roles.is_empty() {
        checker.say(
            format!("{at}.roles"),
            "are for postgres and ssh: the cluster decides by whom is impersonated",
        );
    }
    check_roles(&item.roles, kind, &at, checker)
}

fn check_kubernetes(item: &RawTarget, agent_tls: AgentTls, checker: &mut Checker<'_>) {
    let at = |field: &str| format!("{}.{field}", item.path);
    if item.agent_tls.is_some() && agent_tls != AgentTls::Required {
        checker.say(at("tls.agent"), "is always required for kubernetes");
    }
    if item.names.is_empty() {
        checker.say(
            at("tls.names"),
            "needs the names by which agents reach the API server, such as kubernetes.default.svc",
        );
    }
}

fn check_match(
    item: &RawTarget,
    places: &mut BTreeSet<(IpAddr, u8, u16)>,
    checker: &mut Checker<'_>,
) -> Match {
    let at = |field: &str| format!("{}.{field}", item.path);
    if item.hosts.is_empty() && item.dns_names.is_empty() && item.services.is_empty() {
        checker.say(
            at("match"),
            "needs at least one of hosts, names and services",
        );
    }
    for (index, name) in item.dns_names.iter().enumerate() {
        checker.dns_name(&at(&format!("match.names[{index}]")), name);
    }
    let services = check_services(&item.services, checker);
    let mut nets = Vec::with_capacity(item.hosts.len());
    for (index, host) in item.hosts.iter().enumerate() {
        match net(host) {
            Ok(net) => nets.push(net),
            Err(message) => checker.say(at(&format!("match.hosts[{index}]")), message),
        }
    }
    let ports = checker.ports(&at("match.ports"), &item.ports);
    for (addr, prefix) in &nets {
        for port in ports.iter().copied().chain(ports.is_empty().then_some(0)) {
            if !places.insert((*addr, *prefix, port)) {
                let message = format!("{addr}/{prefix} port {port} belongs to another target");
                checker.say(at("match"), message);
            }
        }
    }
    Match {
        nets,
        names: item.dns_names.clone(),
        services,
        ports,
    }
}

/// `address` or `address/prefix`, host bits zero.
pub(super) fn net(text: &str) -> Result<(IpAddr, u8), String> {
    let (addr, prefix) = match text.split_once('/') {
        Some((addr, prefix)) => (addr, Some(prefix)),
        None => (text, None),
    };
    let addr: IpAddr = addr.parse().map_err(|_| {
        format!("'{text}' is not an address or network; names and services have lists of their own")
    })?;
    let bits: u8 = if addr.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => bits,
        Some(prefix) => match prefix.parse::<u8>() {
            Ok(prefix) if prefix <= bits => prefix,
            _ => return Err(format!("'{text}' has a prefix length outside 0 to {bits}")),
        },
    };
    let host_bits_zero = match addr {
        IpAddr::V4(addr) => u32::from(addr)
            .checked_shl(u32::from(prefix))
            .is_none_or(|rest| rest == 0),
        IpAddr::V6(addr) => u128::from(addr)
            .checked_shl(u32::from(prefix))
            .is_none_or(|rest| rest == 0),
    };
    if !host_bits_zero {
        return Err(format!("'{text}' has bits set beyond its prefix"));
    }
    Ok((addr, prefix))
}

/// The protocols that configuration knows; each has its own demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TargetProtocol {
    Postgres,
    Kubernetes,
    Ssh,
}

impl TargetProtocol {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "postgres" => Some(Self::Postgres),
            "kubernetes" => Some(Self::Kubernetes),
            "ssh" => Some(Self::Ssh),
            _ => None,
        }
    }
}

/// Without TLS the server has to prove itself by SCRAM, which only PostgreSQL has.
fn check_upstream(
    item: &RawTarget,
    protocol: TargetProtocol,
    checker: &mut Checker<'_>,
) -> Option<UpstreamTls> {
    let at = |field: &str| format!("{}.upstream.{field}", item.path);
    match (protocol, item.upstream_tls.as_deref()) {
        (TargetProtocol::Postgres, None | Some("disable")) => {
            if item.upstream_ca.is_some() || item.upstream_name.is_some() {
                checker.say(
                    at("tls"),
                    "ca_file and server_name belong to TLS: say tls: require",
                );
            }
            None
        }
        (TargetProtocol::Postgres, Some("require"))
        | (TargetProtocol::Kubernetes, None | Some("require")) => {
            let (Some(ca_file), Some(server_name)) = (&item.upstream_ca, &item.upstream_name)
            else {
                checker.say(
                    at("ca_file"),
                    "TLS needs upstream.ca_file and upstream.server_name to prove the server",
                );
                return None;
            };
            Some(UpstreamTls {
                ca_file: checker.file(ca_file),
                server_name: server_name.clone(),
            })
        }
        (TargetProtocol::Postgres, Some(_)) => {
            checker.say(at("tls"), "must be disable or require");
            None
        }
        (TargetProtocol::Kubernetes, Some(_)) => {
            checker.say(at("tls"), "must be require");
            None
        }
        (TargetProtocol::Ssh, tls) => {
            if tls.is_some() || item.upstream_ca.is_some() || item.upstream_name.is_some() {
                checker.say(
                    at("tls"),
                    "SSH has no TLS: its server is proven by host_keys_file",
                );
            }
            None
        }
    }
}

fn check_ssh(
    item: &RawTarget,
    protocol: TargetProtocol,
    checker: &mut Checker<'_>,
) -> Option<SshFiles> {
    let at = |field: &str| format!("{}.{field}", item.path);
    if protocol != TargetProtocol::Ssh {
        for (field, given) in [
            ("upstream.host_keys_file", item.server_keys.is_some()),
            ("ssh.names", !item.ssh_names.is_empty()),
            ("ssh.host_key_file", item.host_key.is_some()),
            ("credential.key_file", item.key.given()),
            ("credential.certificate_file", item.certificate.given()),
        ] {
            if given {
                checker.say(at(field), "is for ssh");
            }
        }
        return None;
    }
    if item.agent_tls.is_some() || !item.names.is_empty() {
        checker.say(at("tls"), "SSH has no TLS: its names go into ssh.names");
    }
    let Some(server_keys) = &item.server_keys else {
        checker.say(
            at("upstream.host_keys_file"),
            "is missing: it holds the server's keys, as `ssh-keyscan` or known_hosts have them",
        );
        return None;
    };
    Some(SshFiles {
        server_keys: checker.file(server_keys),
        host_key: item.host_key.as_deref().map(|file| checker.file(file)),
    })
}

fn check_ssh_credential(item: &RawTarget, checker: &mut Checker<'_>) -> Credential {
    let at = |field: &str| format!("{}.credential.{field}", item.path);
    let user = item.user.clone().unwrap_or_default();
    if item.token.given() {
        checker.say(at("token_file"), "is for kubernetes");
    }
    if item.certificate.given() && !item.key.given() {
        checker.say(at("certificate_file"), "belongs to a key_file");
    }
    match (item.key.given(), item.password.given()) {
        (true, false) => {
            let of = (&item.certificate, at("certificate_file"));
            Credential::SshKey {
                user,
                from: check_secret(&item.key, &at("key_file"), checker),
                certificate: of.0.given().then(|| check_secret(of.0, &of.1, checker)),
            }
        }
        (false, true) => Credential::Password {
            user,
            from: check_secret(&item.password, &at("password_file"), checker),
        },
        (false, false) | (true, true) => {
            checker.say(at("key_file"), "ssh needs either key_file or password_file");
            Credential::Password {
                user,
                from: SecretFrom::File(PathBuf::new()),
            }
        }
    }
}

fn check_credential(
    item: &RawTarget,
    protocol: TargetProtocol,
    checker: &mut Checker<'_>,
) -> Credential {
    let at = |field: &str| format!("{}.credential.{field}", item.path);
    match protocol {
        TargetProtocol::Ssh => check_ssh_credential(item, checker),
        TargetProtocol::Postgres => {
            if item.user.as_deref().unwrap_or_default().is_empty() {
                checker.say(at("user"), "must not be empty");
            }
            if item.token.given() {
                checker.say(at("token_file"), "is for kubernetes");
            }
            Credential::Password {
                user: item.user.clone().unwrap_or_default(),
                from: check_secret(&item.password, &at("password_file"), checker),
            }
        }
        TargetProtocol::Kubernetes => {
            for (field, given) in [
                ("user", item.user.is_some()),
                ("password_file", item.password.given()),
            ] {
                if given {
                    checker.say(at(field), "is for postgres");
                }
            }
            Credential::Token {
                from: check_secret(&item.token, &at("token_file"), checker),
            }
        }
    }
}
