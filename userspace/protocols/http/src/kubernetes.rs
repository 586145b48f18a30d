//! The Kubernetes API over HTTP.

mod dialogue;
mod exit;
mod forward;
mod output;
mod remote;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request, response};
use weir_decide::{MaskKind, Permit};
use weir_govern::{ClientBytes, OutputMasking, Refusal};
use weir_kubernetes::stream::{Codec, Offer, Protocol};
use weir_kubernetes::{Info, Masking, Person, Remote, Unclear};
use weir_mask::{MaskKey, OutputPatterns, without_secrets};
use weir_model::request::Request;
use zeroize::Zeroizing;

pub use self::dialogue::KubernetesDialogue;

use crate::api::{Api, Masked, Problem, Question, ReplyMode};

/// What the API server itself takes of a request's body.
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Of a reply that is masked as one document.
const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Of one watch event.
const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What is kept of a request.
pub struct KubernetesPlan {
    plan: weir_kubernetes::Plan,
    upgrade: Option<Upgrade>,
}

/// What the agent offers to speak, and the key that the server is asked with.
struct Upgrade {
    offer: Offer,
    key: String,
}

/// One flow's view of a cluster.
pub struct KubernetesApi {
    target: Arc<str>,
    acting: Acting,
    masks: Masks,
}

/// As whom the server is asked, with which credential.
pub struct Acts {
    pub token: Zeroizing<String>,
    pub person: Person,
}

/// The same, shared with whoever finds it out; nothing is sent while it is empty.
#[derive(Clone, Default)]
pub struct Acting(Rc<RefCell<Option<Acts>>>);

impl Acting {
    pub fn become_of(&self, acts: Acts) {
        *self.0.borrow_mut() = Some(acts);
    }
}

/// What a target's configuration says about masks.
pub struct Masks {
    pub key: MaskKey,
    /// Looked for in what programs write, and in their arguments.
    pub patterns: OutputPatterns,
    /// Keys of ConfigMaps whose values are masked where policy masks any, `*` for any text; all of
    /// them when empty.
    pub config_keys: Arc<[String]>,
}

impl KubernetesApi {
    #[must_use]
    pub const fn new(target: Arc<str>, acting: Acting, masks: Masks) -> Self {
        Self {
            target,
            acting,
            masks,
        }
    }

    fn masking(&self, plan: &weir_kubernetes::Plan, permit: &Permit) -> Masking<'_> {
        let strictest: Option<MaskKind> = permit
            .obligations()
            .masks
            .values()
            .map(|mask| mask.kind)
            .max();
        Masking {
            secrets: strictest.filter(|_| plan.secrets),
            configs: strictest.filter(|_| plan.configs),
            config_keys: &self.masks.config_keys,
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
    type Plan = KubernetesPlan;
    type Dialogue = KubernetesDialogue;

    fn body_max(&self, head: &request::Parts) -> usize {
        match head.method {
            Method::GET | Method::HEAD => 0,
            _ => BODY_BYTES_MAX,
        }
    }

    fn read(
        &self,
        head: &request::Parts,
        body: &[u8],
    ) -> Result<Question<KubernetesPlan>, Problem> {
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
            &self.masks.key,
        )
        .map_err(said)?;
        let upgrade = upgrade(head, body, question.plan.remote.as_ref()).map_err(said)?;
        let mut request = question.request;
        if question.plan.remote.is_some() {
            request.statement = Arc::from(without_secrets(
                &self.masks.patterns.command,
                &request.statement,
            ));
        }
        Ok(Question {
            request,
            plan: KubernetesPlan {
                plan: question.plan,
                upgrade,
            },
        })
    }

