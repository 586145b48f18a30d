//! What can go wrong with the store and with a decision.

use weir_model::fault::{Fault, FaultKind};

use crate::approval::ApprovalState;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("the state file cannot be made or is not a plain file of ours")]
    File(#[source] std::io::Error),
    #[error("the state store failed: {doing}")]
    Store {
        doing: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    #[error("the state server failed: {doing}")]
    Server {
        doing: &'static str,
        #[source]
        source: tokio_postgres::Error,
    },
    #[error("the state server cannot be reached")]
    Unreachable(#[source] std::io::Error),
    #[error("the state server does not answer")]
    NoAnswer,
    #[error("the state store holds a row that cannot be read: {0}")]
    Corrupt(&'static str),
    #[error("the state file was written by a newer version")]
    TooNew,
    #[error("the state thread cannot be started or has ended")]
    Stopped,
    #[error("too many requests wait for a decision")]
    Full,
    #[error("the request is too large to be held")]
    TooLarge,
    #[error("the request names no reviewer group")]
    NoGroups,
    #[error("there is no such approval")]
    NotFound,
    #[error("it is not pending any more: {}", .0.label())]
    NotPending(ApprovalState),
    #[error("it has expired")]
    Expired,
    #[error("you are in none of the groups that may decide this")]
    NotReviewer,
    #[error("your groups have approved already; another group is missing")]
    AlreadyApproved,
    #[error("nobody decides on their own request, or on one made on their behalf")]
    OwnRequest,
    #[error("a justification is needed")]
    NoJustification,
    #[error("a grant goes with an approval, for 1 second to 24 hours")]
    BadGrant,
}

impl Fault for StateError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::File(_) | Self::Store { .. } | Self::Corrupt(_) | Self::TooNew => {
                FaultKind::Internal
            }
            Self::Server { .. } | Self::Unreachable(_) | Self::NoAnswer => FaultKind::Internal,
            Self::Stopped | Self::NoGroups => FaultKind::Internal,
            Self::Full | Self::TooLarge => FaultKind::Limit,
            Self::NotFound | Self::NotPending(_) | Self::Expired => FaultKind::PeerMisbehaved,
            Self::NotReviewer
            | Self::AlreadyApproved
            | Self::OwnRequest
            | Self::NoJustification
            | Self::BadGrant => FaultKind::Denied,
        }
    }
}

/// Names the step in which SQLite failed.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T, StateError>;
}

impl<T> Doing<T> for Result<T, rusqlite::Error> {
    fn doing(self, doing: &'static str) -> Result<T, StateError> {
        self.map_err(|source| StateError::Store { doing, source })
    }
}
