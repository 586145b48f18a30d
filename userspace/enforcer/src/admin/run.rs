//! `/run`: a person signs in, and the process that asked becomes governed.
//!
//! The broker moves that very process (the peer of this socket) below the workload's cgroup, so
//! nothing can be named that is not the asker's own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Extension, State as AxumState};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use weir_identify::{DeviceHandle, Method, Signed, WorkloadIdentity};
use weir_relay::HostError;

use super::api;
use super::routes::{Failed, Shared, failed};
use super::server::{AdminState, PeerPid};

/// Sign-ins under way.
const UNDER_WAY_MAX: usize = 64;

struct UnderWay {
    workload: String,
    handle: DeviceHandle,
}

/// By the pid of the process that asked.
#[derive(Default)]
pub(crate) struct Runs(Mutex<HashMap<u32, UnderWay>>);

impl Runs {
    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<u32, UnderWay>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn routes(state: Arc<AdminState>) -> Router {
    Router::new()
        .route("/run", post(begin))
        .route("/run/poll", post(poll))
        .with_state(state)
}

async fn begin(
    AxumState(state): Shared,
    Extension(PeerPid(pid)): Extension<PeerPid>,
    Json(body): Json<api::RunBody>,
) -> Result<Json<api::LoginStart>, Failed> {
    let workload = persons_workload(&state, &body.agent)?;
    let start = state.identify.device_begin_offline().await;
    let start = start.map_err(|error| failed(StatusCode::BAD_GATEWAY, error.operator_text()))?;
    let mut runs = state.runs.locked();
    if runs.len() >= UNDER_WAY_MAX {
        // Whoever does not come back is not waited for.
        runs.clear();
    }
    let under_way = UnderWay {
        workload: workload.name,
        handle: start.handle,
    };
    runs.insert(pid, under_way);
    Ok(Json(api::LoginStart {
        user_code: start.user_code,
        verification_uri: start.verification_uri,
        interval_s: start.interval_s,
        expires_s: start.expires_s,
    }))
}

async fn poll(
    AxumState(state): Shared,
    Extension(PeerPid(pid)): Extension<PeerPid>,
) -> Result<Json<api::LoginState>, Failed> {
    let found = state
        .runs
        .locked()
        .get(&pid)
        .map(|run| (run.workload.clone(), run.handle.clone()));
    let (name, handle) =
        found.ok_or_else(|| failed(StatusCode::CONFLICT, "no sign-in is under way"))?;
    let now = weir_clock::now();
    let signed = match state.identify.device_poll_signed(&handle, now).await {
        Ok(Some(signed)) => signed,
        Ok(None) => return Ok(Json(api::LoginState::Pending)),
        Err(error) => {
            state.runs.locked().remove(&pid);
            let reason = error.operator_text();
            return Ok(Json(api::LoginState::Refused { reason }));
        }
    };
    state.runs.locked().remove(&pid);
    let who = govern(&state, (&name, pid), signed).await?;
    Ok(Json(api::LoginState::SignedIn { who }))
}

/// Moves the process below the workload's cgroup and binds its tree to the person.
pub(super) async fn govern(
    state: &AdminState,
    (name, pid): (&str, u32),
    signed: Signed,
) -> Result<api::Who, Failed> {
    let workload = persons_workload(state, name)?;
    let cgroup = state.node.enrol(name, pid).await.map_err(|error| {
        let error: HostError = error;
        failed(StatusCode::BAD_GATEWAY, error)
    })?;
    let who = super::signin::describe_person(&signed.principal);
    let identity = WorkloadIdentity {
        cgroup: Some(cgroup),
        ..workload
    };
    tracing::info!(workload = %name, pid, cgroup, oid = %who.oid, "a process tree is governed");
    state.identify.admit(&identity, signed, weir_clock::now());
    Ok(who)
}

pub(super) fn persons_workload(state: &AdminState, name: &str) -> Result<WorkloadIdentity, Failed> {
    let identity = state.node.identity(name);
    identity
        .filter(|identity| matches!(identity.method, Method::Person))
        .ok_or_else(|| {
            let text = "there is no such agent for people: a workload with identity.kind person";
            failed(StatusCode::NOT_FOUND, text)
        })
}