    fn towards_server(
        &self,
        head: &request::Parts,
        plan: &KubernetesPlan,
    ) -> Result<request::Parts, Problem> {
        let failed = |reason| problem("weir:internal", StatusCode::INTERNAL_SERVER_ERROR, reason);
        let accept = match plan.plan.info {
            // Nothing of it is masked.
            Info::Path { .. } => weir_kubernetes::accept_any(&head.headers),
            Info::Resource(_) => weir_kubernetes::accept(&head.headers),
        };
        let acting = self.acting.0.borrow();
        let mut headers = acting
            .as_ref()
            .and_then(|Acts { token, person }| {
                weir_kubernetes::towards_server(&head.headers, accept, token, person)
            })
            .ok_or_else(|| failed("weir: the credential cannot be sent"))?;
        if let Some(Upgrade { offer, key }) = &plan.upgrade {
            offer
                .towards_server(&mut headers, key)
                .map_err(|_| failed("weir: the upgrade cannot be written"))?;
        }
        let request = http::Request::builder()
            .method(head.method.clone())
            .uri(plan.plan.uri())
            .body(())
            .map_err(|_| failed("weir: the request cannot be written"))?;
        let (mut parts, ()) = request.into_parts();
        parts.headers = headers;
        Ok(parts)
    }

