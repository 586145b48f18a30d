//! Fetches discovery documents and key sets, one fetch at a time per authority.

use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use weir_model::time::Now;

use super::{KeyCache, KeySet, KeySnapshot, Need};
use crate::config::Settings;
use crate::http::HttpClient;
use crate::refusal::Unidentified;

/// The fields of a v2 discovery document that Weir uses; each URL is on the authority.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Discovery {
    issuer: String,
    jwks_uri: String,
    pub(crate) token_endpoint: String,
    pub(crate) device_authorization_endpoint: Option<String>,
    pub(crate) authorization_endpoint: Option<String>,
}

/// What is about to be looked up.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) tenant: &'a str,
    /// `None` when only the discovery document is wanted.
    pub(crate) kid: Option<&'a str>,
}

pub(crate) struct KeyStore {
    cache: Mutex<KeyCache<Discovery>>,
    /// Held while fetching, so that waiting callers find the result.
    turn: tokio::sync::Mutex<()>,
}

impl KeyStore {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            cache: Mutex::new(KeyCache::for_tenants(&settings.tenants)),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    fn cache(&self) -> MutexGuard<'_, KeyCache<Discovery>> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn snapshot(&self, now: Now) -> KeySnapshot {
        self.cache().snapshot(now)
    }

    /// Makes sure that the tenant's keys are as fresh as the rules of [`KeyCache`] allow.
    pub(crate) async fn ensure(
        &self,
        http: &HttpClient,
        settings: &Settings,
        wanted: Wanted<'_>,
        now: Now,
    ) -> Result<(), Unidentified> {
        let Wanted { tenant, kid } = wanted;
        if self.cache().need(tenant, kid, now) == Need::Nothing {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        let need = self.cache().need(tenant, kid, now);
        match need {
            Need::Nothing => return Ok(()),
            Need::Away => {
                return Err(Unidentified::Away {
                    what: "the tenant's keys",
                });
            }
            Need::Fetch | Need::Refresh => self.cache().fetching(tenant, kid, now),
        }
        match fetch(http, settings, tenant).await {
            Ok((document, keys)) => {
                self.cache().fetched(tenant, keys, document, now);
                Ok(())
            }
            Err(error) => {
                self.cache().failed(tenant, now);
                tracing::warn!(tenant, %error, "signing keys could not be fetched");
                if need == Need::Refresh {
                    Ok(())
                } else {
                    Err(error)
                }
            }
        }
    }

    /// The tenant's endpoints.
    pub(crate) async fn discovery(
        &self,
        http: &HttpClient,
        settings: &Settings,
        tenant: &str,
        now: Now,
    ) -> Result<std::sync::Arc<Discovery>, Unidentified> {
        self.ensure(http, settings, Wanted { tenant, kid: None }, now)
            .await?;
        self.cache()
            .document(tenant, now)
            .ok_or(Unidentified::Away {
                what: "the tenant's discovery document",
            })
    }
}

async fn fetch(
    http: &HttpClient,
    settings: &Settings,
    tenant: &str,
) -> Result<(Discovery, KeySet), Unidentified> {
    let authority = &settings.authority;
    let answer = http.get(&authority.discovery(tenant)).await?;
    if answer.status != 200 {
        return Err(Unidentified::unexpected_status("discovery", answer.status));
    }
    let document: Discovery =
        serde_json::from_slice(&answer.body).map_err(|_| Unidentified::Malformed {
            what: "discovery document",
        })?;
    if document.issuer != authority.issuer(tenant) {
        return Err(Unidentified::Malformed {
            what: "issuer of the discovery document",
        });
    }
    let urls = [Some(&document.jwks_uri), Some(&document.token_endpoint)]
        .into_iter()
        .chain([
            document.device_authorization_endpoint.as_ref(),
            document.authorization_endpoint.as_ref(),
        ])
        .flatten();
    for url in urls {
        if !authority.owns(url) {
            return Err(Unidentified::ForeignUrl);
        }
    }
    let answer = http.get(&document.jwks_uri).await?;
    if answer.status != 200 {
        return Err(Unidentified::unexpected_status("keys", answer.status));
    }
    let keys = KeySet::parse(&answer.body).map_err(Unidentified::KeySet)?;
    Ok((document, keys))
}
