//! One request, from its head to the last byte of its reply.

mod reply;

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use tokio::time::{Duration, timeout};
use weir_govern::{Blocked, Cleared, ClientBytes, Gate, OwnToClient, Refusal};

use self::reply::{Accounting, Relayed};
use crate::api::{Api, Problem, ReplyMode};
use crate::body::Outgoing;
use crate::serve::{Flow, GoesOn};
use crate::upgraded::Session;
use crate::upstream::Dial;

/// A request's body has to arrive within this.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// Serves one request; every way out of here is a reply.
pub(crate) async fn exchange<G: Gate + 'static, A: Api, D: Dial>(
    flow: Rc<Flow<G, A, D>>,
    goes_on: GoesOn,
    mut request: Request<Incoming>,
) -> Response<Outgoing> {
    let upgrade = hyper::upgrade::on(&mut request);
    let (head, body) = request.into_parts();
    let exchange = Exchange {
        flow: &flow,
        head: &head,
        upgrade,
        goes_on,
    };
    match exchange.run(body).await {
        Ok(response) => response,
        Err(Failed::Refused(status, refusal)) => own(flow.api.refusal(status, &refusal)),
        Err(Failed::Said(status, text)) => own(flow.api.failure(status, text)),
    }
}

enum Failed {
    /// Recorded; the agent is told why.
    Refused(StatusCode, Refusal),
    /// A fixed sentence.
    Said(StatusCode, &'static str),
}

struct Exchange<'a, G, A, D> {
    flow: &'a Rc<Flow<G, A, D>>,
    head: &'a request::Parts,
    upgrade: OnUpgrade,
    goes_on: GoesOn,
}

/// What a request was asked as, and may be sent by.
struct Asked<G: Gate, A, D> {
    cleared: Cleared,
    accounting: Accounting<G, A, D>,
    /// Asked for together with it.
    further: Vec<(Cleared, Accounting<G, A, D>)>,
    statement: Arc<str>,
}

