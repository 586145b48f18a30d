//! What a protocol over HTTP says about its requests and replies.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, request, response};
use weir_decide::Permit;
use weir_govern::{ClientBytes, Refusal};
use weir_mask::Patterns;
use weir_model::request::Request;

use crate::dialogue::Dialogue;

/// A protocol over HTTP: pure, one per flow.
pub trait Api: 'static {
    /// What has to be kept of a request until its reply is here.
    type Plan: 'static;
    /// What is spoken on a connection once it was upgraded.
    type Dialogue: Dialogue;

    /// Bytes that the body of such a request may have; 0 when it may have none.
    fn body_max(&self, head: &request::Parts) -> usize;

    /// Decodes a request.
    ///
    /// # Errors
    /// [`Problem`]: it is recorded and refused.
    fn read(&self, head: &request::Parts, body: &[u8]) -> Result<Question<Self::Plan>, Problem>;

    /// The head as the server gets it: path and query anew, the agent's credential replaced,
    /// encodings that cannot be masked not asked for.
    ///
    /// # Errors
    /// [`Problem`]: nothing is sent.
    fn towards_server(
        &self,
        head: &request::Parts,
        plan: &Self::Plan,
    ) -> Result<request::Parts, Problem>;

    /// How the reply has to be read, from its head; headers that the agent must not see are
    /// removed.
    ///
    /// # Errors
    /// [`Problem`]: the reply is withheld.
    fn reply(
        &self,
        plan: &Self::Plan,
        permit: &Permit,
        head: &mut response::Parts,
    ) -> Result<ReplyMode, Problem>;

    /// Masks a whole body, or one line of a streamed one, without its line feed.
    ///
    /// # Errors
    /// [`Problem`]: it is withheld.
    fn mask(&self, plan: &Self::Plan, permit: &Permit, body: &[u8]) -> Result<Masked, Problem>;

    /// True for a request that wants the connection for itself; the server may answer it by 101.
    fn upgrades(&self, plan: &Self::Plan) -> bool;

    /// Further requests that have to be cleared before an upgrading one is sent.
    fn further(&self, plan: &Self::Plan) -> Vec<Request>;

    /// The server answered by 101: what is spoken now, and the header fields of the agent's own 101.
    ///
    /// # Errors
    /// [`Problem`]: the connection is closed.
    fn dialogue(
        &self,
        plan: &Self::Plan,
        permit: &Permit,
        head: &response::Parts,
    ) -> Result<(Self::Dialogue, HeaderMap), Problem>;

    /// A refusal in the protocol's own words.
    fn refusal(&self, status: StatusCode, refusal: &Refusal) -> Response<Bytes>;

    /// Any other failure in the protocol's own words. `text` is a fixed sentence of ours.
    fn failure(&self, status: StatusCode, text: &str) -> Response<Bytes>;
}

/// A decoded request.
pub struct Question<P> {
    pub request: Request,
    pub plan: P,
}

/// How a reply's body is read.
#[derive(Clone, Debug)]
pub enum ReplyMode {
    /// As one document of at most so many bytes.
    Whole { max: usize },
    /// As documents separated by line feeds, each of at most so many bytes, without end.
    Lines { max: usize },
    /// As it comes: output of a program or a log; what these patterns find in it is masked.
    Output { masked: Option<Arc<Patterns>> },
    /// The status has no body.
    Empty,
}

/// A masked document.
pub struct Masked {
    pub bytes: ClientBytes,
    pub masked_values: u64,
    /// Items in it, for the record.
    pub rows: u64,
}

/// What cannot be served. All texts are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// `weir:…`.
    pub rule: &'static str,
    pub status: StatusCode,
    pub reason: String,
    /// What was understood of the request, for the record.
    pub statement: Arc<str>,
}
