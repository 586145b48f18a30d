//! The inbox, one request in full, and the word of a reviewer.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Extension, Path, State as AxumState};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use weir_model::effect::Effect;
use weir_model::ident::ApprovalId;
use weir_state::{
    ApprovalRow, ApprovalState, Decision, GrantAsk, GrantScope, Reviewer, StateError,
};

use crate::Console;
use crate::failed::Failed;
use crate::guard::{Sent, Tokened};
use crate::highlight::{Piece, pieces};
use crate::page::{Frame, one_line, rendered, short, span, utc};
use crate::session::Visit;

mod context;
mod events;

/// Longest justification.
const JUSTIFICATION_BYTES_MAX: usize = 4096;
/// Decided requests below the inbox.
const DECIDED_SHOWN: usize = 25;
/// Characters of a statement in a list.
const LINE_CHARS: usize = 160;

pub(crate) fn routes() -> Router<Arc<Console>> {
    Router::new()
        .route("/", get(|| async { Redirect::to("/approvals") }))
        .route("/events", get(events::follow))
        .route("/approvals", get(inbox))
        .route("/approvals/list", get(list))
        .route("/approvals/{id}", get(detail))
        .route("/approvals/{id}/context", get(context::context))
        .route("/approvals/{id}/decision", post(decide))
}

/// A request in a list.
struct Line {
    id: String,
    state: &'static str,
    workload: String,
    place: String,
    statement: String,
    groups: String,
    rule: String,
    age: String,
    expires_ms: i64,
    left: String,
    /// This person may decide it.
    mine: bool,
    approver: String,
}

#[derive(Template)]
#[template(path = "inbox.html")]
struct Inbox {
    frame: Frame,
    waiting: Vec<Line>,
    decided: Vec<Line>,
}

#[derive(Template)]
#[template(path = "inbox_list.html")]
struct InboxList {
    waiting: Vec<Line>,
    decided: Vec<Line>,
}

#[derive(Template)]
#[template(path = "approval.html")]
struct Detail {
    frame: Frame,
    id: String,
    short: String,
    state: &'static str,
    statement: Vec<Piece>,
    parameters: String,
    accesses: Vec<Access>,
    workload: String,
    principal: String,
    tenant: String,
    application: String,
    on_behalf_of: String,
    process: String,
    target: String,
    database: String,
    rules: Vec<String>,
    reason: String,
    groups: Vec<GroupState>,
    approvals: u32,
    escalates: String,
    session: String,
    seq: u32,
    created: String,
    expires_ms: i64,
    left: String,
    approver: String,
    justification: String,
    decided: String,
    stand: Stand,
    again: String,
    effect: Option<Effect>,
}

/// One effect on one object.
struct Access {
    effect: String,
    kind: String,
    object: String,
    /// It changes something.
    writes: bool,
}

struct GroupState {
    name: String,
    approved_by: String,
}

/// What this person can do about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    /// Decide it.
    May,
    /// Decide it after signing in again.
    Stale,
    /// It is their own, or made on their behalf.
    Own,
    /// Not one of its groups.
    Other,
    /// It is over.
    Over,
}

impl Stand {
    fn of(row: &ApprovalRow, visit: &Visit) -> Self {
        let me = &visit.person.principal.oid;
        let is_me = |text: &str| {
            let bare = text.rsplit('/').next().unwrap_or(text);
            bare.eq_ignore_ascii_case(me)
        };
        if row.state != ApprovalState::Pending {
            Self::Over
        } else if is_me(&row.new.principal) || is_me(&row.new.on_behalf_of) {
            Self::Own
        } else if !is_for(row, visit) {
            Self::Other
        } else if visit.fresh {
            Self::May
        } else {
            Self::Stale
        }
    }
}

/// Addressed to a group of this person.
fn is_for(row: &ApprovalRow, visit: &Visit) -> bool {
    let groups = &visit.person.groups;
    let mut asked = row.new.groups.iter().chain(&row.new.escalate_groups);
    asked.any(|group| groups.contains(group))
}

impl Line {
    fn new(row: ApprovalRow, visit: &Visit, now_us: i64) -> Self {
        let stand = Stand::of(&row, visit);
        Self {
            id: row.id.to_string(),
            state: row.state.label(),
            place: place(&row.new.target, &row.new.database),
            workload: row.new.workload,
            statement: one_line(&row.new.statement, LINE_CHARS),
            groups: row.new.groups.join(", "),
            rule: row.new.rules.join(", "),
            age: span((now_us - row.new.created_us) / 1_000_000),
            expires_ms: row.new.expires_us / 1000,
            left: span((row.new.expires_us - now_us) / 1_000_000),
            mine: matches!(stand, Stand::May | Stand::Stale),
            approver: row.approver,
        }
    }
}

