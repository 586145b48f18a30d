//! The id_token of a person's sign-in: with the nonce that was sent, or with none (device code).

use serde::Deserialize;

use super::header::given;
use super::{Keys, Opened, Rules, TokenRefusal, check_key_belongs};

#[derive(Deserialize)]
struct IdClaims {
    #[serde(default, deserialize_with = "given")]
    iss: Option<String>,
    #[serde(default, deserialize_with = "given")]
    aud: Option<String>,
    #[serde(default, deserialize_with = "given")]
    exp: Option<i64>,
    #[serde(default, deserialize_with = "given")]
    iat: Option<i64>,
    #[serde(default, deserialize_with = "given")]
    tid: Option<String>,
    #[serde(default, deserialize_with = "given")]
    oid: Option<String>,
    #[serde(default, deserialize_with = "given")]
    nbf: Option<i64>,
    /// Any value counts: one that is no text is never the one that was sent.
    #[serde(default, deserialize_with = "given")]
    nonce: Option<serde_json::Value>,
}

/// What the id_token has to agree with.
pub(crate) struct Expected<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) client_id: &'a str,
    /// `oid` of the access token that came with it.
    pub(crate) oid: &'a str,
    pub(crate) nonce: Option<&'a str>,
}

impl Opened<'_> {
    /// Signature, issuer, audience, time, the nonce or its absence, and the same person.
    pub(crate) fn check_id_token(
        self,
        keys: &impl Keys,
        rules: &Rules,
        expected: &Expected<'_>,
        now_s: i64,
    ) -> Result<(), TokenRefusal> {
        let (key, payload) = self.verified(keys, rules, Some(expected.tenant))?;
        if payload.first() != Some(&b'{') {
            return Err(TokenRefusal::ClaimsNotObject);
        }
        let claims: IdClaims =
            serde_json::from_slice(&payload).map_err(|_| TokenRefusal::ClaimsMalformed)?;
        if claims.tid.as_deref() != Some(expected.tenant) {
            return Err(TokenRefusal::BindTenant);
        }
        if claims.iss.as_deref() != Some(rules.authority.issuer(expected.tenant).as_str()) {
            return Err(TokenRefusal::Issuer);
        }
        check_key_belongs(&key, keys, rules, expected.tenant)?;
        if claims.aud.as_deref() != Some(expected.client_id) {
            return Err(TokenRefusal::Audience);
        }
        let (Some(exp), Some(iat)) = (claims.exp, claims.iat) else {
            return Err(TokenRefusal::TimeMissing);
        };
        if now_s >= exp.saturating_add(rules.skew_s) {
            return Err(TokenRefusal::Expired);
        }
        if iat > now_s.saturating_add(rules.skew_s) {
            return Err(TokenRefusal::IssuedInFuture);
        }
        if claims
            .nbf
            .is_some_and(|nbf| nbf > now_s.saturating_add(rules.skew_s))
        {
            return Err(TokenRefusal::NotYetValid);
        }
        match (expected.nonce, &claims.nonce) {
            (None, None) => {}
            (None, Some(_)) => return Err(TokenRefusal::IdToken),
            (Some(sent), Some(serde_json::Value::String(back))) if sent == back => {}
            (Some(_), _) => return Err(TokenRefusal::Nonce),
        }
        if claims.oid.as_deref() != Some(expected.oid) {
            return Err(TokenRefusal::ObjectId);
        }
        Ok(())
    }
}
