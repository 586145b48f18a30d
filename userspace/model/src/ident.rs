//! Who: session ids, workloads and principals.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// `UUIDv7` as a number: sorts by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(pub u128);

/// Same form as a session's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ApprovalId(pub u128);

/// Lower-case hyphenated text of a UUID held as a number.
fn write_uuid(value: u128, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    let hex = format!("{value:032x}");
    let (a, rest) = hex.split_at(8);
    let (b, rest) = rest.split_at(4);
    let (c, rest) = rest.split_at(4);
    let (d, e) = rest.split_at(4);
    write!(f, "{a}-{b}-{c}-{d}-{e}")
}

/// Reads the text form that `Display` writes (hyphens optional).
fn parse_uuid(text: &str) -> Option<u128> {
    let hex: String = text.chars().filter(|c| *c != '-').collect();
    if hex.len() != 32 {
        return None;
    }
    u128::from_str_radix(&hex, 16).ok()
}

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write_uuid(self.0, f)
    }
}

impl std::fmt::Display for ApprovalId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write_uuid(self.0, f)
    }
}

impl SessionId {
    /// `None` when `text` is not 32 hexadecimal digits, hyphens aside.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse_uuid(text).map(Self)
    }
}

impl ApprovalId {
    /// `None` when `text` is not 32 hexadecimal digits, hyphens aside.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse_uuid(text).map(Self)
    }
}

/// What an entry of the kill list names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RevokedKind {
    /// Tenant GUID.
    Tenant,
    /// Object id of a service principal or person.
    Principal,
    /// Client id.
    Application,
    /// Name as configured.
    Workload,
    /// Cgroup id in decimal.
    Cgroup,
    /// Session id; ends it and keeps nobody out.
    Session,
}

impl RevokedKind {
    const ALL: [Self; 6] = [
        Self::Tenant,
        Self::Principal,
        Self::Application,
        Self::Workload,
        Self::Cgroup,
        Self::Session,
    ];

    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Principal => "principal",
            Self::Application => "application",
            Self::Workload => "workload",
            Self::Cgroup => "cgroup",
            Self::Session => "session",
        }
    }

    /// By its label.
    #[must_use]
    pub fn parse(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.label() == label)
    }
}

/// How the principal was proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EvidenceKind {
    /// Client credentials with the workload's service-account token as assertion.
    Federated,
    /// Client credentials signed with a certificate's key.
    Certificate,
    /// Client credentials with a shared secret.
    ClientSecret,
    /// A token of the machine's metadata service: proves the machine.
    Managed,
    /// An agent identity, through its blueprint.
    AgentId,
    /// A person who signed in.
    Person,
    /// A token that the client presented in its protocol.
    Presented,
}

impl EvidenceKind {
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Federated => "federated",
            Self::Certificate => "certificate",
            Self::ClientSecret => "client_secret",
            Self::Managed => "managed",
            Self::AgentId => "agent_id",
            Self::Person => "person",
            Self::Presented => "presented",
        }
    }
}

/// What is known of a principal's groups. Absent is unknown, never none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Groups {
    /// Complete list of object ids (lower-case GUIDs).
    Known(BTreeSet<Arc<str>>),
    /// The token pointed at Graph and nobody asked yet.
    Overage,
    /// The token said nothing.
    Unknown,
}

impl Groups {
    /// The ids that are certain; empty when nothing is.
    pub fn certain(&self) -> impl Iterator<Item = &Arc<str>> {
        let known = match self {
            Self::Known(ids) => Some(ids.iter()),
            Self::Overage | Self::Unknown => None,
        };
        known.into_iter().flatten()
    }

    /// Label for record and policy.
    #[must_use]
    pub const fn state(&self) -> &'static str {
        match self {
            Self::Known(_) => "known",
            Self::Overage => "overage",
            Self::Unknown => "unknown",
        }
    }
}

/// An application, or a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PrincipalKind {
    Application,
    Person,
}

/// The authenticated identity. The key for policy and record is (cloud, tenant, oid).
///
/// Only `identify` makes one in the product; the fields are public for its tests' sake and since
/// nothing here grants anything: a `Permit` does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    pub kind: PrincipalKind,
    pub cloud: Arc<str>,
    /// Lower-case GUID.
    pub tenant: Arc<str>,
    /// Lower-case GUID of the service principal or user.
    pub oid: Arc<str>,
    /// `azp`: the client application, lower-case GUID.
    pub app: Arc<str>,
    pub roles: BTreeSet<Arc<str>>,
    pub groups: Groups,
    /// `oid` of the person on whose behalf the agent acts.
    pub on_behalf_of: Option<Arc<str>>,
    /// `uti` of the token, for the join with Entra's sign-in log.
    pub token_id: Arc<str>,
    pub evidence: EvidenceKind,
    /// Name of the workload as configured.
    pub workload: Arc<str>,
    /// Unix seconds; the binding ends here at the latest.
    pub valid_until_s: i64,
}
