//! A console with everything around it: the store is real, authority and node are stand-ins.

use std::any::Any;
use std::cell::Cell;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tower_service::Service;
use weir_console::{
    Away, ConsoleConfig, Explained, Flow, Future, House, Lifetimes, Parts, Pending, PolicyFile,
    Question, Recorded, Roles, Search, SessionRow, SignIn, SignedIn, Who, router,
};
use weir_model::ident::{
    ApprovalId, EvidenceKind, Groups, Principal, PrincipalKind, RevokedKind, SessionId,
};
use weir_model::time::Now;
use weir_state::{NewApproval, Revocation, State};

pub(crate) struct Somebody {
    pub(crate) name: &'static str,
    pub(crate) oid: &'static str,
    groups: &'static [&'static str],
    roles: &'static [&'static str],
}

pub(crate) const ALICE: Somebody = Somebody {
    name: "alice",
    oid: "0e000000-0000-4000-8000-000000000001",
    groups: &["dba"],
    roles: &[],
};
pub(crate) const BOB: Somebody = Somebody {
    name: "bob",
    oid: "0e000000-0000-4000-8000-000000000002",
    groups: &[],
    roles: &["Agent.Connect"],
};
pub(crate) const AUDITOR: Somebody = Somebody {
    name: "dora",
    oid: "0e000000-0000-4000-8000-000000000004",
    groups: &[],
    roles: &["Weir.Auditor"],
};
pub(crate) const ERIN: Somebody = Somebody {
    name: "erin",
    oid: "0e000000-0000-4000-8000-000000000005",
    groups: &["sre"],
    roles: &[],
};

const ORIGIN: &str = "https://weir.example";

thread_local! {
    static PASSED_S: Cell<i64> = const { Cell::new(0) };
}

/// Starts in 2026 and moves only by [`World::pass`].
fn now() -> Now {
    let passed = PASSED_S.get();
    Now {
        mono_us: u64::try_from(passed).unwrap() * 1_000_000,
        wall_us: (1_795_000_000 + passed) * 1_000_000,
    }
}

struct Authority;

impl SignIn for Authority {
    fn begin(&self, _again: bool) -> Future<Result<Pending, Away>> {
        Box::pin(async {
            Ok(Pending {
                url: "https://login.example/authorize".to_owned(),
                state: "state".to_owned(),
                kept: Box::new(7_u8),
            })
        })
    }

    fn redeem(
        &self,
        kept: Box<dyn Any + Send + Sync>,
        query: String,
    ) -> Future<Result<SignedIn, Away>> {
        assert!(kept.downcast::<u8>().is_ok());
        let all = [ALICE, BOB, AUDITOR, ERIN];
        let who = all
            .into_iter()
            .find(|one| query.contains(&format!("code={}", one.name)))
            .unwrap();
        Box::pin(async move {
            let texts = |all: &[&str]| all.iter().map(|text| Arc::from(*text)).collect();
            Ok(SignedIn {
                shown: format!("{}@lab.example", who.name),
                principal: Arc::new(Principal {
                    kind: PrincipalKind::Person,
                    cloud: "public".into(),
                    tenant: "t".into(),
                    oid: who.oid.into(),
                    app: "console".into(),
                    roles: texts(who.roles),
                    groups: Groups::Known(texts(who.groups)),
                    on_behalf_of: None,
                    token_id: "".into(),
                    evidence: EvidenceKind::Person,
                    workload: "".into(),
                    valid_until_s: now().unix_s() + 6 * 3600,
                }),
            })
        })
    }
}

const EVIL: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>";

#[derive(Default)]
struct StandIn {
    revoked: Mutex<Vec<String>>,
}

fn facts() -> Vec<Value> {
    let facts = json!([
        {"kind": "flow", "at": "2026-11-29 10:00:00.000", "seq": 1, "status": EVIL, "reason": EVIL,
         "exe": EVIL, "argv": EVIL, "parents": [EVIL], "workload": EVIL, "principal": "p"},
        {"kind": "request", "at": "2026-11-29 10:00:01.000", "seq": 2, "decision": "hold",
         "statement": EVIL, "parameters": EVIL, "rule": EVIL},
        {"kind": "reply", "at": "2026-11-29 10:00:02.000", "seq": 3, "status": EVIL,
         "response_masked": serde_json::to_string(&[EVIL]).unwrap()},
        {"kind": "reply", "at": "2026-11-29 10:00:03.000", "seq": 4, "response_masked": EVIL},
    ]);
    facts.as_array().unwrap().clone()
}