pub(crate) fn place(target: &str, database: &str) -> String {
    if database.is_empty() {
        target.to_owned()
    } else {
        format!("{target}/{database}")
    }
}

/// `delete Table:demo/shop/public/ledger`
fn access(text: &str) -> Access {
    let (effect, object) = text.split_once(' ').unwrap_or((text, ""));
    let (kind, object) = object.split_once(':').unwrap_or(("", object));
    let reads = [
        "select", "read", "get", "list", "watch", "connect", "call", "exec",
    ];
    Access {
        effect: effect.to_owned(),
        kind: kind.to_owned(),
        object: object.to_owned(),
        writes: !reads.iter().any(|read| effect.starts_with(read)),
    }
}

/// Waiting ones first, those for this person before others; then what was decided.
async fn lines(console: &Console, visit: &Visit) -> Result<(Vec<Line>, Vec<Line>), Failed> {
    let rows = console.state.list().await.map_err(store)?;
    let now_us = (console.now)().wall_us;
    let (waiting, decided): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .partition(|row| row.state == ApprovalState::Pending && row.new.expires_us > now_us);
    let line = |row| Line::new(row, visit, now_us);
    let mut waiting: Vec<Line> = waiting.into_iter().map(line).collect();
    waiting.sort_by_key(|line| (!line.mine, line.expires_ms));
    let decided = decided.into_iter().take(DECIDED_SHOWN).map(line).collect();
    Ok((waiting, decided))
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "used as a function of errors"
)]
pub(crate) fn store(error: StateError) -> Failed {
    tracing::error!(%error, "the console cannot read the state store");
    let text = "The store of approvals does not answer. Nothing was changed.";
    Failed::new(StatusCode::INTERNAL_SERVER_ERROR, "Not available", text)
}

async fn inbox(
    AxumState(console): AxumState<Arc<Console>>,
    Extension(visit): Extension<Visit>,
) -> Result<Response, Failed> {
    let (waiting, decided) = lines(&console, &visit).await?;
    Ok(rendered(&Inbox {
        frame: Frame::new(&console, &visit, "approvals", "Approvals"),
        waiting,
        decided,
    }))
}

async fn list(
    AxumState(console): AxumState<Arc<Console>>,
    Extension(visit): Extension<Visit>,
) -> Result<Response, Failed> {
    let (waiting, decided) = lines(&console, &visit).await?;
    Ok(rendered(&InboxList { waiting, decided }))
}

async fn row(console: &Console, id: &str) -> Result<ApprovalRow, Failed> {
    let unknown = || Failed::not_found("There is no such request.").back("/approvals", "Approvals");
    let id = ApprovalId::parse(id).ok_or_else(unknown)?;
    let row = console.state.get(id).await.map_err(store)?;
    row.ok_or_else(unknown)
}

async fn detail(
    AxumState(console): AxumState<Arc<Console>>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
) -> Result<Response, Failed> {
    let row = row(&console, &id).await?;
    Ok(rendered(&describe(&console, &visit, row)))
}

fn describe(console: &Console, visit: &Visit, row: ApprovalRow) -> Detail {
    let now_us = (console.now)().wall_us;
    let id = row.id.to_string();
    let groups = row.new.groups.iter().map(|name| {
        let vote = row.votes.iter().find(|vote| vote.group == *name);
        GroupState {
            name: name.clone(),
            approved_by: vote.map(|vote| vote.name.clone()).unwrap_or_default(),
        }
    });
    let stand = Stand::of(&row, visit);
    let title = format!("{} on {}", row.new.workload, row.new.target);
    Detail {
        frame: Frame::new(console, visit, "approvals", title),
        short: short(&id).to_owned(),
        again: crate::sign_in::again(&format!("/approvals/{id}")),
        stand,
        state: row.state.label(),
        statement: pieces(&row.new.statement),
        approvals: row.new.approvals,
        escalates: if row.new.escalate_us > 0 {
            format!(
                "{} from {} UTC",
                row.new.escalate_groups.join(", "),
                utc(row.new.escalate_us)
            )
        } else {
            String::new()
        },
        parameters: row.new.parameters,
        accesses: row.new.accesses.iter().map(|text| access(text)).collect(),
        groups: groups.collect(),
        workload: row.new.workload,
        principal: row.new.principal,
        tenant: row.new.tenant,
        application: row.new.application,
        on_behalf_of: row.new.on_behalf_of,
        process: row.new.process,
        target: row.new.target,
        database: row.new.database,
        rules: row.new.rules,
        reason: row.new.reason,
        session: row.new.session.to_string(),
        seq: row.new.seq,
        created: utc(row.new.created_us),
        expires_ms: row.new.expires_us / 1000,
        left: span((row.new.expires_us - now_us) / 1_000_000),
        approver: row.approver,
        justification: row.justification,
        decided: row.decided_us.map(utc).unwrap_or_default(),
        effect: row.new.effect,
        id,
    }
}

