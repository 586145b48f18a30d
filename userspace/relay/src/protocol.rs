//! The protocols: what each is registered with, and nothing else of them in this crate.

use std::sync::Arc;

use weir_decide::{Bound, Inherited};
use weir_govern::{CancelKey, Session};
use weir_http::{Acting, Acts, KubernetesApi, Masks};
use weir_kubernetes::Person;
use weir_model::ident::SessionId;
use weir_model::time::Now;
use weir_postgres::{PostgresConfig, PostgresSession};

use crate::node::{Node, Target};
use crate::subject::Subject;

/// The protocols that are built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Postgres,
    Kubernetes,
    Ssh,
}

/// Who owns the bytes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A [`Session`] of our own.
    ByteStream,
    /// hyper, behind `weir-http`.
    Http,
    /// russh, behind `weir-ssh`.
    Ssh,
}

impl Protocol {
    /// By its name in the configuration.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Postgres, Self::Kubernetes, Self::Ssh]
            .into_iter()
            .find(|protocol| protocol.name() == name)
    }

    /// As in the configuration, the record and Cedar's namespace in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Kubernetes => "kubernetes",
            Self::Ssh => "ssh",
        }
    }

    /// Cedar namespace.
    #[must_use]
    pub const fn namespace(self) -> &'static str {
        match self {
            Self::Postgres => weir_postgres::vocabulary::VOCABULARY.namespace,
            Self::Kubernetes => weir_kubernetes::vocabulary::VOCABULARY.namespace,
            Self::Ssh => weir_ssh::vocabulary::VOCABULARY.namespace,
        }
    }

    /// Offered to the agent and to the server, most wanted first; empty without TLS.
    #[must_use]
    pub const fn alpn(self) -> &'static [&'static [u8]] {
        match self {
            // IANA's name; clients that begin with TLS have to give it.
            Self::Postgres => &[b"postgresql"],
            Self::Ssh => &[],
            Self::Kubernetes => &[b"h2", b"http/1.1"],
        }
    }

    /// How TLS is asked for inside the protocol's own stream, and the byte by which the server
    /// agrees; `None` where TLS comes first.
    pub(crate) const fn tls_request(self) -> Option<(&'static [u8], u8)> {
        match self {
            Self::Postgres => Some((&weir_postgres::SSL_REQUEST, b'S')),
            Self::Kubernetes | Self::Ssh => None,
        }
    }

    /// Version of the snapshots of all byte-stream protocols together.
    pub(crate) const SNAPSHOTS: u32 = weir_postgres::SNAPSHOT_VERSION;

    /// A session of the process before this one; the text of an error is for the log.
    pub(crate) fn restored(
        self,
        (node, target): (&Node, &Target),
        (cancel, bytes): (CancelKey, &[u8]),
        bound: Box<Bound>,
        inherited: (&Inherited, Now),
    ) -> Result<Box<dyn Session>, String> {
        match self {
            Self::Postgres => {
                let config = postgres(node, target, cancel);
                PostgresSession::restore(config, bytes, bound, inherited)
                    .map(|session| Box::new(session) as Box<dyn Session>)
                    .map_err(|error| error.to_string())
            }
            Self::Kubernetes | Self::Ssh => Err("sessions of this protocol do not move".to_owned()),
        }
    }

    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Postgres => Kind::ByteStream,
            Self::Kubernetes => Kind::Http,
            Self::Ssh => Kind::Ssh,
        }
    }

    /// A fresh session for one flow; `None` for a protocol whose bytes a library owns.
    pub(crate) fn session(
        self,
        node: &Node,
        target: &Target,
        cancel: CancelKey,
    ) -> Option<Box<dyn Session>> {
        match self {
            Self::Postgres => {
                let config = postgres(node, target, cancel);
                Some(Box::new(PostgresSession::new(config)))
            }
            Self::Kubernetes | Self::Ssh => None,
        }
    }
}

fn postgres(node: &Node, target: &Target, cancel: CancelKey) -> PostgresConfig {
    PostgresConfig {
        target: Arc::clone(&target.name),
        tls_offered: target.tls.is_some(),
        tls_required: target.tls_required,
        accept_token: target.accept_token,
        cancel,
        mask_key: node.mask_key.clone(),
        patterns: Some(Arc::clone(&node.patterns.command)),
        rows_head: node.settings.rows_head,
        shape_seed: node.settings.shape_seed,
        definitions: node.catalogs.definitions(&target.name),
        clock: weir_clock::mono_us,
        ..PostgresConfig::default()
    }
}

/// What the flows over HTTP speak; an enumeration once there is a second one.
pub(crate) type HttpApi = KubernetesApi;

/// The protocol's words for one flow, which acts as `acting` says; `None` for a byte-stream
/// protocol.
pub(crate) fn http_api(node: &Node, target: &Target, acting: Acting) -> Option<HttpApi> {
    match target.protocol {
        Protocol::Postgres | Protocol::Ssh => None,
        Protocol::Kubernetes => Some(KubernetesApi::new(
            Arc::clone(&target.name),
            acting,
            Masks {
                key: node.mask_key.clone(),
                patterns: node.patterns.clone(),
                config_keys: Arc::clone(&target.config_keys),
            },
        )),
    }
}

/// As whom the server is asked, and with which credential; `None` while that cannot be had.
pub(crate) fn acts(target: &Target, subject: &Subject, session: SessionId) -> Option<Acts> {
    Some(Acts {
        token: target.credentials.of(&subject.principal)?.secret,
        person: person(subject, session),
    })
}

/// As whom the cluster is asked: object ids, as clusters that use Entra themselves name people.
fn person(subject: &Subject, session: SessionId) -> Person {
    let principal = &subject.principal;
    let mut extra = vec![
        ("weir-tenant", principal.tenant.to_string()),
        ("weir-app", principal.app.to_string()),
        ("weir-session", uuid::Uuid::from_u128(session.0).to_string()),
    ];
    if let Some(person) = &principal.on_behalf_of {
        extra.push(("weir-on-behalf-of", person.to_string()));
    }
    if let Some(attested) = &subject.attested {
        extra.push(("weir-presented-by", attested.oid.to_string()));
    }
    Person {
        user: principal.oid.to_string(),
        groups: principal
            .groups
            .certain()
            .map(ToString::to_string)
            .collect(),
        extra,
    }
}
