//! Whether an access token proves a principal: every rule, in one fixed order.
//!
//! Pure. Steps 1 to 5 read the header ([`open`]), 6 to 17 need keys and time
//! ([`Opened::check`]), 18 ties a token that Weir asked for to what it asked
//! ([`Accepted::bound_to`]). No claim is parsed before the signature holds.

mod claims;
mod header;
pub(crate) mod id_token;
mod refusal;
pub(crate) mod shown;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use weir_model::ident::{Groups, PrincipalKind};

pub use self::refusal::{STEP_NAMES, TokenRefusal};
use crate::authority::Authority;
use crate::guid::{is_guid, is_nonzero_guid};
use crate::keys::PublicKey;
use claims::Claims;

/// Bytes of a token that are looked at.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// Longest life that Entra gives a token: 28 h, for continuous access evaluation.
const LIFE_S_MAX: i64 = 28 * 3600;
/// Entra lists at most this many groups in a JWT.
const GROUPS_MAX: usize = 200;

/// What a token must satisfy.
#[derive(Clone, Debug)]
pub struct Rules {
    pub authority: Authority,
    pub tenants: Vec<Arc<str>>,
    pub audience: Arc<str>,
    pub required_role: Arc<str>,
    pub scope: Arc<str>,
    pub skew_s: i64,
}

/// Published keys by tenant and `kid`.
pub trait Keys {
    fn key(&self, tenant: &str, kid: &str) -> Option<Arc<PublicKey>>;
}

/// A token whose header holds; nothing is proven yet.
pub struct Opened<'a> {
    kid: String,
    signed: &'a str,
    payload: &'a str,
    signature: &'a str,
}

/// What a good token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub kind: PrincipalKind,
    pub tenant: Arc<str>,
    pub oid: Arc<str>,
    /// `azp`.
    pub app: Arc<str>,
    pub roles: BTreeSet<Arc<str>>,
    pub groups: Groups,
    /// `uti`; empty when the token has none.
    pub token_id: Arc<str>,
    /// Blueprint of an agent identity, for the log only.
    pub blueprint: Option<Arc<str>>,
    /// Unix seconds.
    pub expires_s: i64,
}

/// Steps 1 to 5.
///
/// # Errors
/// The first rule that does not hold.
pub fn open(token: &str) -> Result<Opened<'_>, TokenRefusal> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenRefusal::TooLong);
    }
    let mut parts = token.split('.');
    let (Some(head), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(TokenRefusal::NotThreeParts);
    };
    if head.is_empty() || payload.is_empty() || signature.is_empty() {
        return Err(TokenRefusal::NotThreeParts);
    }
    let header = decode(head)?;
    decode(payload)?;
    decode(signature)?;
    let kid = header::check(&header)?;
    let signed = &token[..head.len() + 1 + payload.len()];
    Ok(Opened {
        kid,
        signed,
        payload,
        signature,
    })
}

/// Strict base64url: no padding, no whitespace, canonical trailing bits.
fn decode(part: &str) -> Result<Vec<u8>, TokenRefusal> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| TokenRefusal::NotBase64Url)
}

impl Opened<'_> {
    /// The key that the token claims to be signed with; attacker's choice.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Steps 6 to 17. `tenant` narrows the keys to one tenant, where one was asked.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn check(
        self,
        keys: &impl Keys,
        rules: &Rules,
        tenant: Option<&str>,
        now_s: i64,
    ) -> Result<Accepted, TokenRefusal> {
        let (key, payload) = self.verified(keys, rules, tenant)?;
        let claims = Claims::parse(&payload)?;
        let tid = check_tenant(&claims, rules)?;
        check_issuer(&claims, rules, &tid)?;
        check_key_belongs(&key, keys, rules, &tid)?;
        if claims.aud.as_deref() != Some(&*rules.audience) {
            return Err(TokenRefusal::Audience);
        }
        let expires_s = check_times(&claims, rules.skew_s, now_s)?;
        let (oid, app) = check_subject(&claims)?;
        let kind = story(&claims)?;
        authorised(&claims, kind, rules)?;
        let groups = groups(&claims)?;
        Ok(Accepted {
            kind,
            tenant: tid,
            oid,
            app,
            roles: claims
                .roles
                .iter()
                .flatten()
                .map(|role| Arc::from(role.as_str()))
                .collect(),
            groups,
            token_id: claims.uti.as_deref().unwrap_or_default().into(),
            blueprint: claims.xms_par_app_azp.as_deref().map(Arc::from),
            expires_s,
        })
    }

    /// Steps 6 and 7: the payload's bytes, once the signature holds.
    fn verified(
        &self,
        keys: &impl Keys,
        rules: &Rules,
        tenant: Option<&str>,
    ) -> Result<(Arc<PublicKey>, Vec<u8>), TokenRefusal> {
        let key = match tenant {
            Some(tenant) => keys.key(tenant, &self.kid),
            None => rules
                .tenants
                .iter()
                .find_map(|tenant| keys.key(tenant, &self.kid)),
        };
        let key = key.ok_or(TokenRefusal::UnknownKey)?;
        let holds = jsonwebtoken::crypto::verify(
            self.signature,
            self.signed.as_bytes(),
            key.decoding(),
            Algorithm::RS256,
        );
        if !holds.unwrap_or(false) {
            return Err(TokenRefusal::Signature);
        }
        Ok((key, decode(self.payload)?))
    }
}

