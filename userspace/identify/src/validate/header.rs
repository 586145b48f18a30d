//! The JOSE header, steps 2 to 5.

use serde::{Deserialize, Deserializer};

use super::TokenRefusal;

const KID_BYTES_MAX: usize = 256;

/// Duplicate members are an error of the derived struct. Members that could point the verifier
/// elsewhere or change what is signed count by presence, whatever their value.
#[derive(Deserialize)]
struct Header {
    #[serde(default, deserialize_with = "given")]
    alg: Option<String>,
    #[serde(default, deserialize_with = "given")]
    typ: Option<String>,
    #[serde(default, deserialize_with = "given")]
    kid: Option<String>,
    #[serde(default, deserialize_with = "present")]
    crit: bool,
    #[serde(default, deserialize_with = "present")]
    jwk: bool,
    #[serde(default, deserialize_with = "present")]
    jku: bool,
    #[serde(default, deserialize_with = "present")]
    x5u: bool,
    #[serde(default, deserialize_with = "present")]
    x5c: bool,
    #[serde(default, deserialize_with = "present")]
    nonce: bool,
    #[serde(default, deserialize_with = "present")]
    b64: bool,
    #[serde(default, deserialize_with = "present")]
    zip: bool,
    #[serde(default, deserialize_with = "present")]
    enc: bool,
}

/// A member that, when there, has the type: `null` is not absence.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// `true` for a member that is there at all.
pub(super) fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// The `kid` of a header that keeps every rule.
pub(super) fn check(bytes: &[u8]) -> Result<String, TokenRefusal> {
    // A derived struct would also take a JSON array, member by position.
    if bytes.first() != Some(&b'{') {
        return Err(TokenRefusal::HeaderNotObject);
    }
    let header: Header =
        serde_json::from_slice(bytes).map_err(|_| TokenRefusal::HeaderMalformed)?;
    if header.alg.as_deref() != Some("RS256") {
        return Err(TokenRefusal::Algorithm);
    }
    if header
        .typ
        .is_some_and(|typ| !typ.eq_ignore_ascii_case("JWT"))
    {
        return Err(TokenRefusal::Type);
    }
    let dangerous = [
        header.crit,
        header.jwk,
        header.jku,
        header.x5u,
        header.x5c,
        header.nonce,
        header.b64,
        header.zip,
        header.enc,
    ];
    if dangerous.contains(&true) {
        return Err(TokenRefusal::HeaderMember);
    }
    let kid = header.kid.ok_or(TokenRefusal::KidMissing)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if kid.is_empty() || kid.len() > KID_BYTES_MAX || !kid.bytes().all(plain) {
        return Err(TokenRefusal::KidMalformed);
    }
    Ok(kid)
}
