//! The reply's body: masked, counted, and its end recorded whatever happens.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use weir_govern::{Cleared, ClientBytes, Gate, OwnToClient, Reply};
use weir_mask::{Masked, OutputMasker, Patterns, Shown};

use super::Failed;
use crate::api::{Api, Problem};
use crate::body::{Live, Withheld};
use crate::lines::Lines;
use crate::serve::Flow;

/// Bytes of a masked reply that the record keeps.
const SAMPLE_BYTES_MAX: usize = 16 * 1024;

/// Records the end of a reply; dropped early, it records that.
pub(super) struct Accounting<G: Gate, A, D> {
    flow: Rc<Flow<G, A, D>>,
    seq: u32,
    reply: Option<(Reply, Shown)>,
}

impl<G: Gate, A, D> Accounting<G, A, D> {
    pub(super) fn new(flow: Rc<Flow<G, A, D>>, cleared: &Cleared) -> Self {
        let keep = cleared.permit().obligations().keep;
        Self {
            flow,
            seq: cleared.seq(),
            reply: Some((Reply::default(), Shown::new(keep, SAMPLE_BYTES_MAX))),
        }
    }

    /// The reply is over.
    pub(super) fn end(mut self, status: &str) {
        self.finish(status);
    }

    /// Somebody else records the end.
    pub(super) fn handed_over(mut self) {
        self.reply = None;
    }

    fn finish(&mut self, status: &str) {
        if let Some((mut reply, shown)) = self.reply.take() {
            status.clone_into(&mut reply.status);
            self.flow
                .gate
                .complete(self.seq, reply.showing(shown, true));
        }
    }

    /// The server answered what cannot be given on.
    pub(super) fn withheld(self, problem: &Problem, statement: &Arc<str>) -> Failed {
        let refusal = self
            .flow
            .gate
            .refuse(problem.rule, &problem.reason, Arc::clone(statement));
        self.end("withheld");
        Failed::Refused(problem.status, refusal)
    }

    fn masked_since(&mut self, started_us: u64) {
        if let Some((reply, _)) = &mut self.reply {
            let took_us = weir_clock::mono_us().saturating_sub(started_us);
            let took_us = u32::try_from(took_us).unwrap_or(u32::MAX);
            reply.mask_us = reply.mask_us.saturating_add(took_us);
        }
    }

    fn count(&mut self, bytes: &ClientBytes, masked_values: u64, rows: u64) {
        let Some((reply, shown)) = &mut self.reply else {
            return;
        };
        reply.masked_values += masked_values;
        reply.rows += rows;
        shown.add(bytes.as_bytes());
    }
}

impl<G: Gate, A, D> Drop for Accounting<G, A, D> {
    fn drop(&mut self) {
        self.finish("aborted");
    }
}

/// A reply's body on its way.
pub(super) struct Relayed<G: Gate, A: Api, D> {
    body: Incoming,
    plan: A::Plan,
    cleared: Cleared,
    accounting: Accounting<G, A, D>,
}

impl<G: Gate, A: Api, D> Relayed<G, A, D> {
    pub(super) const fn new(
        body: Incoming,
        plan: A::Plan,
        cleared: Cleared,
        accounting: Accounting<G, A, D>,
    ) -> Self {
        Self {
            body,
            plan,
            cleared,
            accounting,
        }
    }

    /// Reads and masks all of it.
    pub(super) async fn whole(
        self,
        max: usize,
        status: StatusCode,
    ) -> Result<(ClientBytes, usize), (Accounting<G, A, D>, Problem)> {
        let Self {
            body,
            plan,
            cleared,
            mut accounting,
        } = self;
        let bytes = match Limited::new(body, max).collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) => {
                let text = if error.is::<LengthLimitError>() {
                    "weir: the reply is larger than what can be masked"
                } else {
                    "weir: the reply did not arrive whole"
                };
                return Err((accounting, withheld(text)));
            }
        };
        let started_us = weir_clock::mono_us();
        let masked = accounting.flow.api.mask(&plan, cleared.permit(), &bytes);
        accounting.masked_since(started_us);
        match masked {
            Ok(masked) => {
                accounting.count(&masked.bytes, masked.masked_values, masked.rows);
                let length = masked.bytes.as_bytes().len();
                accounting.end(outcome(&status));
                Ok((masked.bytes, length))
            }
            Err(problem) => Err((accounting, problem)),
        }
    }

    pub(super) fn lines(self, max: usize, status: StatusCode) -> Streamed<G, A, D> {
        Streamed {
            relayed: self,
            lines: Some(Lines::new(max)),
            masker: None,
            status,
            over: false,
        }
    }

    pub(super) fn output(
        self,
        status: StatusCode,
        masked: Option<Arc<Patterns>>,
    ) -> Streamed<G, A, D> {
        Streamed {
            relayed: self,
            lines: None,
            masker: masked.map(OutputMasker::new),
            status,
            over: false,
        }
    }

    /// The status has no body; what the server sent nevertheless is dropped.
    pub(super) fn empty(self, status: StatusCode) {
        self.accounting.end(outcome(&status));
    }
}