#[derive(Deserialize)]
struct Word {
    csrf: String,
    decision: String,
    #[serde(default)]
    justification: String,
    /// Scope of a grant; empty for this one request.
    #[serde(default)]
    grant: String,
    #[serde(default)]
    minutes: Option<u32>,
}

impl Tokened for Word {
    fn csrf(&self) -> &str {
        &self.csrf
    }
}

async fn decide(
    AxumState(console): AxumState<Arc<Console>>,
    Path(id): Path<String>,
    sent: Sent<Word>,
) -> Result<Response, Failed> {
    let (person, here) = (&sent.visit.person, format!("/approvals/{id}"));
    let row = row(&console, &id).await?;
    if !person.rights.reviewer {
        return Err(Failed::forbidden("Only reviewers decide.").back(here, "Back to the request"));
    }
    if !sent.visit.fresh {
        return Err(Failed::stale(&here));
    }
    let approve = match sent.form.decision.as_str() {
        "approve" => true,
        "deny" => false,
        _ => return Err(Failed::refused("A request is approved or denied.")),
    };
    if sent.form.justification.len() > JUSTIFICATION_BYTES_MAX {
        let text = "The justification is longer than 4 KiB.";
        return Err(Failed::refused(text).back(here, "Back to the request"));
    }
    let decision = Decision {
        approve,
        reviewer: Reviewer {
            tenant: person.principal.tenant.to_string(),
            oid: person.principal.oid.to_string(),
            name: person.shown.clone(),
            groups: person.groups.clone(),
        },
        grant: grant(&sent.form, approve)?,
        justification: sent.form.justification,
    };
    let decided = console
        .state
        .decide(row.id, decision, (console.now)())
        .await;
    match decided {
        Ok(_) => {
            let oid = &person.principal.oid;
            tracing::info!(%oid, approval = %row.id, approve, "decided in the console");
            Ok(Redirect::to(&here).into_response())
        }
        Err(error) => Err(not_taken(error).back(here, "Back to the request")),
    }
}

/// What is allowed beyond the request; only with an approval.
fn grant(form: &Word, approve: bool) -> Result<Option<GrantAsk>, Failed> {
    if form.grant.is_empty() || !approve {
        return Ok(None);
    }
    let scope = GrantScope::parse(&form.grant);
    let scope = scope.ok_or_else(|| Failed::refused("There is no such grant."))?;
    let minutes = form.minutes.filter(|minutes| (1..=1440).contains(minutes));
    let minutes = minutes.ok_or_else(|| Failed::refused("A grant is for 1 minute to 24 hours."))?;
    Ok(Some(GrantAsk {
        scope,
        for_s: minutes * 60,
    }))
}

/// Why a word does not count. The rules are the store's; these are their words.
pub(crate) fn not_taken(error: StateError) -> Failed {
    let (status, title) = match &error {
        StateError::OwnRequest | StateError::NotReviewer => (StatusCode::FORBIDDEN, "Not allowed"),
        StateError::NoJustification | StateError::TooLarge | StateError::BadGrant => {
            (StatusCode::BAD_REQUEST, "Not taken")
        }
        StateError::NotFound => (StatusCode::NOT_FOUND, "Not found"),
        StateError::NotPending(_) | StateError::Expired | StateError::AlreadyApproved => {
            (StatusCode::CONFLICT, "Too late")
        }
        StateError::File(_)
        | StateError::Store { .. }
        | StateError::Server { .. }
        | StateError::Unreachable(_)
        | StateError::NoAnswer
        | StateError::Corrupt(_)
        | StateError::TooNew
        | StateError::Stopped
        | StateError::Full
        | StateError::NoGroups => return store(error),
    };
    Failed::new(status, title, sentence(&error.to_string()))
}

/// Error texts start small.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_uppercase().to_string());
    format!("{}{}.", first.unwrap_or_default(), chars.as_str())
}
