//! Answers: JSON, streams, and `Status` objects for refusals.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use hyper::body::{Body, Frame};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// The body of an answer: whole, or fed by a task.
pub(crate) enum Out {
    /// All of it.
    Full(Option<Bytes>),
    /// Pieces, until the sender is dropped.
    Pieces(mpsc::Receiver<Bytes>),
}

impl Body for Out {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Out::Full(whole) => Poll::Ready(whole.take().map(|bytes| Ok(Frame::data(bytes)))),
            Out::Pieces(pieces) => pieces
                .poll_recv(cx)
                .map(|piece| piece.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }
}

/// An answer of any kind.
pub(crate) type Reply = Response<Out>;

/// A refusal, sent as a `Status` object.
#[derive(Debug)]
pub(crate) struct Failure {
    /// HTTP status.
    pub(crate) code: u16,
    /// `Status.reason`.
    pub(crate) reason: &'static str,
    /// `Status.message`.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Failure {
        Failure {
            code,
            reason,
            message: message.into(),
        }
    }

    pub(crate) fn bad(message: impl Into<String>) -> Failure {
        Failure::new(400, "BadRequest", message)
    }

    pub(crate) fn missing(what: impl std::fmt::Display) -> Failure {
        Failure::new(404, "NotFound", format!("{what} not found"))
    }

    pub(crate) fn reply(&self) -> Reply {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        json_reply(self.code, &status)
    }
}

/// A JSON object with the given HTTP status.
pub(crate) fn json_reply(code: u16, value: &Value) -> Reply {
    typed(code, "application/json", value.to_string())
}

/// A whole body of a content type.
pub(crate) fn typed(code: u16, kind: &'static str, body: impl Into<Bytes>) -> Reply {
    build(code, kind, Out::Full(Some(body.into())))
}

/// A body that a task feeds.
pub(crate) fn pieces(kind: &'static str, receiver: mpsc::Receiver<Bytes>) -> Reply {
    build(200, kind, Out::Pieces(receiver))
}

fn build(code: u16, kind: &'static str, body: Out) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let value = header::HeaderValue::from_static(kind);
    reply.headers_mut().insert(header::CONTENT_TYPE, value);
    reply
}
