//! Routes and their answers.

use std::sync::Arc;

use axum::extract::{Extension, Path, State as AxumState};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use prometheus::TextEncoder;
use weir_identify::DevicePoll;
use weir_model::ident::{ApprovalId, Principal, SessionId};
use weir_relay::KillOutcome;
use weir_state::{ApprovalRow, Decision, GrantAsk, GrantScope, Reviewer};

use super::api;
use super::server::{AdminState, PeerUid};

pub(super) type Shared = AxumState<Arc<AdminState>>;

/// Longest justification.
pub(super) const JUSTIFICATION_BYTES_MAX: usize = 4096;

/// An error with its status.
pub(super) struct Failed(StatusCode, String);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, Json(api::ErrorBody { error: self.1 })).into_response()
    }
}

pub(super) fn failed(status: StatusCode, error: impl ToString) -> Failed {
    Failed(status, error.to_string())
}

/// Liveness, readiness, metrics.
pub(super) fn health(state: Arc<AdminState>) -> Router {
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(state)
}

/// Everything; only for the unix socket.
pub(super) fn all(state: Arc<AdminState>) -> Router {
    let own = Router::new()
        .route("/flows", get(flows))
        .route("/flows/{id}/kill", post(kill))
        .route("/approvals", get(approvals))
        .route("/approvals/{id}", get(approval))
        .route("/approvals/{id}/decision", post(decide))
        .route("/login", post(login))
        .route("/login/poll", post(login_poll))
        .route("/logout", post(logout))
        .route("/whoami", get(whoami))
        .with_state(Arc::clone(&state));
    health(Arc::clone(&state))
        .merge(own)
        .merge(super::browser::routes(Arc::clone(&state)))
        .merge(super::revocations::routes(Arc::clone(&state)))
        .merge(super::grants::routes(Arc::clone(&state)))
        .merge(super::audit::routes(Arc::clone(&state)))
        .merge(super::run::routes(state))
}

async fn ready(AxumState(state): Shared) -> Response {
    let pending = (state.readiness)();
    let status = if pending.is_empty() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        Json(api::Ready {
            ready: pending.is_empty(),
            pending,
        }),
    )
        .into_response()
}

async fn metrics(AxumState(state): Shared) -> Result<String, Failed> {
    TextEncoder::new()
        .encode_to_string(&state.metrics.gather())
        .map_err(|error| failed(StatusCode::INTERNAL_SERVER_ERROR, error))
}

async fn flows(AxumState(state): Shared) -> Json<Vec<api::Flow>> {
    let now = weir_clock::now();
    let rows = state.node.flows().into_iter().map(|row| api::Flow {
        session: row.session.to_string(),
        workload: row.workload.to_string(),
        target: row.target.to_string(),
        presented_by: row.owner.attested.map(|own| own.principal),
        principal: row.owner.principal,
        client_addr: row.client_addr,
        server_addr: row.server_addr,
        pid: row.pid,
        comm: row.comm,
        age_s: (now.wall_us - row.opened_us) / 1_000_000,
    });
    Json(rows.collect())
}

async fn kill(
    AxumState(state): Shared,
    Path(id): Path<String>,
) -> Result<Json<&'static str>, Failed> {
    let session = SessionId::parse(&id)
        .ok_or_else(|| failed(StatusCode::BAD_REQUEST, "that is not a session id"))?;
    match state.node.kill(session) {
        KillOutcome::Asked => Ok(Json("asked")),
        KillOutcome::NoSuchFlow => Err(failed(StatusCode::NOT_FOUND, "no such live session")),
    }
}

