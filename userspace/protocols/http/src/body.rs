//! The body of what the agent is told: bytes that are fit for it, and nothing else.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use weir_govern::ClientBytes;

/// A reply ended early; the agent's library reports a broken stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the reply is withheld from here on")]
pub struct Withheld;

/// Bytes that come one after the other.
pub(crate) trait Live {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<ClientBytes, Withheld>>>;
}

/// A body towards the agent.
pub struct Outgoing(Source);

enum Source {
    Whole(Option<ClientBytes>, u64),
    Live(Box<dyn Live>),
}

impl Outgoing {
    pub(crate) fn whole(bytes: ClientBytes, length: usize) -> Self {
        Self(Source::Whole(Some(bytes), length as u64))
    }

    pub(crate) fn live(live: impl Live + 'static) -> Self {
        Self(Source::Live(Box::new(live)))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Withheld;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Withheld>>> {
        let next = match &mut self.get_mut().0 {
            Source::Whole(bytes, _) => Poll::Ready(bytes.take().map(Ok)),
            Source::Live(live) => live.poll_next(cx),
        };
        next.map(|next| next.map(|bytes| bytes.map(|bytes| Frame::data(bytes.into_bytes()))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Whole(bytes, length) => bytes.is_none() || *length == 0,
            Source::Live(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Whole(Some(_), length) => SizeHint::with_exact(*length),
            Source::Whole(None, _) => SizeHint::with_exact(0),
            Source::Live(_) => SizeHint::default(),
        }
    }
}
