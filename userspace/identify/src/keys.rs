//! Published signing keys: what counts as one, and when to fetch them again.
//!
//! Pure: time comes in as [`Now`], bytes come from `fetch`.

pub(crate) mod fetch;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use weir_model::time::Now;

/// A set is trusted for this long without a successful refresh.
pub const TTL_S: u64 = 24 * 3600;
/// A set older than this is refreshed when it is next used.
pub const REFRESH_S: u64 = 3600;
/// Tokens with unknown `kid`s cause at most one fetch in this time, per tenant.
pub const UNKNOWN_KID_S: u64 = 300;
/// After a failed fetch, none is tried for this long.
pub const RETRY_S: u64 = 5;
/// Keys in one set; Entra publishes about ten.
const KEYS_MAX: usize = 1000;
const MODULUS_BITS_MIN: usize = 2048;
const MODULUS_BYTES_MAX: usize = 1024;

/// One RSA key that may sign tokens.
pub struct PublicKey {
    kid: String,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
    issuer: Option<String>,
    decoding: DecodingKey,
}

/// Why a whole set was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetRefusal {
    #[error("the key set is not valid JSON of the expected shape")]
    Malformed,
    #[error("the key set has more than 1000 keys")]
    TooMany,
    #[error("the key set lists one kid twice")]
    DuplicateKid,
    #[error("the key set has no usable key")]
    Empty,
}

/// The usable keys of one tenant, by `kid`.
#[derive(Default)]
pub struct KeySet {
    keys: BTreeMap<String, Arc<PublicKey>>,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<RawKey>,
}

/// Unknown members (`x5c`, `x5t` …) are normal and ignored.
#[derive(Deserialize)]
struct RawKey {
    kty: Option<String>,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    n: Option<String>,
    e: Option<String>,
    issuer: Option<String>,
}

impl KeySet {
    pub(crate) fn get(&self, kid: &str) -> Option<&Arc<PublicKey>> {
        self.keys.get(kid)
    }

    /// Reads a JWKS document. Keys that cannot sign RS256 are skipped.
    ///
    /// # Errors
    /// When the set as a whole cannot be trusted.
    pub fn parse(body: &[u8]) -> Result<Self, KeySetRefusal> {
        let raw: RawSet = serde_json::from_slice(body).map_err(|_| KeySetRefusal::Malformed)?;
        if raw.keys.len() > KEYS_MAX {
            return Err(KeySetRefusal::TooMany);
        }
        let mut seen = BTreeSet::new();
        let mut keys = BTreeMap::new();
        for key in raw.keys {
            let Some(kid) = key.kid.clone() else { continue };
            if !seen.insert(kid.clone()) {
                return Err(KeySetRefusal::DuplicateKid);
            }
            if let Some(key) = key.usable() {
                keys.insert(kid, Arc::new(key));
            }
        }
        if keys.is_empty() {
            return Err(KeySetRefusal::Empty);
        }
        Ok(Self { keys })
    }
}

impl RawKey {
    fn usable(self) -> Option<PublicKey> {
        let for_signing = self.usage.as_deref().is_none_or(|usage| usage == "sig");
        let for_rs256 = self.alg.as_deref().is_none_or(|alg| alg == "RS256");
        if self.kty.as_deref() != Some("RSA") || !for_signing || !for_rs256 {
            return None;
        }
        let modulus = URL_SAFE_NO_PAD.decode(self.n?).ok()?;
        let exponent = URL_SAFE_NO_PAD.decode(self.e?).ok()?;
        let leading = modulus.iter().take_while(|byte| **byte == 0).count();
        let bits = modulus.get(leading..)?.len() * 8
            - modulus
                .get(leading)
                .map_or(0, |byte| byte.leading_zeros() as usize);
        if bits < MODULUS_BITS_MIN
            || modulus.len() > MODULUS_BYTES_MAX
            || !exponent_holds(&exponent)
        {
            return None;
        }
        let decoding = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
        Some(PublicKey {
            kid: self.kid?,
            modulus,
            exponent,
            issuer: self.issuer,
            decoding,
        })
    }
}

/// Odd, at least 3, at most 32 bits: with 1 every signature would be anybody's to make, and a long
/// one is only there to cost time.
fn exponent_holds(bytes: &[u8]) -> bool {
    let leading = bytes.iter().take_while(|byte| **byte == 0).count();
    let digits = bytes.get(leading..).unwrap_or(&[]);
    let value = digits
        .iter()
        .fold(0_u64, |value, byte| (value << 8) | u64::from(*byte));
    digits.len() <= 4 && value >= 3 && value % 2 == 1
}

impl PublicKey {
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The non-standard `issuer` member, where published.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    pub(crate) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    /// The same public key, whoever published it.
    #[must_use]
    pub fn same_key(&self, other: &Self) -> bool {
        self.modulus == other.modulus && self.exponent == other.exponent
    }
}

/// What the fetcher should do before a key is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Look up what is there; a missing key stays missing for now.
    Nothing,
    /// Nothing usable is held, or the `kid` is unknown: fetch, and fail if that fails.
    Fetch,
    /// Fetch, but what is held still serves if that fails.
    Refresh,
    /// Nothing usable is held and a fetch failed a moment ago.
    Away,
}

