//! From the spool's files to ClickHouse, exactly once; and back again for people.

#![forbid(unsafe_code)]

pub mod anchor;
pub mod asked;
pub mod audit;
pub mod bundle;
mod directory;
pub mod export;
mod fields;
mod hex;
mod journal;
pub mod keys;
pub mod migrate;
pub mod ocsf;
pub mod query;
pub mod replay;
pub mod search;
mod shipper;
pub mod tables;

pub use crate::directory::{Durability, FileSegment, SpoolConfig, SpoolDir, SpoolDirError};
pub use crate::shipper::{Shipper, ShipperConfig, ShipperMetrics};

/// How to reach ClickHouse.
#[derive(Clone)]
pub struct StoreAddress {
    pub url: String,
    pub database: String,
    pub token: Option<zeroize::Zeroizing<String>>,
}

impl std::fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreAddress")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl StoreAddress {
    /// A client for this address. Validation is off: rows are sent as they lie in the spool.
    #[must_use]
    pub fn client(&self) -> clickhouse::Client {
        let client = clickhouse::Client::default()
            .with_url(&self.url)
            .with_database(&self.database)
            .with_validation(false);
        match &self.token {
            Some(token) => client.with_access_token(token.as_str()),
            None => client,
        }
    }
}
