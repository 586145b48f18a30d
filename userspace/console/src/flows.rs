//! Live flows, the kill list, and how both change.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Extension, Path, State as AxumState};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use weir_model::ident::{RevokedKind, SessionId};
use weir_state::Revocation;

use crate::Console;
use crate::failed::Failed;
use crate::guard::{Sent, Tokened};
use crate::house::Flow;
use crate::page::{Frame, rendered, span, utc};
use crate::session::Visit;

const REASON_BYTES_MAX: usize = 4096;
const VALUE_BYTES_MAX: usize = 256;

pub(crate) fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/flows", get(flows))
        .route("/flows/list", get(list))
        .route("/flows/{id}/end", get(confirm))
        .route("/revocations", get(revocations).post(revoke))
        .route("/revocations/lift", post(lift))
}

struct Line {
    session: String,
    workload: String,
    target: String,
    principal: String,
    client: String,
    server: String,
    process: String,
    age: String,
}

#[derive(Template)]
#[template(path = "flows.html")]
struct FlowsPage {
    frame: Frame,
    flows: Vec<Line>,
}

#[derive(Template)]
#[template(path = "flows_list.html")]
struct FlowsList {
    frame: Frame,
    flows: Vec<Line>,
}

#[derive(Template)]
#[template(path = "end.html")]
struct End {
    frame: Frame,
    flow: Line,
    fresh: bool,
    again: String,
}

struct Entry {
    kind: &'static str,
    value: String,
    by: String,
    reason: String,
    at: String,
}

#[derive(Template)]
#[template(path = "revocations.html")]
struct Revocations {
    frame: Frame,
    entries: Vec<Entry>,
    fresh: bool,
    again: String,
}

fn seen(visit: &Visit) -> Result<(), Failed> {
    if visit.person.rights.sees_record() {
        return Ok(());
    }
    Err(Failed::forbidden(
        "Live sessions are for auditors and administrators.",
    ))
}

fn line(flow: Flow, now_us: i64) -> Line {
    Line {
        session: flow.session.to_string(),
        workload: flow.workload,
        target: flow.target,
        principal: flow.principal,
        client: flow.client_addr,
        server: flow.server_addr,
        process: format!("{} ({})", flow.comm, flow.pid),
        age: span((now_us - flow.opened_us) / 1_000_000),
    }
}

fn lines(console: &Console) -> Vec<Line> {
    let now_us = (console.now)().wall_us;
    let flows = console.house.flows().into_iter();
    flows.map(|flow| line(flow, now_us)).collect()
}

async fn flows(
    AxumState(console): AxumState<Arc<Console>>,
    Extension(visit): Extension<Visit>,
) -> Result<Response, Failed> {
    seen(&visit)?;
    Ok(rendered(&FlowsPage {
        frame: Frame::new(&console, &visit, "flows", "Live sessions"),
        flows: lines(&console),
    }))
}

async fn list(
    AxumState(console): AxumState<Arc<Console>>,
    Extension(visit): Extension<Visit>,
) -> Result<Response, Failed> {
    seen(&visit)?;
    Ok(rendered(&FlowsList {
        frame: Frame::new(&console, &visit, "flows", "Live sessions"),
        flows: lines(&console),
    }))
}

fn administrator(visit: &Visit) -> Result<(), Failed> {
    if visit.person.rights.administrator {
        return Ok(());
    }
    Err(Failed::forbidden("Only administrators end sessions.").back("/flows", "Live sessions"))
}

async fn confirm(
    AxumState(console): AxumState<Arc<Console>>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
) -> Result<Response, Failed> {
    administrator(&visit)?;
    let session = SessionId::parse(&id);
    let flow = console
        .house
        .flows()
        .into_iter()
        .find(|flow| Some(flow.session) == session);
    let flow = flow.ok_or_else(|| {
        Failed::not_found("This session has ended.").back("/flows", "Live sessions")
    })?;
    let again = crate::sign_in::again(&format!("/flows/{}/end", flow.session));
    Ok(rendered(&End {
        frame: Frame::new(&console, &visit, "flows", "End a session"),
        flow: line(flow, (console.now)().wall_us),
        fresh: visit.fresh,
        again,
    }))
}

async fn revocations(
    AxumState(console): AxumState<Arc<Console>>,
    Extension(visit): Extension<Visit>,
) -> Result<Response, Failed> {
    seen(&visit)?;
    let entries = console.state.revocations().await.map_err(|error| {
        tracing::error!(%error, "the console cannot read the kill list");
        Failed::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Not available",
            "The kill list cannot be read.",
        )
    })?;
    let entries = entries.into_iter().map(|entry| Entry {
        kind: entry.kind.label(),
        value: entry.value,
        by: entry.by,
        reason: entry.reason,
        at: utc(entry.at_us),
    });
    Ok(rendered(&Revocations {
        frame: Frame::new(&console, &visit, "revocations", "Revocations"),
        entries: entries.collect(),
        fresh: visit.fresh,
        again: crate::sign_in::again("/revocations"),
    }))
}

#[derive(Deserialize)]
struct Named {
    csrf: String,
    kind: String,
    value: String,
    #[serde(default)]
    reason: String,
}

impl Tokened for Named {
    fn csrf(&self) -> &str {
        &self.csrf
    }
}

/// A fresh administrator, and what the form names.
fn checked(sent: &Sent<Named>) -> Result<RevokedKind, Failed> {
    administrator(&sent.visit)?;
    if !sent.visit.fresh {
        return Err(Failed::stale("/revocations"));
    }
    let kind = RevokedKind::parse(&sent.form.kind);
    kind.filter(|_| (1..=VALUE_BYTES_MAX).contains(&sent.form.value.len()))
        .ok_or_else(|| Failed::refused("There is no such subject.").back("/flows", "Live sessions"))
}

async fn revoke(
    AxumState(console): AxumState<Arc<Console>>,
    sent: Sent<Named>,
) -> Result<Response, Failed> {
    let kind = checked(&sent)?;
    let reason = sent.form.reason.trim();
    if reason.is_empty() || reason.len() > REASON_BYTES_MAX {
        let text = "A reason of at most 4 KiB is needed.";
        return Err(Failed::refused(text).back("/flows", "Live sessions"));
    }
    let by = sent.visit.person.principal.oid.to_string();
    let entry = Revocation {
        kind,
        value: sent.form.value.clone(),
        by,
        reason: reason.to_owned(),
        at_us: (console.now)().wall_us,
    };
    console.house.revoke(entry).await?;
    let to = if kind == RevokedKind::Session {
        "/flows"
    } else {
        "/revocations"
    };
    Ok(Redirect::to(to).into_response())
}

async fn lift(
    AxumState(console): AxumState<Arc<Console>>,
    sent: Sent<Named>,
) -> Result<Response, Failed> {
    let kind = checked(&sent)?;
    if console.house.lift(kind, sent.form.value.clone()).await? {
        Ok(Redirect::to("/revocations").into_response())
    } else {
        Err(Failed::not_found("That is not revoked.").back("/revocations", "Revocations"))
    }
}
