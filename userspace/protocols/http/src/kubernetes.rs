//! The Kubernetes API over HTTP.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header, request, response};
use weir_decide::{MaskKind, Permit};
use weir_govern::{ClientBytes, Refusal};
use weir_kubernetes::{Info, Masking, Person, Plan, Unclear};
use weir_mask::MaskKey;
use zeroize::Zeroizing;

use crate::api::{Api, Masked, Problem, Question, ReplyMode};

/// What the API server itself takes of a request's body.
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Of a reply that is masked as one document.
const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Of one watch event.
const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// One flow's view of a cluster.
pub struct KubernetesApi {
    target: Arc<str>,
    token: Zeroizing<String>,
    person: Person,
    key: MaskKey,
}

impl KubernetesApi {
    /// `token` is the target's credential; the server is asked as `person`.
    #[must_use]
    pub const fn new(
        target: Arc<str>,
        token: Zeroizing<String>,
        person: Person,
        key: MaskKey,
    ) -> Self {
        Self {
            target,
            token,
            person,
            key,
        }
    }

    fn masking(plan: &Plan, permit: &Permit) -> Masking {
        let strictest: Option<MaskKind> = permit
            .obligations()
            .masks
            .values()
            .map(|mask| mask.kind)
            .max();
        Masking {
            secrets: strictest.filter(|_| plan.secrets),
            configs: strictest.filter(|_| plan.configs),
        }
    }
}

fn problem(rule: &'static str, status: StatusCode, reason: &str) -> Problem {
    Problem {
        rule,
        status,
        reason: reason.to_owned(),
        statement: Arc::from(""),
    }
}

impl Api for KubernetesApi {
    type Plan = Plan;

    fn body_max(&self, head: &request::Parts) -> usize {
        match head.method {
            Method::GET | Method::HEAD => 0,
            _ => BODY_BYTES_MAX,
        }
    }

    fn read(&self, head: &request::Parts, body: &[u8]) -> Result<Question<Plan>, Problem> {
        let said = |Unclear(why): Unclear| Problem {
            statement: Arc::from(format!("{} {}", head.method, head.uri.path())),
            ..problem(
                "weir:kubernetes-request",
                StatusCode::BAD_REQUEST,
                &format!("weir: {why}"),
            )
        };
        if weir_kubernetes::impersonates(&head.headers) {
            return Err(said(Unclear("impersonation is set by Weir alone")));
        }
        if head.headers.contains_key(header::UPGRADE) {
            return Err(said(Unclear("upgraded connections are not supported yet")));
        }
        let content_type = head
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let uri = (head.uri.path(), head.uri.query().unwrap_or_default());
        let question = weir_kubernetes::question(
            &self.target,
            &head.method,
            uri,
            (body, content_type),
            &self.key,
        )
        .map_err(said)?;
        Ok(Question {
            request: question.request,
            plan: question.plan,
        })
    }

    fn towards_server(
        &self,
        head: &request::Parts,
        plan: &Plan,
    ) -> Result<request::Parts, Problem> {
        let failed = |reason| problem("weir:internal", StatusCode::INTERNAL_SERVER_ERROR, reason);
        let headers = weir_kubernetes::towards_server(&head.headers, &self.token, &self.person)
            .ok_or_else(|| failed("weir: the credential cannot be sent"))?;
        let request = http::Request::builder()
            .method(head.method.clone())
            .uri(plan.uri())
            .body(())
            .map_err(|_| failed("weir: the request cannot be written"))?;
        let (mut parts, ()) = request.into_parts();
        parts.headers = headers;
        Ok(parts)
    }

    fn reply(
        &self,
        plan: &Plan,
        _permit: &Permit,
        head: &mut response::Parts,
    ) -> Result<ReplyMode, Problem> {
        let withheld = |reason| problem("weir:reply-withheld", StatusCode::BAD_GATEWAY, reason);
        if head.headers.contains_key(header::CONTENT_ENCODING) {
            return Err(withheld(
                "weir: the reply is compressed, so it cannot be masked",
            ));
        }
        if head.status.is_informational() {
            return Err(withheld("weir: the server wants to speak another protocol"));
        }
        if matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        ) {
            return Ok(ReplyMode::Empty);
        }
        // Its words on who we are to it are not the agent's business.
        head.headers.remove(header::WWW_AUTHENTICATE);
        let kind = head
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        if let Info::Path { .. } = plan.info {
            return Ok(ReplyMode::Output);
        }
        match kind.as_str() {
            "application/json" if plan.watches() && head.status.is_success() => {
                Ok(ReplyMode::Lines {
                    max: EVENT_BYTES_MAX,
                })
            }
            "application/json" => Ok(ReplyMode::Whole {
                max: REPLY_BYTES_MAX,
            }),
            _ if plan.reads_logs() => Ok(ReplyMode::Output),
            // The server's own short words: not found, not ready.
            "text/plain" if !head.status.is_success() => Ok(ReplyMode::Output),
            _ => Err(withheld(
                "weir: the reply is not JSON, so it cannot be masked",
            )),
        }
    }

    fn mask(&self, plan: &Plan, permit: &Permit, body: &[u8]) -> Result<Masked, Problem> {
        let masking = Self::masking(plan, permit);
        let masked = weir_kubernetes::mask(body, &masking, plan.secrets, &self.key);
        let masked = masked.map_err(|_| {
            problem(
                "weir:reply-withheld",
                StatusCode::BAD_GATEWAY,
                "weir: the reply cannot be read, so it cannot be masked",
            )
        })?;
        Ok(Masked {
            masked_values: masked.masked_values(),
            bytes: ClientBytes::masked(masked),
            rows: 1,
        })
    }

    fn refusal(&self, status: StatusCode, refusal: &Refusal) -> Response<Bytes> {
        let denial = &refusal.denial;
        let message = if denial.reason.starts_with("weir: ") {
            denial.reason.clone()
        } else {
            format!("weir: {} (rule {})", denial.reason, denial.rule)
        };
        said(status, &message, Some(&denial.rule))
    }

    fn failure(&self, status: StatusCode, text: &str) -> Response<Bytes> {
        said(status, text, None)
    }
}

fn said(status: StatusCode, message: &str, rule: Option<&str>) -> Response<Bytes> {
    let body = weir_kubernetes::status::status(status.as_u16(), message, rule);
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}
