//! The only two byte types that `relay` can write.
//!
//! ```compile_fail
//! // Bytes for the server cannot be made without a permit and a receipt.
//! let bytes = weir_govern::ServerBytes(bytes::Bytes::from_static(b"Q"));
//! ```
//!
//! ```compile_fail
//! // Rows for the client exist only as what `mask` handed out.
//! fn raw(row: bytes::Bytes) -> weir_govern::ClientBytes {
//!     weir_govern::ClientBytes::masked(row)
//! }
//! ```

use ::bytes::Bytes;
use weir_decide::Permit;
use weir_mask::Masked;
use weir_model::fault::{Fault, FaultKind};
use weir_spool::Receipt;

/// Bytes that may go to the protected server.
#[derive(Debug)]
pub struct ServerBytes(Bytes);

/// Bytes that may go to the agent.
#[derive(Debug)]
pub struct ClientBytes(Bytes);

/// Messages of our own towards the server; none of them carries a byte the agent chose, except
/// start-up parameters from an allow-list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnToServer {
    /// Start-up and authentication, with the injected credential.
    Login,
    /// Ends a batch or asks for output: PostgreSQL's `Sync`, `Flush`.
    Boundary,
    /// Closes a statement or portal by the name it has at the server.
    CloseObject,
    /// A question of our own on the agent's backend connection.
    Probe,
    /// Asks the server to stop what the session runs.
    Cancel,
    /// Says good-bye.
    Terminate,
}

/// Messages of our own, or of the server without a value from a protected object, towards the
/// agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnToClient {
    /// Start-up, TLS answer, authentication, parameters of the session.
    Handshake,
    /// A refusal in the protocol's own error.
    Denial,
    /// Tells a waiting client what it waits for.
    Notice,
    /// Completion and state messages, which carry counts and tags only.
    Status,
    /// Names and types of the result's columns.
    Description,
    /// The server's error or notice after its values were scrubbed.
    ServerMessage,
    /// What a program or a log wrote, which has no labelled values.
    Output,
}

/// The proofs do not belong to these bytes: a defect of ours, and nothing is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("receipt does not cover request {seq}")]
pub struct Unproven {
    pub seq: u32,
}

impl Fault for Unproven {
    fn kind(&self) -> FaultKind {
        FaultKind::Internal
    }
}

impl ServerBytes {
    /// The agent's bytes, permitted and recorded.
    ///
    /// # Errors
    /// [`Unproven`] when the receipt is of another session or does not reach the permit's request.
    pub fn forward(permit: &Permit, receipt: &Receipt, bytes: Bytes) -> Result<Self, Unproven> {
        if receipt.covers(permit.session(), permit.seq()) {
            Ok(Self(bytes))
        } else {
            Err(Unproven { seq: permit.seq() })
        }
    }

    /// A message of our own. `kind` says which, for review and metrics.
    #[must_use]
    pub fn own(_kind: OwnToServer, bytes: Bytes) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl ClientBytes {
    /// Values that went through a mask plan.
    #[must_use]
    pub fn masked(masked: Masked) -> Self {
        Self(masked.into_bytes())
    }

    /// A message without a value of a protected object.
    #[must_use]
    pub fn own(_kind: OwnToClient, bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// To be counted and recorded.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// With a delimiter of the protocol behind it.
    #[must_use]
    pub fn followed_by(self, delimiter: &'static [u8]) -> Self {
        let mut bytes = Vec::with_capacity(self.0.len() + delimiter.len());
        bytes.extend_from_slice(&self.0);
        bytes.extend_from_slice(delimiter);
        Self(Bytes::from(bytes))
    }

    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}
