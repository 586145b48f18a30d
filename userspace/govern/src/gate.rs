//! What a protocol asks for whose bytes a library owns (HTTP by hyper, SSH by russh).
//!
//! A byte-stream protocol is a [`crate::Session`]. Here the order of a request's life is the same,
//! but the asker waits in its own task: [`Gate::ask`] answers once the request was decided,
//! recorded and, if it was held, approved. What goes to the server then has to be a [`Forwarded`],
//! which only a [`Cleared`] makes.

use std::future::Future;
use std::sync::Arc;

use weir_decide::Permit;
use weir_model::request::Request;
use weir_spool::Receipt;

use crate::{Refusal, Reply, Unproven};

/// Something that may go to the protected server: permitted and recorded.
///
/// ```compile_fail
/// let forwarded = weir_govern::Forwarded("DELETE /api/v1/namespaces/shop");
/// ```
#[derive(Debug)]
pub struct Forwarded<T>(T);

impl<T> Forwarded<T> {
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// A request that may go on, with its proofs.
#[derive(Clone, Debug)]
pub struct Cleared {
    permit: Arc<Permit>,
    receipt: Receipt,
}

impl Cleared {
    /// # Errors
    /// [`Unproven`] when the receipt is of another session or does not reach the permit's request.
    pub fn new(permit: Arc<Permit>, receipt: Receipt) -> Result<Self, Unproven> {
        if receipt.covers(permit.session(), permit.seq()) {
            Ok(Self { permit, receipt })
        } else {
            Err(Unproven { seq: permit.seq() })
        }
    }

    /// The request's number within its session.
    #[must_use]
    pub fn seq(&self) -> u32 {
        self.permit.seq()
    }

    /// With the masks that the reply needs.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    #[must_use]
    pub const fn receipt(&self) -> Receipt {
        self.receipt
    }

    /// Marks what belongs to this request as fit for the server.
    #[must_use]
    pub const fn forward<T>(&self, value: T) -> Forwarded<T> {
        Forwarded(value)
    }
}

/// Why a request does not go on.
#[derive(Debug)]
pub enum Blocked {
    /// Policy, a reviewer, or Weir itself said no; it is recorded.
    Refused(Refusal),
    /// It could not be recorded, so nothing was sent.
    NotRecorded,
}

/// One flow's way through govern.
pub trait Gate {
    /// Who asks, where each request carries a token of its own: called with the request's
    /// authorization before anything else of it is looked at. `Err` is a fixed sentence for the
    /// agent; the request is recorded as refused then.
    fn admit(
        &self,
        _authorization: Option<&[u8]>,
    ) -> impl Future<Output = Result<(), &'static str>> {
        std::future::ready(Ok(()))
    }

    /// Decides and records, and waits for a reviewer where policy says so. Dropping the future
    /// abandons a hold.
    fn ask(&self, request: Request) -> impl Future<Output = Result<Cleared, Blocked>>;

    /// Records and refuses what could not become a request. `rule` is a name of ours (`weir:…`).
    fn refuse(&self, rule: &'static str, reason: &str, statement: Arc<str>) -> Refusal;

    /// The server began to answer `seq`.
    fn first_byte(&self, seq: u32);

    /// Records a piece of the terminal that `seq` opened (see [`crate::terminal::Cast`]).
    ///
    /// # Errors
    /// [`Blocked::NotRecorded`]: end the terminal.
    fn terminal(&self, seq: u32, piece: String) -> Result<(), Blocked>;

    /// The reply to `seq` is over.
    fn complete(&self, seq: u32, reply: Reply);
}
