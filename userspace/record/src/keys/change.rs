//! One replacement of the node's key.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use weir_spool::SegmentId;

use crate::hex::{hex, unhex};

/// Lanes that one change may name.
const FIRST_MAX: usize = 65_536;

/// Says from when on which key signs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// From 1, without gaps.
    pub number: u32,
    /// Seconds since 1970, by the node's clock.
    pub at_s: i64,
    /// Public key before; 64 hexadecimal digits.
    pub previous: String,
    /// Public key from then on; 64 hexadecimal digits.
    pub key: String,
    /// The new key signs all segments of later epochs.
    pub epoch: u32,
    /// Of epochs that were being written: the first segment of each lane (epoch, lane, number) that the new key
    /// signs. A lane of such an epoch that is not named is the new key's from its beginning.
    pub first: Vec<(u32, u32, u32)>,
    /// By the key before; hexadecimal.
    pub signed_by_previous: String,
    /// By the new key; hexadecimal.
    pub signed_by_key: String,
}

/// A change before it is signed.
pub(super) struct Unsigned {
    pub(super) number: u32,
    pub(super) at_s: i64,
    pub(super) epoch: u32,
    pub(super) first: Vec<(u32, u32, u32)>,
}

impl Change {
    pub(super) fn new(
        node: u128,
        unsigned: Unsigned,
        previous: &SigningKey,
        key: &SigningKey,
    ) -> Self {
        let mut change = Self {
            number: unsigned.number,
            at_s: unsigned.at_s,
            previous: hex(previous.verifying_key().as_bytes()),
            key: hex(key.verifying_key().as_bytes()),
            epoch: unsigned.epoch,
            first: unsigned.first,
            signed_by_previous: String::new(),
            signed_by_key: String::new(),
        };
        let message = change.message(node);
        change.signed_by_previous = hex(&previous.sign(&message).to_bytes());
        change.signed_by_key = hex(&key.sign(&message).to_bytes());
        change
    }

    fn message(&self, node: u128) -> Vec<u8> {
        let Self {
            number,
            at_s,
            previous,
            key,
            epoch,
            first,
            ..
        } = self;
        let head =
            format!("weir key 1\n{node:032x}\n{number}\n{at_s}\n{previous}\n{key}\n{epoch}\n");
        let first = first
            .iter()
            .map(|(epoch, lane, number)| format!("{epoch} {lane} {number}\n"));
        (head + &first.collect::<String>()).into_bytes()
    }

    /// As it is kept and shipped.
    #[must_use]
    pub fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The key before and the new one, when both have signed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn keys(&self, node: u128) -> Result<(VerifyingKey, VerifyingKey), &'static str> {
        if self.first.len() > FIRST_MAX {
            return Err("it names too many lanes");
        }
        let public = |digits: &str| {
            unhex::<32>(digits).and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok())
        };
        let (Some(previous), Some(key)) = (public(&self.previous), public(&self.key)) else {
            return Err("its keys cannot be read");
        };
        let message = self.message(node);
        let holds = |by: &VerifyingKey, digits: &str| {
            unhex::<64>(digits).is_some_and(|signature| {
                let signature = Signature::from_bytes(&signature);
                by.verify_strict(&message, &signature).is_ok()
            })
        };
        if !holds(&previous, &self.signed_by_previous) {
            return Err("the key before has not signed it: forged or changed");
        }
        if !holds(&key, &self.signed_by_key) {
            return Err("its own key has not signed it: forged or changed");
        }
        Ok((previous, key))
    }

    /// Is this segment one of the new key's, or of a key after it?
    pub(super) fn begins_before(&self, id: SegmentId) -> bool {
        let mut same = self.first.iter().filter(|first| first.0 == id.epoch);
        if same.clone().next().is_none() {
            return id.epoch > self.epoch;
        }
        same.find(|first| first.1 == id.lane)
            .is_none_or(|first| id.number >= first.2)
    }
}