impl House for StandIn {
    fn flows(&self) -> Vec<Flow> {
        vec![Flow {
            session: SessionId(7),
            workload: EVIL.to_owned(),
            target: "demo".to_owned(),
            principal: "p".to_owned(),
            client_addr: "a".to_owned(),
            server_addr: "b".to_owned(),
            pid: 1,
            comm: EVIL.to_owned(),
            opened_us: 0,
        }]
    }

    fn revoke(&self, entry: Revocation) -> Future<Result<usize, Away>> {
        let text = format!("{} {}", entry.kind.label(), entry.value);
        self.revoked.lock().unwrap().push(text);
        Box::pin(async { Ok(1) })
    }

    fn lift(&self, _kind: RevokedKind, _value: String) -> Future<Result<bool, Away>> {
        Box::pin(async { Ok(false) })
    }

    fn search(&self, _search: Search) -> Future<Result<Vec<SessionRow>, Away>> {
        Box::pin(async {
            Ok(vec![SessionRow {
                workload: EVIL.to_owned(),
                exe: EVIL.to_owned(),
                ..SessionRow::default()
            }])
        })
    }

    fn facts(&self, session: SessionId, _: u32, _: u32) -> Future<Result<Recorded, Away>> {
        let facts = if session == SessionId(7) {
            facts()
        } else {
            Vec::new()
        };
        Box::pin(async { Ok(Recorded { facts, more: false }) })
    }

    fn cast(&self, _: SessionId, _: u64) -> Future<Result<Option<String>, Away>> {
        Box::pin(async { Ok(None) })
    }

    fn policies(&self) -> Result<Vec<PolicyFile>, Away> {
        Ok(vec![PolicyFile {
            name: EVIL.to_owned(),
            text: EVIL.to_owned(),
        }])
    }