    fn reply(
        &self,
        plan: &KubernetesPlan,
        permit: &Permit,
        head: &mut response::Parts,
    ) -> Result<ReplyMode, Problem> {
        let plain = ReplyMode::Output { masked: None };
        let plan = &plan.plan;
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
            return Ok(plain);
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
            _ if plan.reads_logs() => Ok(ReplyMode::Output {
                masked: OutputMasking::of(permit, &self.masks.patterns)
                    .wanted(false)
                    .cloned(),
            }),
            // The server's own short words: not found, not ready.
            "text/plain" if !head.status.is_success() => Ok(plain),
            _ => Err(withheld(
                "weir: the reply is not JSON, so it cannot be masked",
            )),
        }
    }

    fn mask(&self, plan: &KubernetesPlan, permit: &Permit, body: &[u8]) -> Result<Masked, Problem> {
        let plan = &plan.plan;
        let masking = self.masking(plan, permit);
        let masked = weir_kubernetes::mask(body, &masking, plan.secrets, &self.masks.key);
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

    fn upgrades(&self, plan: &KubernetesPlan) -> bool {
        plan.upgrade.is_some()
    }

    fn further(&self, plan: &KubernetesPlan) -> Vec<Request> {
        match (&plan.upgrade, &plan.plan.remote) {
            (Some(upgrade), Some(remote)) if upgrade.names_ports() => {
                remote.ports.iter().map(|port| remote.port(*port)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn dialogue(
        &self,
        plan: &KubernetesPlan,
        permit: &Permit,
        head: &response::Parts,
    ) -> Result<(KubernetesDialogue, HeaderMap), Problem> {
        let (Some(upgrade), Some(remote)) = (&plan.upgrade, &plan.plan.remote) else {
            return Err(withheld("weir: the server upgrades what asked for nothing"));
        };
        let protocol = upgrade.offer.chosen(&head.headers, &upgrade.key);
        let protocol = protocol.map_err(|Unclear(why)| withheld(&format!("weir: {why}")))?;
        // Only these were asked for as questions of their own.
        let cleared: &[u16] = if upgrade.names_ports() {
            &remote.ports
        } else {
            &[]
        };
        let codec = Codec::new(protocol, &remote.ports, Box::new(rand::random));
        let codec = codec.map_err(|_| withheld("weir: the stream cannot be set up"))?;
        let masking = OutputMasking::of(permit, &self.masks.patterns);
        let dialogue = KubernetesDialogue::new(codec, protocol, remote, cleared, &masking);
        Ok((dialogue, upgrade.offer.answer(protocol)))
    }

    fn refusal(&self, status: StatusCode, refusal: &Refusal) -> Response<Bytes> {
        said(status, &refusal.text(), Some(&refusal.denial.rule))
    }

    fn failure(&self, status: StatusCode, text: &str) -> Response<Bytes> {
        said(status, text, None)
    }
}

impl Upgrade {
    fn names_ports(&self) -> bool {
        self.offer.protocols().contains(&Protocol::ForwardPlain)
    }
}

/// The upgrade of a request for streams; no other one may ask for any.
fn upgrade(
    head: &request::Parts,
    body: &[u8],
    remote: Option<&Remote>,
) -> Result<Option<Upgrade>, Unclear> {
    let Some(remote) = remote else {
        return if head.headers.contains_key(header::UPGRADE) {
            Err(Unclear("this request cannot be upgraded"))
        } else {
            Ok(None)
        };
    };
    if head.version != http::Version::HTTP_11 {
        return Err(Unclear("streams are opened over HTTP/1.1 only"));
    }
    if head.method == Method::HEAD || !body.is_empty() {
        return Err(Unclear("streams are opened by GET or POST without a body"));
    }
    let forward = remote.effect == weir_kubernetes::Effect::PortForward;
    let mut offer = Offer::read(&head.headers, forward)?;
    let websocket = offer.protocols().iter().any(|known| known.is_websocket());
    if websocket && head.method != Method::GET {
        return Err(Unclear("WebSocket is asked for by GET"));
    }
    // Its channels are numbered by the ports of the request.
    offer.retain(|known| known != Protocol::ForwardPlain || !remote.ports.is_empty());
    if offer.protocols().is_empty() {
        return Err(Unclear("a forward over plain channels names its ports"));
    }
    let key = STANDARD.encode(rand::random::<[u8; 16]>());
    Ok(Some(Upgrade { offer, key }))
}

fn withheld(reason: &str) -> Problem {
    problem("weir:reply-withheld", StatusCode::BAD_GATEWAY, reason)
}

fn said(status: StatusCode, message: &str, rule: Option<&str>) -> Response<Bytes> {
    let body = weir_kubernetes::status::status(status.as_u16(), message, rule);
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    if status == StatusCode::UNAUTHORIZED {
        // kubectl has a sentence of its own for this status, and prints warnings beside it
        // (RFC 9111, section 5.5, as the API server uses it).
        let warning = format!("299 - \"{}\"", message.replace(['"', '\\'], "'"));
        if let Ok(warning) = HeaderValue::from_str(&warning) {
            headers.insert(header::WARNING, warning);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(acting: Acting) -> KubernetesApi {
        let masks = Masks {
            key: MaskKey::new([1; 32]),
            patterns: OutputPatterns::new(&[], &[]).unwrap(),
            config_keys: Arc::from([]),
        };
        KubernetesApi::new(Arc::from("k"), acting, masks)
    }

    #[test]
    fn nothing_is_sent_before_it_is_known_who_asks() {
        let acting = Acting::default();
        let api = api(acting.clone());
        let request = http::Request::get("/api/v1/namespaces/shop/pods")
            .header(header::AUTHORIZATION, "Bearer of-the-agent");
        let (head, ()) = request.body(()).unwrap().into_parts();
        let plan = api
            .read(&head, b"")
            .map_err(|problem| problem.reason)
            .unwrap()
            .plan;
        assert!(api.towards_server(&head, &plan).is_err());
        acting.become_of(Acts {
            token: Zeroizing::new("of-weir".to_owned()),
            person: Person {
                user: "subject".to_owned(),
                ..Person::default()
            },
        });
        let sent = api
            .towards_server(&head, &plan)
            .map_err(|problem| problem.reason)
            .unwrap();
        assert_eq!(sent.headers[header::AUTHORIZATION], "Bearer of-weir");
        assert_eq!(sent.headers["impersonate-user"], "subject");
    }

    fn asked(path: &str, accept: &str) -> String {
        let acting = Acting::default();
        acting.become_of(Acts {
            token: Zeroizing::new("token".to_owned()),
            person: Person {
                user: "agent".to_owned(),
                ..Person::default()
            },
        });
        let api = api(acting);
        let request = http::Request::get(path).header(header::ACCEPT, accept);
        let (head, ()) = request.body(()).unwrap().into_parts();
        let plan = api.read(&head, &[]).map_err(|problem| problem.reason);
        let sent = api.towards_server(&head, &plan.unwrap().plan);
        let sent = sent.map_err(|problem| problem.reason).unwrap();
        sent.headers[header::ACCEPT].to_str().unwrap().to_owned()
    }

    #[test]
    fn only_what_is_masked_has_to_be_json() {
        let schema = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
        assert_eq!(asked("/openapi/v2", schema), schema);
        let protobuf = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(
            asked("/api/v1/namespaces/shop/pods", protobuf),
            "application/json"
        );
        assert_eq!(
            asked("/api/v1/namespaces/shop/pods", schema),
            "application/json"
        );
    }
}
