//! The name that a person is shown by. A directory's administrators can change it, so nothing is
//! decided by it.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use crate::secret::Secret;

const BYTES_MAX: usize = 128;

#[derive(Deserialize)]
struct Name {
    preferred_username: Option<serde_json::Value>,
}

/// `preferred_username` of an id_token that was validated already, where it is plain ASCII.
pub(crate) fn shown(id_token: &Secret) -> Option<String> {
    let payload = id_token.expose().split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let name: Name = serde_json::from_slice(&payload).ok()?;
    let name = name.preferred_username?;
    let name = name.as_str()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@._-+#".contains(&byte);
    let fits = (1..=BYTES_MAX).contains(&name.len()) && name.bytes().all(plain);
    fits.then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_name_is_shown() {
        let of = |claims: &str| {
            shown(&Secret::new(format!(
                "e30.{}.c",
                URL_SAFE_NO_PAD.encode(claims)
            )))
        };
        let alice = r#"{"preferred_username":"alice@lab.example"}"#;
        assert_eq!(of(alice).as_deref(), Some("alice@lab.example"));
        for odd in [
            r#"{"preferred_username":"<script>"}"#,
            r#"{"preferred_username":7}"#,
            r#"{"preferred_username":""}"#,
            "{}",
            "[]",
            "x",
        ] {
            assert_eq!(of(odd), None, "{odd}");
        }
    }
}
