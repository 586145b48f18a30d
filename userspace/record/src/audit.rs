//! `weir audit verify`: is anything missing, changed, doubled or out of order?
//!
//! A signed end of a segment proves all that comes before it in its lane, and so does an anchor that has left the
//! node. What lies behind the last one is unproven: whoever holds the node may have cut it, and nothing here can tell.

mod anchors;
mod changes;
mod files;
mod ledger;
mod row;
mod segment;
mod store;

use std::path::Path;

use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::Serialize;
use weir_spool::SegmentId;

use crate::hex::unhex;

pub use self::anchors::Anchors;
pub use self::files::{node_id, verify_files, verify_files_against};
pub use self::store::{Scope, SessionProof, verify_session, verify_store};

/// Findings of one report; what is beyond is counted.
const FINDINGS_MAX: usize = 1000;

/// What was looked at and what is wrong.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub segments: usize,
    pub facts: u64,
    /// Facts behind the last signed end or anchor of their segment: nothing proves that none is missing there.
    pub unproven: u64,
    /// Newest signed end or anchor, as `epoch-lane-number`; empty when nothing is sealed or anchored.
    pub last_anchor: String,
    /// When it was signed or shipped, milliseconds since 1970; 0 when that is not known.
    pub last_anchor_ms: i64,
    pub findings: Vec<String>,
    /// Findings that were not listed because there were too many.
    pub more_findings: u64,
}

impl Report {
    fn finding(&mut self, text: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(text);
        } else {
            self.more_findings += 1;
        }
    }

    /// The later one is kept; one without a time stands for what was seen last.
    fn anchored(&mut self, id: SegmentId, at_ms: i64) {
        if at_ms == 0 || at_ms >= self.last_anchor_ms {
            (self.last_anchor, self.last_anchor_ms) = (name(id), at_ms);
        }
    }

    /// What may be said of this record.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if !self.findings.is_empty() {
            Verdict::Findings
        } else if self.unproven > 0 || self.last_anchor.is_empty() {
            Verdict::Unproven
        } else {
            Verdict::Clean
        }
    }
}

/// The worst comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All of it is proven by signatures.
    Clean,
    /// Nothing wrong was found, but some of it is not proven by a signature yet.
    Unproven,
    /// Something is missing, changed, doubled or out of order.
    Findings,
}

/// The public half of the node's key file.
///
/// # Errors
/// The file cannot be read or has another length.
pub fn verifying_key(key_file: &Path) -> std::io::Result<VerifyingKey> {
    Ok(signing_key(key_file)?.verifying_key())
}

/// A public key as `weir audit key` prints it: 64 hexadecimal digits.
pub(crate) fn public_key(text: &str) -> std::io::Result<VerifyingKey> {
    unhex::<32>(text)
        .and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok())
        .ok_or_else(|| std::io::Error::other("a public key is 64 hexadecimal digits"))
}

/// The node's key itself.
///
/// # Errors
/// The file cannot be read or has another length.
pub fn signing_key(key_file: &Path) -> std::io::Result<SigningKey> {
    let bytes = std::fs::read(key_file)?;
    let bytes: [u8; 32] = bytes
        .try_into()
        .map_err(|_| std::io::Error::other("the node key has a wrong length"))?;
    Ok(SigningKey::from_bytes(&bytes))
}

fn name(id: SegmentId) -> String {
    format!("{}-{}-{}", id.epoch, id.lane, id.number)
}
