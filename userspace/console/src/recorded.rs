//! Recorded sessions: search, transcript, terminals.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Extension, Path, Query, State as AxumState};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use weir_model::ident::SessionId;
use weir_state::ApprovalRow;

use crate::Console;
use crate::failed::Failed;
use crate::guard::POLICY_OF_PLAYER;
use crate::house::{Search, SessionRow};
use crate::limit::Of;
use crate::page::{Frame, rendered, short};
use crate::replay::{Entry, Header, Process, entries, header, process, terminals};
use crate::session::Visit;

/// Sessions in one list.
const LISTED_MAX: u32 = 100;
/// Facts on one page.
const FACTS_MAX: u32 = 500;
/// Longest text that is looked for.
const TEXT_BYTES_MAX: usize = 200;
const DAYS_MAX: u32 = 400;

pub(crate) fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/sessions", get(search))
        .route("/sessions/{id}", get(session))
        .route("/sessions/{id}/terminal/{seq}", get(terminal))
        .route("/sessions/{id}/cast/{seq}", get(cast))
}

/// Auditors and administrators see every session, reviewers those that they are asked about.
pub(crate) fn may_see(visit: &Visit, rows: &[ApprovalRow]) -> bool {
    let groups = &visit.person.groups;
    visit.person.rights.sees_record()
        || rows
            .iter()
            .any(|row| row.new.groups.iter().any(|group| groups.contains(group)))
}

async fn admit(console: &Console, visit: &Visit, id: &str) -> Result<SessionId, Failed> {
    if !console.limits.take(Of::Search(visit.key), (console.now)()) {
        return Err(Failed::too_often());
    }
    let session = SessionId::parse(id)
        .ok_or_else(|| Failed::not_found("That is no session.").back("/sessions", "Sessions"))?;
    if visit.person.rights.sees_record() {
        return Ok(session);
    }
    let rows = console.state.list().await.unwrap_or_default();
    let of_session: Vec<ApprovalRow> = rows
        .into_iter()
        .filter(|row| row.new.session == session)
        .collect();
    if may_see(visit, &of_session) {
        return Ok(session);
    }
    Err(Failed::forbidden(
        "Reviewers see the sessions that they are asked about; this is none of them.",
    ))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    q: String,
    workload: String,
    target: String,
    remarkable: Option<String>,
    days: Option<u32>,
}

#[derive(Template)]
#[template(path = "sessions.html")]
struct Sessions {
    frame: Frame,
    q: String,
    workload: String,
    target: String,
    remarkable: bool,
    days: u32,
    rows: Vec<SessionRow>,
    full: bool,
    away: String,
}

async fn search(
    AxumState(console): AxumState<Arc<Console>>,
    Extension(visit): Extension<Visit>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failed> {
    if !visit.person.rights.sees_record() {
        return Err(Failed::forbidden(
            "Recorded sessions are for auditors and administrators. Reviewers see those that they are asked about, from the request.",
        ));
    }
    if !console.limits.take(Of::Search(visit.key), (console.now)()) {
        return Err(Failed::too_often());
    }
    let long = [&asked.q, &asked.workload, &asked.target]
        .iter()
        .any(|text| text.len() > TEXT_BYTES_MAX);
    if long {
        return Err(
            Failed::refused("The search is longer than 200 bytes.").back("/sessions", "Sessions")
        );
    }
    let question = Search {
        text: asked.q.trim().to_owned(),
        workload: asked.workload.trim().to_owned(),
        target: asked.target.trim().to_owned(),
        remarkable: asked.remarkable.is_some(),
        days: asked.days.unwrap_or(7).clamp(1, DAYS_MAX),
        limit: LISTED_MAX,
    };
    let (rows, away) = match console.house.search(question.clone()).await {
        Ok(rows) => (rows, String::new()),
        Err(away) => (Vec::new(), away.0),
    };
    Ok(rendered(&Sessions {
        frame: Frame::new(&console, &visit, "sessions", "Sessions"),
        q: question.text,
        workload: question.workload,
        target: question.target,
        remarkable: question.remarkable,
        days: question.days,
        full: rows.len() >= usize::try_from(LISTED_MAX).unwrap_or(usize::MAX),
        rows,
        away,
    }))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct From {
    from: u32,
}

#[derive(Template)]
#[template(path = "session.html")]
struct SessionPage {
    frame: Frame,
    id: String,
    header: Header,
    process: Option<Process>,
    entries: Vec<Entry>,
    terminals: Vec<u64>,
    /// First `seq` of the next page; 0 when there is none.
    next: u64,
    live: bool,
}

async fn session(
    AxumState(console): AxumState<Arc<Console>>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
    Query(page): Query<From>,
) -> Result<Response, Failed> {
    let session = admit(&console, &visit, &id).await?;
    let recorded = console.house.facts(session, page.from, FACTS_MAX).await?;
    let Some(about) = header(&recorded.facts) else {
        let text = "Nothing is recorded of this session yet. The record is a second or two behind.";
        return Err(Failed::not_found(text).back("/sessions", "Sessions"));
    };
    let entries = entries(&recorded.facts);
    let id = session.to_string();
    let next = entries.last().filter(|_| recorded.more);
    Ok(rendered(&SessionPage {
        frame: Frame::new(
            &console,
            &visit,
            "sessions",
            format!("Session {}", short(&id)),
        ),
        header: about,
        process: process(&recorded.facts, u64::MAX),
        terminals: terminals(&recorded.facts),
        next: next.map_or(0, |last| last.seq + 1),
        live: console
            .house
            .flows()
            .iter()
            .any(|flow| flow.session == session),
        entries,
        id,
    }))
}

#[derive(Template)]
#[template(path = "terminal.html")]
struct Terminal {
    frame: Frame,
    id: String,
    seq: u64,
}

async fn terminal(
    AxumState(console): AxumState<Arc<Console>>,
    Extension(visit): Extension<Visit>,
    Path((id, seq)): Path<(String, u64)>,
) -> Result<Response, Failed> {
    let session = admit(&console, &visit, &id).await?;
    let page = Terminal {
        frame: Frame::new(&console, &visit, "sessions", "Terminal"),
        id: session.to_string(),
        seq,
    };
    let policy = [(header::CONTENT_SECURITY_POLICY, POLICY_OF_PLAYER)];
    Ok((policy, rendered(&page)).into_response())
}

async fn cast(
    AxumState(console): AxumState<Arc<Console>>,
    Extension(visit): Extension<Visit>,
    Path((id, seq)): Path<(String, u64)>,
) -> Result<Response, Failed> {
    let session = admit(&console, &visit, &id).await?;
    let cast = console.house.cast(session, seq).await?;
    let cast = cast.ok_or_else(|| Failed::not_found("That request opened no terminal."))?;
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    Ok((headers, cast).into_response())
}
