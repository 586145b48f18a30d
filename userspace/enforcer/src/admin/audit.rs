//! `/audit`: changing the node's signing key.

use std::sync::Arc;

use axum::extract::State as AxumState;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use weir_record::keys::Change;

use super::routes::{Failed, Shared, failed};
use super::server::AdminState;

pub(super) fn routes(state: Arc<AdminState>) -> Router {
    Router::new()
        .route("/audit/key/rotate", post(rotate))
        .with_state(state)
}

async fn rotate(AxumState(state): Shared) -> Result<Json<Change>, Failed> {
    let (keys, spool) = state.keys.clone();
    let now_s = weir_clock::now().unix_s();
    let changed = tokio::task::spawn_blocking(move || keys.rotate(&spool, now_s)).await;
    let changed = changed.map_err(|error| failed(StatusCode::INTERNAL_SERVER_ERROR, error))?;
    let change = changed.map_err(|error| failed(StatusCode::CONFLICT, error))?;
    tracing::info!(
        number = change.number,
        key = change.key,
        "the node's key was changed"
    );
    Ok(Json(change))
}
