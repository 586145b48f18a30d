//! From a workload (or a person) to an Entra principal.
//!
//! Weir signs in *as* the workload, to its own audience, and validates what comes back with rules
//! of its own: [`validate`] is pure and holds every check, [`keys`] decides when keys are fetched,
//! the rest is one small HTTP client and the caches around it. Tokens never leave this crate.

#![forbid(unsafe_code)]

mod attest;
mod authority;
mod bind;
mod code;
mod config;
mod device;
mod entra;
mod examine;
mod federated;
mod groups;
mod guid;
mod http;
pub mod keys;
mod method;
mod people;
mod presented;
mod refusal;
mod secret;
mod secret_source;
mod sign_in;
mod token_request;
pub mod validate;
mod verdict;

pub use self::attest::{Attested, ClusterKeys};
pub use self::authority::Authority;
pub use self::bind::WorkloadIdentity;
pub use self::code::{AnswerProblem, CodeAnswer, CodeClient, CodeHandle, CodeRequest, CodeStart};
pub use self::config::{IdentityConfig, Problem, Problems, REMINT_S_DEFAULT};
pub use self::device::{DeviceHandle, DevicePoll, DeviceStart, Signed};
pub use self::entra::{EntraRefusal, RefusalKind};
pub use self::examine::{ClockSkew, registration_advice};
pub use self::federated::AssertionProblem;
pub use self::groups::GraphConfig;
pub use self::method::{AssertionSource, CertificateProblem, ClientCertificate, Method};
pub use self::presented::Presenter;
pub use self::refusal::Unidentified;
pub use self::secret::Secret;
pub use self::secret_source::SecretSource;
pub use self::token_request::{Account, TokenRequest, TokenRequests};
pub use self::verdict::{ClaimsSummary, Verdict};

use std::sync::Arc;

use self::bind::Bindings;
use self::config::Settings;
use self::groups::Graph;
use self::http::HttpClient;
use self::keys::fetch::KeyStore;
use self::people::People;
use self::validate::Rules;

/// Identity for one node: one authority, its tenants, and what is bound.
pub struct Identify {
    settings: Settings,
    rules: Rules,
    http: HttpClient,
    metadata: HttpClient,
    keys: KeyStore,
    bindings: Bindings,
    graph: Option<Graph>,
    people: People,
}

impl Identify {
    /// Checks the configuration and loads the root certificates; makes no call.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration.
    pub fn new(config: IdentityConfig) -> Result<Self, Problems> {
        let settings = Settings::check(&config)?;
        let http = HttpClient::new(&settings.authority).map_err(|text| {
            Problems(vec![Problem {
                key: "authority".to_owned(),
                text,
            }])
        })?;
        let metadata = HttpClient::beside(None, "the metadata service").map_err(|text| {
            Problems(vec![Problem {
                key: "metadata".to_owned(),
                text,
            }])
        })?;
        let rules = Rules {
            authority: settings.authority.clone(),
            tenants: settings.tenants.clone(),
            audience: Arc::clone(&settings.audience),
            required_role: Arc::clone(&settings.required_role),
            scope: Arc::clone(&settings.reviewer_scope),
            skew_s: settings.clock_skew_s,
        };
        let graph = match config.graph {
            None => None,
            Some(graph) => Some(Graph::new(graph, &settings.authority).map_err(|text| {
                Problems(vec![Problem {
                    key: "graph".to_owned(),
                    text,
                }])
            })?),
        };
        let keys = KeyStore::new(&settings);
        Ok(Self {
            settings,
            rules,
            http,
            metadata,
            keys,
            bindings: Bindings::default(),
            graph,
            people: People::default(),
        })
    }

    /// Whether the directory can be asked beyond what tokens say.
    #[must_use]
    pub const fn has_graph(&self) -> bool {
        self.graph.is_some()
    }
}