struct TenantKeys<D> {
    held: Option<Held<D>>,
    /// Monotonic microseconds of the last failed fetch.
    failed_us: Option<u64>,
    unknown_kid_us: Option<u64>,
}

struct Held<D> {
    keys: Arc<KeySet>,
    document: Arc<D>,
    fetched_us: u64,
}

/// Keys of all configured tenants, with the discovery document that led to them.
pub struct KeyCache<D> {
    tenants: BTreeMap<Arc<str>, TenantKeys<D>>,
}

fn age_s(since_us: u64, now: Now) -> u64 {
    now.mono_us.saturating_sub(since_us) / 1_000_000
}

impl<D> KeyCache<D> {
    /// Bounded by the configured tenants: nothing else is ever stored.
    #[must_use]
    pub fn for_tenants(tenants: &[Arc<str>]) -> Self {
        let empty = || TenantKeys {
            held: None,
            failed_us: None,
            unknown_kid_us: None,
        };
        Self {
            tenants: tenants
                .iter()
                .map(|tenant| (Arc::clone(tenant), empty()))
                .collect(),
        }
    }

    /// What has to happen before `kid` (or only the document) of `tenant` is used.
    #[must_use]
    pub fn need(&self, tenant: &str, kid: Option<&str>, now: Now) -> Need {
        let Some(state) = self.tenants.get(tenant) else {
            return Need::Nothing;
        };
        let failed_lately = state.failed_us.is_some_and(|at| age_s(at, now) < RETRY_S);
        let Some(held) = state.live(now) else {
            return if failed_lately {
                Need::Away
            } else {
                Need::Fetch
            };
        };
        if failed_lately {
            return Need::Nothing;
        }
        let unknown = kid.is_some_and(|kid| !held.keys.keys.contains_key(kid));
        let may_ask = state
            .unknown_kid_us
            .is_none_or(|at| age_s(at, now) >= UNKNOWN_KID_S);
        if (unknown && may_ask) || age_s(held.fetched_us, now) >= REFRESH_S {
            return Need::Refresh;
        }
        Need::Nothing
    }

    /// Called before a fetch, so that an unknown `kid` uses up its chance even if that fails.
    pub fn fetching(&mut self, tenant: &str, kid: Option<&str>, now: Now) {
        let Some(state) = self.tenants.get_mut(tenant) else {
            return;
        };
        let unknown = match (&state.held, kid) {
            (Some(held), Some(kid)) => !held.keys.keys.contains_key(kid),
            _ => false,
        };
        if unknown {
            state.unknown_kid_us = Some(now.mono_us);
        }
    }

    pub fn fetched(&mut self, tenant: &str, keys: KeySet, document: D, now: Now) {
        if let Some(state) = self.tenants.get_mut(tenant) {
            state.failed_us = None;
            state.held = Some(Held {
                keys: Arc::new(keys),
                document: Arc::new(document),
                fetched_us: now.mono_us,
            });
        }
    }

    /// The last good set stays until its TTL.
    pub fn failed(&mut self, tenant: &str, now: Now) {
        if let Some(state) = self.tenants.get_mut(tenant) {
            state.failed_us = Some(now.mono_us);
        }
    }

    /// The discovery document, while it is live.
    #[must_use]
    pub fn document(&self, tenant: &str, now: Now) -> Option<Arc<D>> {
        let held = self.tenants.get(tenant)?.live(now)?;
        Some(Arc::clone(&held.document))
    }

    /// The keys that are live now, for one validation.
    #[must_use]
    pub fn snapshot(&self, now: Now) -> KeySnapshot {
        let live = |(tenant, state): (&Arc<str>, &TenantKeys<D>)| {
            state
                .live(now)
                .map(|held| (Arc::clone(tenant), Arc::clone(&held.keys)))
        };
        KeySnapshot {
            tenants: self.tenants.iter().filter_map(live).collect(),
        }
    }
}

impl<D> TenantKeys<D> {
    fn live(&self, now: Now) -> Option<&Held<D>> {
        self.held
            .as_ref()
            .filter(|held| age_s(held.fetched_us, now) < TTL_S)
    }
}

/// Live key sets by tenant.
#[derive(Default)]
pub struct KeySnapshot {
    tenants: BTreeMap<Arc<str>, Arc<KeySet>>,
}

impl KeySnapshot {
    /// One tenant's set, for tests and tools that have keys at hand.
    #[must_use]
    pub fn with(mut self, tenant: &str, keys: KeySet) -> Self {
        self.tenants.insert(tenant.into(), Arc::new(keys));
        self
    }
}

impl KeySnapshot {
    /// Whether any tenant publishes a key of that name.
    #[must_use]
    pub fn knows(&self, kid: &str) -> bool {
        self.tenants
            .values()
            .any(|keys| keys.keys.contains_key(kid))
    }
}

impl crate::validate::Keys for KeySnapshot {
    fn key(&self, tenant: &str, kid: &str) -> Option<Arc<PublicKey>> {
        self.tenants.get(tenant)?.keys.get(kid).map(Arc::clone)
    }
}