async fn approvals(AxumState(state): Shared) -> Result<Json<Vec<api::Approval>>, Failed> {
    let rows = state
        .state
        .list()
        .await
        .map_err(|error| failed(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    Ok(Json(rows.into_iter().map(describe).collect()))
}

async fn approval(
    AxumState(state): Shared,
    Path(id): Path<String>,
) -> Result<Json<api::Approval>, Failed> {
    let row = state
        .state
        .get(approval_id(&id)?)
        .await
        .map_err(|error| failed(StatusCode::INTERNAL_SERVER_ERROR, error))?
        .ok_or_else(|| failed(StatusCode::NOT_FOUND, "no such approval"))?;
    Ok(Json(describe(row)))
}

pub(super) fn approval_id(text: &str) -> Result<ApprovalId, Failed> {
    ApprovalId::parse(text)
        .ok_or_else(|| failed(StatusCode::BAD_REQUEST, "that is not an approval id"))
}

pub(super) fn describe(row: ApprovalRow) -> api::Approval {
    api::Approval {
        id: row.id.to_string(),
        state: row.state.label().to_owned(),
        created_ms: row.new.created_us / 1000,
        expires_ms: row.new.expires_us / 1000,
        session: row.new.session.to_string(),
        workload: row.new.workload,
        principal: row.new.principal,
        target: row.new.target,
        database: row.new.database,
        statement: row.new.statement,
        parameters: row.new.parameters,
        accesses: row.new.accesses,
        process: row.new.process,
        rules: row.new.rules,
        groups: row.new.groups,
        reason: row.new.reason,
        approver: row.approver,
        justification: row.justification,
        approvals: row.new.approvals,
        approved_by: row.votes.into_iter().map(|vote| vote.name).collect(),
        effect: row.new.effect,
    }
}

async fn decide(
    AxumState(state): Shared,
    Extension(PeerUid(uid)): Extension<PeerUid>,
    Path(id): Path<String>,
    Json(body): Json<api::DecideBody>,
) -> Result<Json<api::Approval>, Failed> {
    let now = weir_clock::now();
    let id = approval_id(&id)?;
    let principal = state
        .signins
        .fresh(uid, now)
        .ok_or_else(|| failed(StatusCode::UNAUTHORIZED, "sign in first: weir login"))?;
    if body.justification.len() > JUSTIFICATION_BYTES_MAX {
        return Err(failed(
            StatusCode::BAD_REQUEST,
            "the justification is longer than 4 KiB",
        ));
    }
    let decision = Decision {
        approve: body.approve,
        reviewer: reviewer(&state, &principal),
        justification: body.justification,
        grant: body.grant.map(ask).transpose()?,
    };
    let row = state
        .state
        .decide(id, decision, now)
        .await
        .map_err(|error| failed(StatusCode::CONFLICT, error))?;
    Ok(Json(describe(row)))
}

fn ask(body: api::GrantBody) -> Result<GrantAsk, Failed> {
    let scope = GrantScope::parse(&body.scope).ok_or_else(|| {
        let text = "a grant is for a statement, shape, object or session";
        failed(StatusCode::BAD_REQUEST, text)
    })?;
    let for_s = body.for_s;
    Ok(GrantAsk { scope, for_s })
}

/// Somebody who signed in, with the groups that policies know.
pub(super) fn reviewer(state: &AdminState, principal: &Principal) -> Reviewer {
    let named = state.config.approvals.reviewer_groups.iter();
    let groups = named
        .filter(|(_, guid)| {
            let mut certain = principal.groups.certain();
            certain.any(|have| **have == *guid.as_str())
        })
        .map(|(name, _)| name.clone())
        .collect();
    Reviewer {
        tenant: principal.tenant.to_string(),
        oid: principal.oid.to_string(),
        name: principal.oid.to_string(),
        groups,
    }
}

async fn login(
    AxumState(state): Shared,
    Extension(PeerUid(uid)): Extension<PeerUid>,
) -> Result<Json<api::LoginStart>, Failed> {
    let start = state
        .identify
        .device_begin()
        .await
        .map_err(|error| failed(StatusCode::BAD_GATEWAY, error.operator_text()))?;
    let answer = api::LoginStart {
        user_code: start.user_code,
        verification_uri: start.verification_uri,
        interval_s: start.interval_s,
        expires_s: start.expires_s,
    };
    state.signins.begin(uid, start.handle);
    Ok(Json(answer))
}

async fn login_poll(
    AxumState(state): Shared,
    Extension(PeerUid(uid)): Extension<PeerUid>,
) -> Result<Json<api::LoginState>, Failed> {
    let handle = state
        .signins
        .under_way(uid)
        .ok_or_else(|| failed(StatusCode::CONFLICT, "no sign-in is under way"))?;
    let now = weir_clock::now();
    Ok(Json(match state.identify.device_poll(&handle, now).await {
        DevicePoll::Pending | DevicePoll::SlowDown => api::LoginState::Pending,
        DevicePoll::Done(principal) => {
            let who = state.signins.finish(uid, principal, now);
            api::LoginState::SignedIn { who }
        }
        DevicePoll::Refused(error) => {
            state.signins.give_up(uid);
            api::LoginState::Refused {
                reason: error.operator_text(),
            }
        }
    }))
}

async fn logout(
    AxumState(state): Shared,
    Extension(PeerUid(uid)): Extension<PeerUid>,
) -> StatusCode {
    state.signins.forget(uid);
    StatusCode::NO_CONTENT
}

async fn whoami(
    AxumState(state): Shared,
    Extension(PeerUid(uid)): Extension<PeerUid>,
) -> Result<Json<api::Who>, Failed> {
    let who = state.signins.who(uid, weir_clock::now());
    who.map(Json)
        .ok_or_else(|| failed(StatusCode::UNAUTHORIZED, "nobody is signed in"))
}
