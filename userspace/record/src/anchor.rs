//! How far the open segments have come, signed and given away every few seconds.
//!
//! A segment's own signed end comes when it is full or an hour old. Until then these prove what is in it: whoever
//! takes facts away after an anchor has left the node contradicts it.

mod give;
mod outbox;

pub use self::give::{AnchorConfig, AnchorMetrics, Anchoring, Witness};

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use weir_spool::SegmentId;

use crate::hex::{hex, unhex};
use crate::keys::Head;

/// As it is given away: a line of JSON, and a row of `anchor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    pub node: String,
    /// Of the spool, hexadecimal.
    pub node_id: String,
    pub epoch: u32,
    /// Lane in the upper half, as in the record.
    pub segment: u64,
    /// Facts of the segment up to here.
    pub position: u32,
    /// Milliseconds since 1970, by the node's clock.
    pub at_ms: i64,
    /// Hash of the block that ends with that position; hexadecimal.
    pub hash: String,
    pub signature: String,
}

impl Anchor {
    pub(crate) fn sign((node, node_id): (&str, u128), head: &Head, at_ms: i64) -> Self {
        let signature = sign(&head.key, head.count, &head.chain, at_ms);
        Self {
            node: node.to_owned(),
            node_id: format!("{node_id:032x}"),
            epoch: head.id.epoch,
            segment: head.id.packed(),
            position: head.count,
            at_ms,
            hash: hex(&head.chain),
            signature: hex(&signature),
        }
    }

    pub(crate) const fn id(&self) -> SegmentId {
        SegmentId::unpack(self.epoch, self.segment)
    }

    pub(crate) fn mark(&self) -> Option<Mark> {
        Some(Mark {
            position: self.position,
            at_ms: self.at_ms,
            hash: unhex(&self.hash)?,
            signature: unhex(&self.signature)?,
        })
    }
}

/// An anchor of a known segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) position: u32,
    pub(crate) at_ms: i64,
    pub(crate) hash: [u8; 32],
    pub(crate) signature: [u8; 64],
}

impl Mark {
    pub(crate) fn is_signed(&self, key: &VerifyingKey) -> bool {
        let message = message(self.position, &self.hash, self.at_ms);
        let signature = Signature::from_bytes(&self.signature);
        key.verify_strict(&message, &signature).is_ok()
    }
}

fn sign(key: &SigningKey, position: u32, hash: &[u8; 32], at_ms: i64) -> [u8; 64] {
    key.sign(&message(position, hash, at_ms)).to_bytes()
}

/// Other words than for a segment's end: nobody can make an end of it. The hash is of the node and the segment.
fn message(position: u32, hash: &[u8; 32], at_ms: i64) -> Vec<u8> {
    let mut message = b"weir anchor 1".to_vec();
    message.extend_from_slice(&position.to_le_bytes());
    message.extend_from_slice(hash);
    message.extend_from_slice(&at_ms.to_le_bytes());
    message
}
