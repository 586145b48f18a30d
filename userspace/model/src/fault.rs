//! Whose fault an error is: the metric label and log field of every error in the workspace.

/// The closed list of fault kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// Bytes that the protocol does not allow.
    PeerMalformed,
    /// Legal bytes in an illegal order.
    PeerMisbehaved,
    /// No principal could be bound.
    Unidentified,
    /// Policy said no.
    Denied,
    /// The protected server failed or is not the one that was expected.
    Upstream,
    /// A configured limit was reached.
    Limit,
    /// The spool could not take the record.
    Record,
    /// A kernel object is missing or refused.
    Kernel,
    /// A defect of ours.
    Internal,
}

impl FaultKind {
    /// Label value for metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::PeerMalformed => "peer_malformed",
            Self::PeerMisbehaved => "peer_misbehaved",
            Self::Unidentified => "unidentified",
            Self::Denied => "denied",
            Self::Upstream => "upstream",
            Self::Limit => "limit",
            Self::Record => "record",
            Self::Kernel => "kernel",
            Self::Internal => "internal",
        }
    }
}

/// Implemented by each crate's error enum.
pub trait Fault: std::error::Error {
    /// Whose fault this is. For protected destinations every kind fails closed.
    fn kind(&self) -> FaultKind;
}
