//! The protocols: one registration line each, and nothing else of them in this crate.

use std::sync::Arc;

use weir_govern::{CancelKey, Session};
use weir_postgres::{PostgresConfig, PostgresSession};

use crate::node::{Node, Target};

/// The protocols that are built in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Postgres,
}

impl Protocol {
    /// By its name in the configuration.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Postgres]
            .into_iter()
            .find(|protocol| protocol.name() == name)
    }

    /// As in the configuration, the record and Cedar's namespace in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
        }
    }

    /// Cedar namespace.
    #[must_use]
    pub const fn namespace(self) -> &'static str {
        match self {
            Self::Postgres => weir_postgres::vocabulary::VOCABULARY.namespace,
        }
    }

    /// A fresh session for one flow.
    pub(crate) fn session(
        self,
        node: &Node,
        target: &Target,
        cancel: CancelKey,
    ) -> Box<dyn Session> {
        match self {
            Self::Postgres => Box::new(PostgresSession::new(PostgresConfig {
                target: Arc::clone(&target.name),
                tls_offered: target.tls.is_some(),
                tls_required: target.tls_required,
                cancel,
                mask_key: node.mask_key.clone(),
                rows_head: node.settings.rows_head,
                shape_seed: node.settings.shape_seed,
                ..PostgresConfig::default()
            })),
        }
    }
}
