//! Grants: what reviewers allowed beyond one request, and how it is taken back.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Extension, State as AxumState};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use weir_model::ident::ApprovalId;
use weir_model::time::Now;
use weir_state::{Grant, Reviewer};

use crate::Console;
use crate::approvals::{not_taken, place, store};
use crate::failed::Failed;
use crate::guard::{Sent, Tokened};
use crate::page::{Frame, one_line, rendered, span, utc};
use crate::session::Visit;

const REASON_BYTES_MAX: usize = 4096;
const LINE_CHARS: usize = 160;

pub(crate) fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/grants", get(list))
        .route("/grants/revoke", post(revoke))
}

struct Line {
    id: String,
    scope: &'static str,
    workload: String,
    place: String,
    statement: String,
    approver: String,
    uses: i64,
    left: String,
    expires_ms: i64,
    /// In force, and this person may take it back.
    mine: bool,
    over: String,
}

#[derive(Template)]
#[template(path = "grants.html")]
struct Grants {
    frame: Frame,
    in_force: Vec<Line>,
    over: Vec<Line>,
    fresh: bool,
    again: String,
}

fn line(grant: Grant, visit: &Visit, now: Now) -> (bool, Line) {
    let in_force = grant.is_in_force(now);
    let asked = &grant.approval.new;
    let mut groups = asked.groups.iter().chain(&asked.escalate_groups);
    let mine = groups.any(|group| visit.person.groups.contains(group));
    let over = match &grant.revoked {
        Some(revoked) => format!("revoked {}: {}", utc(revoked.at_us), revoked.reason),
        None => format!("ended {}", utc(grant.expires_us)),
    };
    let line = Line {
        id: grant.approval.id.to_string(),
        scope: grant.scope.label(),
        place: place(&asked.target, &asked.database),
        workload: asked.workload.clone(),
        statement: one_line(&asked.statement, LINE_CHARS),
        approver: grant.approval.approver.clone(),
        uses: grant.uses,
        left: span((grant.expires_us - now.wall_us) / 1_000_000),
        expires_ms: grant.expires_us / 1000,
        mine: in_force && mine,
        over,
    };
    (in_force, line)
}

async fn list(
    AxumState(console): AxumState<Arc<Console>>,
    Extension(visit): Extension<Visit>,
) -> Result<Response, Failed> {
    let now = (console.now)();
    let (mut in_force, mut over) = (Vec::new(), Vec::new());
    for grant in console.state.grants().await.map_err(store)? {
        let (runs, line) = line(grant, &visit, now);
        if runs { &mut in_force } else { &mut over }.push(line);
    }
    over.truncate(50);
    Ok(rendered(&Grants {
        frame: Frame::new(&console, &visit, "grants", "Grants"),
        in_force,
        over,
        fresh: visit.fresh,
        again: crate::sign_in::again("/grants"),
    }))
}

#[derive(Deserialize)]
struct Back {
    csrf: String,
    id: String,
    #[serde(default)]
    reason: String,
}

impl Tokened for Back {
    fn csrf(&self) -> &str {
        &self.csrf
    }
}

async fn revoke(
    AxumState(console): AxumState<Arc<Console>>,
    sent: Sent<Back>,
) -> Result<Response, Failed> {
    let person = &sent.visit.person;
    if !person.rights.reviewer {
        return Err(Failed::forbidden("Only reviewers take grants back.").back("/grants", "Grants"));
    }
    if !sent.visit.fresh {
        return Err(Failed::stale("/grants"));
    }
    let reason = sent.form.reason.trim();
    if reason.is_empty() || reason.len() > REASON_BYTES_MAX {
        let text = "A reason of at most 4 KiB is needed.";
        return Err(Failed::refused(text).back("/grants", "Grants"));
    }
    let id = ApprovalId::parse(&sent.form.id)
        .ok_or_else(|| Failed::not_found("There is no such grant.").back("/grants", "Grants"))?;
    let reviewer = Reviewer {
        tenant: person.principal.tenant.to_string(),
        oid: person.principal.oid.to_string(),
        name: person.shown.clone(),
        groups: person.groups.clone(),
    };
    let revoked = console
        .state
        .revoke_grant(id, reviewer, reason.to_owned())
        .await;
    match revoked {
        Ok(_) => {
            tracing::warn!(oid = %person.principal.oid, grant = %id, "a grant was taken back in the console");
            Ok(Redirect::to("/grants").into_response())
        }
        Err(error) => Err(not_taken(error).back("/grants", "Grants")),
    }
}