    fn explain(&self, _question: Question) -> Option<Future<Result<Explained, Away>>> {
        None
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    headers: axum::http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn cookies(&self) -> Vec<String> {
        let all = self.headers.get_all("set-cookie").iter();
        all.map(|value| value.to_str().unwrap().to_owned())
            .collect()
    }

    /// As a browser would send it back.
    pub(crate) fn cookie(&self, name: &str) -> String {
        let all = self.cookies();
        let line = all
            .iter()
            .find(|line| line.starts_with(&format!("{name}=")));
        line.unwrap().split(';').next().unwrap().to_owned()
    }
}

pub(crate) struct World {
    router: Router,
    state: State,
    house: Arc<StandIn>,
}

impl World {
    pub(crate) fn new() -> Self {
        PASSED_S.set(0);
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let folder = folder.join(uuid::Uuid::now_v7().to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let state = State::open(&folder.join("state.sqlite")).unwrap();
        let house = Arc::new(StandIn::default());
        let group = |id: &str| vec![Who::Group(id.to_owned())];
        let router = router(Parts {
            config: ConsoleConfig {
                origin: ORIGIN.to_owned(),
                secure: true,
                lifetimes: Lifetimes::default(),
                roles: Roles {
                    reviewers: [("dba".to_owned(), group("dba"))].into(),
                    auditors: vec![Who::AppRole("Weir.Auditor".to_owned())],
                    administrators: group("sre"),
                },
                node: "n".to_owned(),
            },
            state: state.clone(),
            house: Arc::clone(&house) as Arc<dyn House>,
            sign_in: Arc::new(Authority),
            now,
            hooks: Router::new(),
        });
        Self {
            router,
            state,
            house,
        }
    }

    pub(crate) fn pass(&self, seconds: i64) {
        PASSED_S.set(PASSED_S.get() + seconds);
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().call(request).await.unwrap();
        let (parts, body) = response.into_parts();
        // A page that follows the inbox never ends.
        let events = parts
            .headers
            .get("content-type")
            .is_some_and(|kind| kind == "text/event-stream");
        let bytes = if events {
            bytes::Bytes::new()
        } else {
            body.collect().await.unwrap().to_bytes()
        };
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn get(&self, cookie: &str, path: &str) -> Answer {
        let request = Request::get(path).header("cookie", cookie);
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// As htmx asks for a part of a page.
    pub(crate) async fn fragment(&self, cookie: &str, path: &str) -> Answer {
        let request = Request::get(path).header("cookie", cookie);
        let request = request.header("hx-request", "true");
        self.send(request.body(Body::empty()).unwrap()).await
    }

    pub(crate) async fn post(&self, cookie: &str, path: &str, form: &str) -> Answer {
        self.post_from(cookie, path, form, ORIGIN).await
    }

    pub(crate) async fn post_from(
        &self,
        cookie: &str,
        path: &str,
        form: &str,
        origin: &str,
    ) -> Answer {
        let mut request = Request::post(path)
            .header("cookie", cookie)
            .header("content-type", "application/x-www-form-urlencoded");
        if !origin.is_empty() {
            request = request.header("origin", origin);
        }
        self.send(request.body(Body::from(form.to_owned())).unwrap())
            .await
    }

    pub(crate) async fn sign_in(&self, who: Somebody) -> String {
        self.sign_in_with("", who).await.0
    }

    /// With the cookies that the browser has; gives the new one and every line that set one.
    pub(crate) async fn sign_in_with(&self, before: &str, who: Somebody) -> (String, Vec<String>) {
        let start = self.get(before, "/sign-in/start?next=/approvals").await;
        let cookie = format!("{before}; {}", start.cookie("__Host-weir-sign-in"));
        let path = format!("/sign-in/return?code={}&state=state", who.name);
        let back = self.get(&cookie, &path).await;
        assert_eq!(back.status, StatusCode::SEE_OTHER, "{}", back.body);
        assert_eq!(back.header("location"), "/approvals");
        (back.cookie("__Host-weir"), back.cookies())
    }

    /// The token in the forms of this session's pages.
    pub(crate) async fn csrf(&self, cookie: &str) -> String {
        let page = self.get(cookie, "/approvals").await.body;
        let after = page.split("name=\"csrf\" value=\"").nth(1);
        after.unwrap().split('"').next().unwrap().to_owned()
    }

    pub(crate) async fn decide(&self, cookie: &str, held: &str, decision: &str) -> Answer {
        let csrf = self.csrf(cookie).await;
        let form = format!("csrf={csrf}&decision={decision}&justification=ticket+4711");
        self.post(cookie, &format!("/approvals/{held}/decision"), &form)
            .await
    }

    pub(crate) async fn grant(&self, cookie: &str, held: &str, grant: &str) -> Answer {
        let csrf = self.csrf(cookie).await;
        let form = format!("csrf={csrf}&decision=approve&justification=x&{grant}");
        self.post(cookie, &format!("/approvals/{held}/decision"), &form)
            .await
    }

    pub(crate) async fn grants(&self) -> Vec<weir_state::Grant> {
        self.state.grants().await.unwrap()
    }

    pub(crate) async fn revoke(&self, cookie: &str, kind: &str, value: &str) -> Answer {
        let csrf = self.csrf(cookie).await;
        let form = format!("csrf={csrf}&kind={kind}&value={value}&reason=because");
        self.post(cookie, "/revocations", &form).await
    }

    pub(crate) fn revoked(&self) -> Vec<String> {
        self.house.revoked.lock().unwrap().clone()
    }

    pub(crate) async fn hold(&self, principal: &str, on_behalf_of: &str) -> String {
        self.hold_statement(principal, on_behalf_of, "delete from ledger")
            .await
    }

    pub(crate) async fn hold_statement(
        &self,
        principal: &str,
        behalf: &str,
        statement: &str,
    ) -> String {
        let new = NewApproval {
            created_us: now().wall_us,
            expires_us: now().wall_us + 4 * 3600 * 1_000_000,
            session: SessionId(7),
            seq: 2,
            tenant: "t".into(),
            principal: principal.into(),
            application: "app".into(),
            on_behalf_of: behalf.into(),
            workload: "operator".into(),
            target: "demo".into(),
            database: "shop".into(),
            statement: statement.into(),
            parameters: "[]".into(),
            accesses: vec!["delete Table:demo/shop/public/ledger".into()],
            process: statement.into(),
            rules: vec!["unbounded".into()],
            groups: vec!["dba".into()],
            reason: "every row".into(),
            approvals: 1,
            escalate_us: 0,
            escalate_groups: Vec::new(),
            at_timeout: weir_state::TimeoutAction::Deny,
            shape: 0,
            exact: true,
            effect: None,
        };
        self.state.create(new).await.unwrap().to_string()
    }

    pub(crate) async fn state_of(&self, held: &str) -> &'static str {
        let id = ApprovalId::parse(held).unwrap();
        self.state.get(id).await.unwrap().unwrap().state.label()
    }
}
