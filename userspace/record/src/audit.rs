//! `weir audit verify`: is anything missing, changed, doubled or out of order?
//!
//! A signed end of a segment proves all that comes before it in its lane. What lies behind the
//! last one is unproven: whoever holds the node may have cut it, and nothing here can tell.

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

pub use self::files::{node_id, verify_files};
pub use self::store::{Scope, SessionProof, verify_session, verify_store};

/// Findings of one report; what is beyond is counted.
const FINDINGS_MAX: usize = 1000;

/// What was looked at and what is wrong.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub segments: usize,
    pub facts: u64,
    /// Facts behind the last signed end of their lane: nothing proves that none is missing there.
    pub unproven: u64,
    /// Newest signed end, as `epoch-lane-number`; empty when nothing is sealed.
    pub last_anchor: String,
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
///
/// # Errors
/// The file cannot be read, or holds something else.
pub fn public_key(file: &Path) -> std::io::Result<VerifyingKey> {
    let text = std::fs::read_to_string(file)?;
    let bytes = unhex::<32>(text.trim());
    bytes
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