impl<G: Gate + 'static, A: Api, D: Dial> Exchange<'_, G, A, D> {
    async fn run(self, body: Incoming) -> Result<Response<Outgoing>, Failed> {
        let authorization = self.head.headers.get(header::AUTHORIZATION);
        let admitted = self
            .flow
            .gate
            .admit(authorization.map(HeaderValue::as_bytes));
        if let Err(text) = admitted.await {
            return Err(Failed::Said(StatusCode::UNAUTHORIZED, text));
        }
        let body = self.body(body).await?;
        let started_us = weir_clock::mono_us();
        let mut question = match self.flow.api.read(self.head, &body) {
            Ok(question) => question,
            Err(problem) => return Err(self.refused(&problem)),
        };
        let took_us = weir_clock::mono_us().saturating_sub(started_us);
        question.request.decode_us = u32::try_from(took_us).unwrap_or(u32::MAX);
        let plan = question.plan;
        let asked = self.ask(question.request, &plan).await?;
        let head = match self.flow.api.towards_server(self.head, &plan) {
            Ok(head) => head,
            Err(problem) => return Err(asked.accounting.withheld(&problem, &asked.statement)),
        };
        let request = asked.cleared.forward(Request::from_parts(head, body));
        let upgrades = self.flow.api.upgrades(&plan);
        let sent = if upgrades {
            self.flow.upstream.send_alone(request).await
        } else {
            self.flow.upstream.send(request).await
        };
        let response = match sent {
            Ok(response) => response,
            Err(error) => {
                tracing::warn!(%error, "the server did not answer a request");
                asked.accounting.end("502");
                return Err(Failed::Said(
                    StatusCode::BAD_GATEWAY,
                    "weir: the protected server did not answer",
                ));
            }
        };
        self.flow.gate.first_byte(asked.cleared.seq());
        if upgrades && response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return self.upgraded(response, &plan, asked).await;
        }
        self.relayed(response, plan, asked).await
    }

    async fn ask(
        &self,
        request: weir_model::request::Request,
        plan: &A::Plan,
    ) -> Result<Asked<G, A, D>, Failed> {
        let statement = Arc::clone(&request.statement);
        let (cleared, accounting) = self.clear(request).await?;
        let mut further = Vec::new();
        for request in self.flow.api.further(plan) {
            further.push(self.clear(request).await?);
        }
        Ok(Asked {
            cleared,
            accounting,
            further,
            statement,
        })
    }

    async fn clear(
        &self,
        request: weir_model::request::Request,
    ) -> Result<(Cleared, Accounting<G, A, D>), Failed> {
        match self.flow.gate.ask(request).await {
            Ok(cleared) => {
                let accounting = Accounting::new(Rc::clone(self.flow), &cleared);
                Ok((cleared, accounting))
            }
            Err(Blocked::Refused(refusal)) => Err(Failed::Refused(StatusCode::FORBIDDEN, refusal)),
            Err(Blocked::NotRecorded) => Err(Failed::Said(
                StatusCode::SERVICE_UNAVAILABLE,
                "weir: the request could not be recorded and was not sent",
            )),
        }
    }

    /// The server agreed to an upgrade: the agent is told so, and the dialogue begins.
    async fn upgraded(
        self,
        response: Response<Incoming>,
        plan: &A::Plan,
        asked: Asked<G, A, D>,
    ) -> Result<Response<Outgoing>, Failed> {
        let (head, body) = response.into_parts();
        let (dialogue, headers) = match self.flow.api.dialogue(plan, asked.cleared.permit(), &head)
        {
            Ok(dialogue) => dialogue,
            Err(problem) => return Err(asked.accounting.withheld(&problem, &asked.statement)),
        };
        let server = match hyper::upgrade::on(Response::from_parts(head, body)).await {
            Ok(server) => server,
            Err(error) => {
                tracing::warn!(%error, "the server did not keep to its upgrade");
                asked.accounting.end("502");
                return Err(Failed::Said(
                    StatusCode::BAD_GATEWAY,
                    "weir: the protected server did not keep to its upgrade",
                ));
            }
        };
        let mut cleared = vec![asked.cleared];
        asked.accounting.handed_over();
        for (further, accounting) in asked.further {
            cleared.push(further);
            accounting.handed_over();
        }
        let session = Session::new(Rc::clone(self.flow), cleared, dialogue, asked.statement);
        self.goes_on.set(session.run(self.upgrade, server));
        let nothing = ClientBytes::own(OwnToClient::Handshake, Bytes::new());
        let mut response = Response::new(Outgoing::whole(nothing, 0));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// The server's reply, masked on its way.
    async fn relayed(
        self,
        response: Response<Incoming>,
        plan: A::Plan,
        asked: Asked<G, A, D>,
    ) -> Result<Response<Outgoing>, Failed> {
        let Asked {
            cleared,
            accounting,
            statement,
            ..
        } = asked;
        let (mut head, body) = response.into_parts();
        let mode = match self.flow.api.reply(&plan, cleared.permit(), &mut head) {
            Ok(_) if self.head.method == Method::HEAD => ReplyMode::Empty,
            Ok(mode) => mode,
            Err(problem) => return Err(accounting.withheld(&problem, &statement)),
        };
        anew(&mut head.headers);
        let relayed = Relayed::new(body, plan, cleared, accounting);
        match mode {
            ReplyMode::Whole { max } => match relayed.whole(max, head.status).await {
                Ok((bytes, length)) => {
                    Ok(Response::from_parts(head, Outgoing::whole(bytes, length)))
                }
                Err((accounting, problem)) => Err(accounting.withheld(&problem, &statement)),
            },
            ReplyMode::Lines { max } => {
                let body = Outgoing::live(relayed.lines(max, head.status));
                Ok(Response::from_parts(head, body))
            }
            ReplyMode::Output { masked } => {
                let body = Outgoing::live(relayed.output(head.status, masked));
                Ok(Response::from_parts(head, body))
            }
            ReplyMode::Empty => {
                relayed.empty(head.status);
                let nothing = ClientBytes::own(OwnToClient::Status, Bytes::new());
                Ok(Response::from_parts(head, Outgoing::whole(nothing, 0)))
            }
        }
    }

    /// The whole body of a request, within what such a request may have.
    async fn body(&self, body: Incoming) -> Result<Bytes, Failed> {
        let max = self.flow.api.body_max(self.head);
        if max == 0 {
            return if body.is_end_stream() {
                Ok(Bytes::new())
            } else {
                Err(self.refused(&self.problem(
                    "weir:http-body",
                    StatusCode::BAD_REQUEST,
                    "weir: a request of this kind has no body",
                )))
            };
        }
        let whole = timeout(BODY_TIME_MAX, Limited::new(body, max).collect()).await;
        let Ok(whole) = whole else {
            return Err(Failed::Said(
                StatusCode::REQUEST_TIMEOUT,
                "weir: the body of this request took too long",
            ));
        };
        match whole {
            Ok(collected) => Ok(collected.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(self.refused(&self.problem(
                "weir:http-body-size",
                StatusCode::PAYLOAD_TOO_LARGE,
                "weir: the body of this request is too large",
            ))),
            Err(_) => Err(Failed::Said(
                StatusCode::BAD_REQUEST,
                "weir: the body of this request did not arrive",
            )),
        }
    }

    fn problem(&self, rule: &'static str, status: StatusCode, reason: &str) -> Problem {
        Problem {
            rule,
            status,
            reason: reason.to_owned(),
            statement: Arc::from(format!("{} (not decoded)", self.head.method)),
        }
    }

    fn refused(&self, problem: &Problem) -> Failed {
        let statement = Arc::clone(&problem.statement);
        let refusal = self
            .flow
            .gate
            .refuse(problem.rule, &problem.reason, statement);
        Failed::Refused(problem.status, refusal)
    }
}

/// Framing of the reply is hyper's, not the server's.
fn anew(headers: &mut http::HeaderMap) {
    for name in [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::TRAILER,
        header::UPGRADE,
        header::SET_COOKIE,
    ] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
    headers.remove("alt-svc");
}

fn own(mut response: Response<Bytes>) -> Response<Outgoing> {
    if response.status() == StatusCode::UNAUTHORIZED {
        // RFC 6750, section 3.
        let headers = response.headers_mut();
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response.map(|bytes| {
        let length = bytes.len();
        Outgoing::whole(ClientBytes::own(OwnToClient::Denial, bytes), length)
    })
}
