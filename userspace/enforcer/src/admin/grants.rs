//! `/grants`: what reviewers allowed for a while. Taking one back needs a fresh sign-in of a reviewer.

use std::sync::Arc;

use axum::extract::{Extension, Path, State as AxumState};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use weir_state::{Grant, StateError};

use super::api;
use super::routes::{Failed, Shared, approval_id, describe, failed, reviewer};
use super::server::{AdminState, PeerUid};

pub(super) fn routes(state: Arc<AdminState>) -> Router {
    Router::new()
        .route("/grants", get(list))
        .route("/grants/{id}", get(one))
        .route("/grants/{id}/revoke", post(revoke))
        .with_state(state)
}

async fn list(AxumState(state): Shared) -> Result<Json<Vec<api::Grant>>, Failed> {
    let grants = state.state.grants().await.map_err(internal)?;
    Ok(Json(grants.into_iter().map(shown).collect()))
}

async fn one(AxumState(state): Shared, Path(id): Path<String>) -> Result<Json<api::Grant>, Failed> {
    let grant = state.state.grant(approval_id(&id)?).await;
    let grant = grant.map_err(internal)?;
    let grant = grant.ok_or_else(|| failed(StatusCode::NOT_FOUND, "no such grant"))?;
    Ok(Json(shown(grant)))
}

fn internal(error: StateError) -> Failed {
    failed(StatusCode::INTERNAL_SERVER_ERROR, error)
}

fn shown(grant: Grant) -> api::Grant {
    let state = match &grant.revoked {
        Some(_) => "revoked",
        None if grant.is_in_force(weir_clock::now()) => "in force",
        None => "expired",
    };
    let revoked = grant.revoked.as_ref();
    api::Grant {
        id: grant.approval.id.to_string(),
        scope: grant.scope.label().to_owned(),
        state: state.to_owned(),
        created_ms: grant.created_us / 1000,
        expires_ms: grant.expires_us / 1000,
        uses: grant.uses,
        used_ms: grant.used_us.map(|us| us / 1000),
        revoked_by: revoked.map(|revoked| revoked.by.clone()),
        revoked_why: revoked.map(|revoked| revoked.reason.clone()),
        approval: describe(grant.approval),
    }
}

async fn revoke(
    AxumState(state): Shared,
    Extension(PeerUid(uid)): Extension<PeerUid>,
    Path(id): Path<String>,
    Json(body): Json<api::RevokeGrantBody>,
) -> Result<Json<api::Grant>, Failed> {
    let id = approval_id(&id)?;
    let principal = state
        .signins
        .fresh(uid, weir_clock::now())
        .ok_or_else(|| failed(StatusCode::UNAUTHORIZED, "sign in first: weir login"))?;
    let who = reviewer(&state, &principal);
    let grant = state.state.revoke_grant(id, who, body.reason).await;
    let grant = grant.map_err(|error| {
        let status = if matches!(error, StateError::NotFound) {
            StatusCode::NOT_FOUND
        } else if matches!(error, StateError::NotReviewer) {
            StatusCode::FORBIDDEN
        } else {
            StatusCode::CONFLICT
        };
        failed(status, error)
    })?;
    tracing::warn!(grant = %id, by = %principal.oid, "revoked a grant");
    Ok(Json(shown(grant)))
}
