//! Signatures over messages: `Weir-Signature: t=UNIX,v1=HEX`, where HEX is HMAC-SHA-256 of
//! `UNIX.BODY` under the shared secret.
//!
//! A receiver computes it anew, compares in constant time, refuses times that are more than
//! [`WINDOW_S`] away, and keeps the `Idempotency-Key`s of that window: so neither a forged nor a
//! replayed message does anything. [`verify`] is that receiver's check.

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign, verify as verify_tag};

/// Clocks and queues may differ by so much, seconds.
pub const WINDOW_S: i64 = 300;

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("the signature's header is missing or malformed")]
    Malformed,
    #[error("the message is too old, or of the future")]
    Time,
    #[error("the signature is another one")]
    Signature,
    #[error("the message was seen before")]
    Replayed,
}

/// The header's value.
#[must_use]
pub fn header(secret: &str, body: &[u8], now_s: i64) -> String {
    let tag = sign(&key(secret), &signed(now_s, body));
    format!("t={now_s},v1={}", hex(tag.as_ref()))
}

/// Checks what [`header`] made.
///
/// # Errors
/// The first rule that does not hold.
pub fn verify(secret: &str, header: &str, body: &[u8], now_s: i64) -> Result<(), Refused> {
    let (time, tag) = header
        .strip_prefix("t=")
        .and_then(|rest| rest.split_once(",v1="))
        .ok_or(Refused::Malformed)?;
    let time: i64 = time.parse().map_err(|_| Refused::Malformed)?;
    let tag = unhex(tag).ok_or(Refused::Malformed)?;
    if (now_s - time).abs() > WINDOW_S {
        return Err(Refused::Time);
    }
    verify_tag(&key(secret), &signed(time, body), &tag).map_err(|_| Refused::Signature)
}

pub(crate) fn key(secret: &str) -> Key {
    Key::new(HMAC_SHA256, secret.as_bytes())
}

fn signed(time: i64, body: &[u8]) -> Vec<u8> {
    [time.to_string().as_bytes(), b".", body].concat()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_is_taken_and_nothing_else() {
        let good = header("secret", b"{}", 1000);
        assert_eq!(verify("secret", &good, b"{}", 1000), Ok(()));
        assert_eq!(verify("secret", &good, b"{}", 1300), Ok(()));
        assert_eq!(
            verify("secret", &good, b"{ }", 1000),
            Err(Refused::Signature)
        );
        assert_eq!(verify("other", &good, b"{}", 1000), Err(Refused::Signature));
        let later = good.replacen("t=1000", "t=1200", 1);
        assert_eq!(
            verify("secret", &later, b"{}", 1200),
            Err(Refused::Signature)
        );
        for odd in ["", "t=1", "t=x,v1=00", "t=1,v1=zz", &good[..good.len() - 1]] {
            assert_eq!(
                verify("secret", odd, b"{}", 1),
                Err(Refused::Malformed),
                "{odd}"
            );
        }
    }

    #[test]
    fn a_replayed_webhook_is_refused_once_its_window_is_over() {
        let good = header("secret", b"{}", 1000);
        assert_eq!(verify("secret", &good, b"{}", 1301), Err(Refused::Time));
        assert_eq!(verify("secret", &good, b"{}", 699), Err(Refused::Time));
    }
}
