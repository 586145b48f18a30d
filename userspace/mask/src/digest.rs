//! A digest of what an agent was sent.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// SHA-256 over everything that an agent was sent of one reply, masked as it was.
///
/// It is not carried over to the next node process: a reply that was under way then has none.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub struct Digest {
    hash: Sha256,
    bytes: u64,
    /// Nothing of it is missing.
    whole: bool,
}

impl Default for Digest {
    fn default() -> Self {
        Self {
            hash: Sha256::new(),
            bytes: 0,
            whole: true,
        }
    }
}

/// Whether nothing was sent yet.
impl From<bool> for Digest {
    fn from(whole: bool) -> Self {
        Self {
            whole,
            ..Self::default()
        }
    }
}

impl From<Digest> for bool {
    fn from(digest: Digest) -> Self {
        digest.whole && digest.bytes == 0
    }
}

impl Digest {
    pub fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.hash.update(bytes);
    }

    /// The first 16 bytes of it, as a number (most significant first); 0 when nothing was sent, or when it is not
    /// known.
    #[must_use]
    pub fn value(self) -> u128 {
        if self.bytes == 0 || !self.whole {
            return 0;
        }
        let mut first = [0; 16];
        for (to, from) in first.iter_mut().zip(self.hash.finalize()) {
            *to = from;
        }
        u128::from_be_bytes(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_sha256sum() {
        let mut digest = Digest::default();
        digest.add(b"ab");
        digest.add(b"c");
        assert_eq!(digest.value(), 0xba78_16bf_8f01_cfea_4141_40de_5dae_2223);
        assert_eq!(Digest::default().value(), 0);
    }

    #[test]
    fn it_does_not_move_half_done() {
        let moved = |digest: Digest| {
            let text = serde_json::to_string(&digest).unwrap();
            serde_json::from_str::<Digest>(&text).unwrap()
        };
        let mut fresh = moved(Digest::default());
        fresh.add(b"abc");
        let whole = fresh.clone().value();
        assert_ne!(whole, 0);
        let mut again = moved(fresh);
        again.add(b"more");
        assert_eq!(again.value(), 0);
    }
}
