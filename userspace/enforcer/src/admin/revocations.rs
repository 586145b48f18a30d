//! `/revocations`: the kill list. Changing it needs a fresh sign-in of somebody who may.

use std::sync::Arc;

use axum::extract::{Extension, State as AxumState};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use weir_model::ident::{Principal, RevokedKind, SessionId};
use weir_relay::Node;
use weir_state::{Revocation, State};

use super::api;
use super::routes::{Failed, Shared, failed};
use super::server::{AdminState, PeerUid};

pub(super) fn routes(state: Arc<AdminState>) -> Router {
    Router::new()
        .route("/revocations", get(list).post(revoke))
        .route("/revocations/lift", post(lift))
        .with_state(state)
}

async fn list(AxumState(state): Shared) -> Result<Json<Vec<api::Revocation>>, Failed> {
    let entries = state
        .state
        .revocations()
        .await
        .map_err(|error| failed(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    Ok(Json(entries.into_iter().map(describe).collect()))
}

fn describe(entry: Revocation) -> api::Revocation {
    api::Revocation {
        kind: entry.kind.label().to_owned(),
        value: entry.value,
        by: entry.by,
        reason: entry.reason,
        at_ms: entry.at_us / 1000,
    }
}

async fn revoke(
    AxumState(state): Shared,
    Extension(PeerUid(uid)): Extension<PeerUid>,
    Json(body): Json<api::RevokeBody>,
) -> Result<Json<api::Revoked>, Failed> {
    let admin = administrator(&state, uid)?;
    let kind = kind_of(&body.kind)?;
    let value = value_of(kind, &body.value)?;
    let reason = body.reason.trim();
    if reason.is_empty() || reason.len() > super::routes::JUSTIFICATION_BYTES_MAX {
        let text = "a reason of at most 4 KiB is needed: --reason";
        return Err(failed(StatusCode::BAD_REQUEST, text));
    }
    let entry = Revocation {
        kind,
        value,
        by: admin.oid.to_string(),
        reason: reason.to_owned(),
        at_us: weir_clock::now().wall_us,
    };
    let ended = enforce(&state.node, &state.state, entry).await;
    let ended = ended.map_err(|text| failed(StatusCode::INTERNAL_SERVER_ERROR, text))?;
    Ok(Json(api::Revoked { ended }))
}

/// Ends what an entry names and keeps it out; how many live sessions were told.
///
/// # Errors
/// It is in force, and could not be written.
pub(crate) async fn enforce(
    node: &Node,
    state: &State,
    entry: Revocation,
) -> Result<usize, String> {
    // In force before it is written: the second that this takes may matter.
    let ended = node.revoke(entry.kind, &entry.value);
    let (kind, value, by) = (entry.kind.label(), &entry.value, &entry.by);
    tracing::warn!(kind, %value, %by, ended, "revoked");
    if entry.kind != RevokedKind::Session {
        let kept = state.revoke(entry).await;
        kept.map_err(|error| format!("in force, but only until the node is restarted: {error}"))?;
    }
    Ok(ended)
}

async fn lift(
    AxumState(state): Shared,
    Extension(PeerUid(uid)): Extension<PeerUid>,
    Json(body): Json<api::RevokeBody>,
) -> Result<StatusCode, Failed> {
    let admin = administrator(&state, uid)?;
    let kind = kind_of(&body.kind)?;
    let value = value_of(kind, &body.value)?;
    let removed = state.state.lift(kind, value.clone()).await;
    let removed = removed.map_err(|error| failed(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    if !removed {
        return Err(failed(StatusCode::NOT_FOUND, "that is not revoked"));
    }
    state.node.lift(kind, &value);
    tracing::warn!(kind = kind.label(), %value, by = %admin.oid, "lifted a revocation");
    Ok(StatusCode::NO_CONTENT)
}

fn kind_of(text: &str) -> Result<RevokedKind, Failed> {
    RevokedKind::parse(text)
        .ok_or_else(|| failed(StatusCode::BAD_REQUEST, "there is no such kind of subject"))
}

/// Values are compared as text, so they are taken in one form only.
fn value_of(kind: RevokedKind, text: &str) -> Result<String, Failed> {
    normal(kind, text).ok_or_else(|| {
        let text = "not of the right form: ids are GUIDs, a cgroup is its number";
        failed(StatusCode::BAD_REQUEST, text)
    })
}

/// The one form of a value; `None` for what names nothing.
pub(crate) fn normal(kind: RevokedKind, text: &str) -> Option<String> {
    match kind {
        RevokedKind::Tenant | RevokedKind::Principal | RevokedKind::Application => {
            uuid::Uuid::parse_str(text).ok().map(|id| id.to_string())
        }
        RevokedKind::Session => SessionId::parse(text).map(|id| id.to_string()),
        RevokedKind::Cgroup => text.parse::<u64>().ok().map(|id| id.to_string()),
        RevokedKind::Workload => (!text.is_empty()).then(|| text.to_owned()),
    }
}

/// Whoever is in one of `admin.groups`; without any, every reviewer.
fn administrator(state: &AdminState, uid: u32) -> Result<Arc<Principal>, Failed> {
    let principal = state
        .signins
        .fresh(uid, weir_clock::now())
        .ok_or_else(|| failed(StatusCode::UNAUTHORIZED, "sign in first: weir login"))?;
    let groups = if state.config.admin_groups.is_empty() {
        &state.config.approvals.reviewer_groups
    } else {
        &state.config.admin_groups
    };
    let belongs = principal
        .groups
        .certain()
        .any(|have| groups.values().any(|guid| **have == *guid.as_str()));
    if belongs {
        Ok(principal)
    } else {
        let text = "you are in none of the groups that may revoke (admin.groups)";
        Err(failed(StatusCode::FORBIDDEN, text))
    }
}
