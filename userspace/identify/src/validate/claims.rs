//! The claims of an access token, typed (step 8). Unknown claims are accepted and ignored.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::TokenRefusal;
use super::header::{given, present};

#[derive(Deserialize)]
pub(super) struct Claims {
    #[serde(default, deserialize_with = "given")]
    pub(super) iss: Option<String>,
    #[serde(default, deserialize_with = "given")]
    pub(super) aud: Option<String>,
    #[serde(default, deserialize_with = "given")]
    pub(super) exp: Option<i64>,
    #[serde(default, deserialize_with = "given")]
    pub(super) nbf: Option<i64>,
    #[serde(default, deserialize_with = "given")]
    pub(super) iat: Option<i64>,
    #[serde(default, deserialize_with = "given")]
    pub(super) tid: Option<String>,
    #[serde(default, deserialize_with = "given")]
    pub(super) ver: Option<String>,
    #[serde(default, deserialize_with = "given")]
    pub(super) oid: Option<String>,
    #[serde(default, deserialize_with = "given")]
    pub(super) azp: Option<String>,
    #[serde(default, deserialize_with = "given")]
    pub(super) azpacr: Option<String>,
    #[serde(default, deserialize_with = "given")]
    pub(super) idtyp: Option<String>,
    #[serde(default, deserialize_with = "given")]
    pub(super) scp: Option<String>,
    #[serde(default, deserialize_with = "given")]
    pub(super) roles: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    pub(super) groups: Option<Vec<String>>,
    #[serde(default, deserialize_with = "given")]
    pub(super) uti: Option<String>,
    #[serde(default, deserialize_with = "given")]
    pub(super) xms_par_app_azp: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) nonce: bool,
    #[serde(default, deserialize_with = "present")]
    pub(super) at_hash: bool,
    #[serde(default, deserialize_with = "present")]
    pub(super) c_hash: bool,
    #[serde(default, deserialize_with = "given")]
    hasgroups: Option<bool>,
    /// Only which claims are elsewhere; where, is never followed.
    #[serde(default, rename = "_claim_names", deserialize_with = "given")]
    claim_names: Option<BTreeMap<String, IgnoredAny>>,
}

impl Claims {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, TokenRefusal> {
        if bytes.first() != Some(&b'{') {
            return Err(TokenRefusal::ClaimsNotObject);
        }
        serde_json::from_slice(bytes).map_err(|_| TokenRefusal::ClaimsMalformed)
    }

    pub(super) fn has_overage(&self) -> bool {
        let moved = self
            .claim_names
            .as_ref()
            .is_some_and(|names| names.contains_key("groups"));
        moved || self.hasgroups == Some(true)
    }
}