fn check_tenant(claims: &Claims, rules: &Rules) -> Result<Arc<str>, TokenRefusal> {
    let tid = claims.tid.as_deref().filter(|tid| is_guid(tid));
    let tid = tid.ok_or(TokenRefusal::TenantMalformed)?;
    let known = rules.tenants.iter().find(|tenant| ***tenant == *tid);
    known.map(Arc::clone).ok_or(TokenRefusal::TenantNotAllowed)
}

fn check_issuer(claims: &Claims, rules: &Rules, tid: &str) -> Result<(), TokenRefusal> {
    if claims.ver.as_deref() != Some("2.0") {
        return Err(TokenRefusal::Version);
    }
    if claims.iss.as_deref() != Some(rules.authority.issuer(tid).as_str()) {
        return Err(TokenRefusal::Issuer);
    }
    Ok(())
}

/// Step 11: the key was published for the very tenant that the token names.
fn check_key_belongs(
    key: &PublicKey,
    keys: &impl Keys,
    rules: &Rules,
    tid: &str,
) -> Result<(), TokenRefusal> {
    let own = keys
        .key(tid, key.kid())
        .ok_or(TokenRefusal::KeyOfOtherTenant)?;
    if !own.same_key(key) {
        return Err(TokenRefusal::KeyOfOtherTenant);
    }
    match own.issuer() {
        Some(issuer) if issuer.replace("{tenantid}", tid) != rules.authority.issuer(tid) => {
            Err(TokenRefusal::KeyIssuer)
        }
        Some(_) | None => Ok(()),
    }
}

fn check_times(claims: &Claims, skew_s: i64, now_s: i64) -> Result<i64, TokenRefusal> {
    let (Some(exp), Some(nbf), Some(iat)) = (claims.exp, claims.nbf, claims.iat) else {
        return Err(TokenRefusal::TimeMissing);
    };
    if now_s >= exp.saturating_add(skew_s) {
        return Err(TokenRefusal::Expired);
    }
    if nbf > now_s.saturating_add(skew_s) {
        return Err(TokenRefusal::NotYetValid);
    }
    if iat > now_s.saturating_add(skew_s) {
        return Err(TokenRefusal::IssuedInFuture);
    }
    if exp <= iat {
        return Err(TokenRefusal::ExpiresBeforeIssued);
    }
    if exp.saturating_sub(iat) > LIFE_S_MAX {
        return Err(TokenRefusal::LifeTooLong);
    }
    Ok(exp)
}

fn check_subject(claims: &Claims) -> Result<(Arc<str>, Arc<str>), TokenRefusal> {
    if claims.nonce || claims.at_hash || claims.c_hash {
        return Err(TokenRefusal::IdToken);
    }
    let oid = claims.oid.as_deref().filter(|oid| is_nonzero_guid(oid));
    let azp = claims.azp.as_deref().filter(|azp| is_nonzero_guid(azp));
    let oid = oid.ok_or(TokenRefusal::ObjectId)?;
    let azp = azp.ok_or(TokenRefusal::ClientId)?;
    Ok((oid.into(), azp.into()))
}

/// Step 15: exactly one of the two stories that a token can tell.
fn story(claims: &Claims) -> Result<PrincipalKind, TokenRefusal> {
    match (claims.idtyp.as_deref(), claims.scp.is_some()) {
        (Some("app"), false) => Ok(PrincipalKind::Application),
        (Some("user") | None, true) => Ok(PrincipalKind::Person),
        _ => Err(TokenRefusal::Story),
    }
}

fn authorised(claims: &Claims, kind: PrincipalKind, rules: &Rules) -> Result<(), TokenRefusal> {
    match kind {
        PrincipalKind::Application => {
            if !claims
                .roles
                .iter()
                .flatten()
                .any(|role| **role == *rules.required_role)
            {
                return Err(TokenRefusal::RoleMissing);
            }
            match claims.azpacr.as_deref() {
                Some("1" | "2") => Ok(()),
                _ => Err(TokenRefusal::ClientAuthentication),
            }
        }
        PrincipalKind::Person => {
            let scopes = claims.scp.as_deref().unwrap_or_default();
            if scopes.split(' ').any(|scope| *scope == *rules.scope) {
                Ok(())
            } else {
                Err(TokenRefusal::ScopeMissing)
            }
        }
    }
}

/// Step 17. Absent is unknown, never none.
fn groups(claims: &Claims) -> Result<Groups, TokenRefusal> {
    match (&claims.groups, claims.has_overage()) {
        (Some(_), true) => Err(TokenRefusal::GroupsContradiction),
        (Some(ids), false) if ids.len() > GROUPS_MAX => Err(TokenRefusal::GroupsTooMany),
        (Some(ids), false) => {
            if ids.iter().all(|id| is_guid(id)) {
                Ok(Groups::Known(
                    ids.iter().map(|id| Arc::from(id.as_str())).collect(),
                ))
            } else {
                Err(TokenRefusal::GroupsNotGuid)
            }
        }
        (None, true) => Ok(Groups::Overage),
        (None, false) => Ok(Groups::Unknown),
    }
}

impl Accepted {
    /// Step 18: the token is for the tenant, client and kind of principal that were asked for.
    ///
    /// # Errors
    /// The first that differs.
    pub fn bound_to(
        &self,
        kind: PrincipalKind,
        tenant: &str,
        client_id: &str,
    ) -> Result<(), TokenRefusal> {
        if *self.tenant != *tenant {
            return Err(TokenRefusal::BindTenant);
        }
        if *self.app != *client_id {
            return Err(TokenRefusal::BindClient);
        }
        if self.kind != kind {
            return Err(TokenRefusal::BindKind);
        }
        Ok(())
    }
}
