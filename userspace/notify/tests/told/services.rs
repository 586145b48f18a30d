//! Stand-ins of the services, and a node's store of approvals.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use weir_model::ident::{ApprovalId, SessionId};
use weir_notify::{About, Address, Channel, Notifier, NotifyMetrics, Ours, start};
use weir_state::{Decided, Decision, NewApproval, Reviewer, State};

pub(crate) struct Told {
    pub(crate) path: String,
    headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Told {
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }
}

/// An HTTP service that answers with the statuses given, in turn.
pub(crate) struct Service {
    port: u16,
    told: mpsc::Receiver<Told>,
}

impl Service {
    pub(crate) async fn start(statuses: Vec<u16>) -> Self {
        let (sender, told) = mpsc::channel(64);
        let statuses = Arc::new(Mutex::new(statuses.into_iter()));
        let router = Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let (sender, statuses) = (sender.clone(), Arc::clone(&statuses));
            async move {
                let status = statuses.lock().unwrap().next().unwrap_or(200);
                let path = uri.path().to_owned();
                let told = Told {
                    path,
                    headers,
                    body,
                };
                sender.send(told).await.unwrap();
                let answer = r#"{"ok":true,"ts":"17.1","channel":"C9"}"#;
                (StatusCode::from_u16(status).unwrap(), answer)
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, told }
    }

    pub(crate) fn address(&self, path: &str) -> Address {
        Address {
            url: format!("http://127.0.0.1:{}{path}", self.port),
            ca: None,
        }
    }

    /// What it was told next; waits for it.
    pub(crate) async fn next(&mut self) -> Told {
        self.told.recv().await.unwrap()
    }
}

/// An address where nobody listens.
pub(crate) async fn nowhere() -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    Address {
        url: format!("http://127.0.0.1:{port}/hook"),
        ca: None,
    }
}

/// An SMTP server for one mail (RFC 5321): everything that its client said.
pub(crate) async fn mail_server() -> (u16, oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, mails) = oneshot::channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"220 stand-in\r\n").await.unwrap();
        let (mut said, mut data) = (String::new(), false);
        while let Ok(Some(line)) = lines.next_line().await {
            said.push_str(&line);
            said.push('\n');
            let answer: &[u8] = match line.as_str() {
                "." if data => {
                    data = false;
                    b"250 kept\r\n"
                }
                _ if data => continue,
                "DATA" => {
                    data = true;
                    b"354 go on\r\n"
                }
                "QUIT" => break,
                _ => b"250 fine\r\n",
            };
            write.write_all(answer).await.unwrap();
            if answer.ends_with(b"kept\r\n") {
                break;
            }
        }
        sender.send(said).unwrap();
    });
    (port, mails)
}

pub(crate) struct World {
    folder: PathBuf,
    state: State,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let folder = folder.join(uuid::Uuid::now_v7().to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let state = State::open(&folder.join("state.sqlite")).unwrap();
        Self { folder, state }
    }

    pub(crate) fn start(&self, channels: Vec<(&str, Channel)>) -> Result<AbortHandle, String> {
        self.start_for(channels, &[], Arc::new(|_| true))
    }

    pub(crate) fn start_for(
        &self,
        channels: Vec<(&str, Channel)>,
        groups: &[&str],
        ours: Ours,
    ) -> Result<AbortHandle, String> {
        let notifiers = channels.into_iter().map(|(name, channel)| Notifier {
            name: name.to_owned(),
            groups: groups.iter().map(ToString::to_string).collect(),
            statement: true,
            channel,
        });
        let about = About {
            node: "n".to_owned(),
            console: "https://weir.example".to_owned(),
            ours,
            now: weir_clock::now,
        };
        let metrics = NotifyMetrics::register(&prometheus::Registry::new()).unwrap();
        let file = self.folder.join("notify.sqlite");
        let state = self.state.clone();
        let telling = start(notifiers.collect(), &file, state, about, metrics)?;
        Ok(tokio::spawn(telling).abort_handle())
    }

    pub(crate) async fn hold(&self, statement: &str) -> String {
        self.hold_with(7, statement, "dba").await
    }

    pub(crate) async fn hold_for(&self, statement: &str, group: &str) -> String {
        self.hold_with(7, statement, group).await
    }

    pub(crate) async fn hold_in(&self, session: u128, statement: &str) -> String {
        self.hold_with(session, statement, "dba").await
    }

    async fn hold_with(&self, session: u128, statement: &str, group: &str) -> String {
        let now_us = weir_clock::now().wall_us;
        let new = NewApproval {
            created_us: now_us,
            expires_us: now_us + 600_000_000,
            session: SessionId(session),
            seq: 1,
            tenant: "t".into(),
            principal: "agent".into(),
            application: "app".into(),
            on_behalf_of: String::new(),
            workload: "operator".into(),
            target: "demo".into(),
            database: "shop".into(),
            statement: statement.into(),
            parameters: "[]".into(),
            accesses: vec!["delete Table:demo/shop/public/ledger".into()],
            process: "psql".into(),
            rules: vec!["unbounded".into()],
            groups: vec![group.into()],
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

    pub(crate) async fn approve(&self, id: &str) {
        let decision = Decision {
            approve: true,
            reviewer: Reviewer {
                tenant: "t".into(),
                oid: "0e".into(),
                name: "alice".into(),
                groups: vec!["dba".into()],
            },
            justification: "ticket".into(),
            grant: None,
        };
        let id = ApprovalId::parse(id).unwrap();
        self.state
            .decide(id, decision, weir_clock::now())
            .await
            .unwrap();
    }

    pub(crate) async fn decided(&self, id: &str) -> Decided {
        let id = ApprovalId::parse(id).unwrap();
        self.state.decided(id).await.unwrap()
    }
}