/// As the record has it: `ok`, or the protocol's error code.
fn outcome(status: &StatusCode) -> &str {
    if status.is_success() {
        "ok"
    } else {
        status.as_str()
    }
}

fn withheld(text: &str) -> Problem {
    Problem {
        rule: "weir:reply-withheld",
        status: StatusCode::BAD_GATEWAY,
        reason: text.to_owned(),
        statement: Arc::from(""),
    }
}

/// A reply without a known end.
pub(super) struct Streamed<G: Gate, A: Api, D> {
    relayed: Relayed<G, A, D>,
    /// Cut into documents; `None` for plain output.
    lines: Option<Lines>,
    /// Of plain output, where policy asks for it.
    masker: Option<OutputMasker>,
    status: StatusCode,
    over: bool,
}

impl<G: Gate, A: Api, D> Streamed<G, A, D> {
    fn line(&mut self, line: &[u8], feed: bool) -> Result<ClientBytes, Withheld> {
        let Relayed {
            plan,
            cleared,
            accounting,
            ..
        } = &mut self.relayed;
        match accounting.flow.api.mask(plan, cleared.permit(), line) {
            Ok(masked) => {
                accounting.count(&masked.bytes, masked.masked_values, masked.rows);
                Ok(if feed {
                    masked.bytes.followed_by(b"\n")
                } else {
                    masked.bytes
                })
            }
            Err(problem) => Err(self.withhold(&problem.reason)),
        }
    }

    fn withhold(&mut self, reason: &str) -> Withheld {
        self.over = true;
        let accounting = &mut self.relayed.accounting;
        accounting
            .flow
            .gate
            .refuse("weir:reply-withheld", reason, Arc::from(""));
        accounting.finish("withheld");
        Withheld
    }

    fn finish(&mut self) {
        self.over = true;
        let status = self.status;
        self.relayed.accounting.finish(outcome(&status));
    }

    /// A whole line that is here already.
    fn ready(&mut self, ended: bool) -> Option<Result<ClientBytes, Withheld>> {
        let lines = self.lines.as_mut()?;
        let (next, feed) = if ended {
            (lines.rest(), false)
        } else {
            (lines.next(), true)
        };
        match next {
            Ok(Some(line)) => Some(self.line(&line, feed)),
            Ok(None) => None,
            Err(_too_long) => Some(Err(self.withhold("weir: a part of the reply is too large"))),
        }
    }

    fn take(&mut self, data: Bytes) -> Option<ClientBytes> {
        if let Some(lines) = &mut self.lines {
            lines.push(&data);
            return None;
        }
        let Some(masker) = &mut self.masker else {
            let bytes = ClientBytes::own(OwnToClient::Output, data);
            self.relayed.accounting.count(&bytes, 0, 0);
            return Some(bytes);
        };
        let started_us = weir_clock::mono_us();
        let masked = masker.push(&data);
        self.relayed.accounting.masked_since(started_us);
        self.masked(masked)
    }

    fn masked(&mut self, masked: Masked) -> Option<ClientBytes> {
        let values = masked.masked_values();
        let bytes = ClientBytes::masked(masked);
        self.relayed.accounting.count(&bytes, values, 0);
        // An empty piece would end the body.
        (!bytes.as_bytes().is_empty()).then_some(bytes)
    }

    /// What was kept back of output that is over.
    fn kept_back(&mut self) -> Option<Result<ClientBytes, Withheld>> {
        let masked = self.masker.as_mut()?.finish();
        self.masked(masked).map(Ok)
    }
}

impl<G: Gate, A: Api, D> Live for Streamed<G, A, D> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<ClientBytes, Withheld>>> {
        loop {
            if self.over {
                return Poll::Ready(None);
            }
            if let Some(ready) = self.ready(false) {
                return Poll::Ready(Some(ready));
            }
            match Pin::new(&mut self.relayed.body).poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    let rest = self.ready(true).or_else(|| self.kept_back());
                    if !self.over {
                        self.finish();
                    }
                    return Poll::Ready(rest);
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::info!(%error, "a streamed reply broke");
                    return Poll::Ready(Some(Err(self.withhold("weir: the reply broke off"))));
                }
                Poll::Ready(Some(Ok(frame))) => {
                    // Trailers are the server's own words on framing; none is needed.
                    if let Ok(data) = frame.into_data()
                        && let Some(bytes) = self.take(data)
                    {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
            }
        }
    }
}
