//! The key of keyed digests.

use std::sync::Arc;

use zeroize::Zeroizing;

/// 32 secret bytes, shared by all flows of a node.
#[derive(Clone)]
pub struct MaskKey(Arc<Zeroizing<[u8; 32]>>);

impl MaskKey {
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }

    /// A short keyed digest as text, for the record: equal values stay equal, 64 bits.
    #[must_use]
    pub fn digest_text(&self, domain: &str, value: &[u8]) -> String {
        let hex = self.digest(domain, value).to_hex();
        format!("h:{}", hex.get(..16).unwrap_or_default())
    }

    /// A digest of `value` within `domain`, so that equal values of different columns differ.
    pub(crate) fn digest(&self, domain: &str, value: &[u8]) -> blake3::Hash {
        self.hasher(domain).update(value).finalize()
    }

    /// Keyed, and within `domain`.
    pub(crate) fn hasher(&self, domain: &str) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&(domain.len() as u64).to_le_bytes());
        hasher.update(domain.as_bytes());
        hasher
    }
}

impl std::fmt::Debug for MaskKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MaskKey")
    }
}
