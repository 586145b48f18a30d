//! Sign-ins by browser: the command line owns the loopback listener, the node owns everything that
//! proves something (state, nonce, verifier, tokens).

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Extension, State as AxumState};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use weir_identify::{CodeAnswer, CodeHandle, CodeRequest, CodeStart, Signed, Unidentified};

use super::api;
use super::routes::{Failed, Shared, failed};
use super::run;
use super::server::{AdminState, PeerPid, PeerUid};

/// Sign-ins under way, of each kind.
const UNDER_WAY_MAX: usize = 64;

struct RunUnderWay {
    workload: String,
    handle: CodeHandle,
}

/// Sign-ins whose browser has not come back.
#[derive(Default)]
pub(super) struct Browsers {
    /// By the uid of the peer.
    reviewers: Mutex<HashMap<u32, CodeHandle>>,
    /// By the pid of the process that becomes governed.
    runs: Mutex<HashMap<u32, RunUnderWay>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whoever does not come back is not waited for.
fn keep<K: Eq + Hash, V>(mutex: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut map = locked(mutex);
    if map.len() >= UNDER_WAY_MAX {
        map.clear();
    }
    map.insert(key, value);
}

pub(super) fn routes(state: Arc<AdminState>) -> Router {
    Router::new()
        .route("/login/browser", post(login))
        .route("/login/browser/answer", post(login_answer))
        .route("/run/browser", post(begin_run))
        .route("/run/browser/answer", post(run_answer))
        .with_state(state)
}

async fn start(
    state: &AdminState,
    redirect_uri: String,
    offline: bool,
) -> Result<CodeStart, Failed> {
    let request = CodeRequest {
        redirect_uri,
        client: None,
        offline,
        again: false,
    };
    let start = state.identify.authorize_url(&request, weir_clock::now());
    start
        .await
        .map_err(|error| failed(StatusCode::BAD_GATEWAY, error.operator_text()))
}

async fn redeem(
    state: &AdminState,
    handle: Option<CodeHandle>,
    body: &api::BrowserAnswer,
) -> Result<Result<Signed, Unidentified>, Failed> {
    let handle =
        handle.ok_or_else(|| failed(StatusCode::CONFLICT, "no sign-in by browser is under way"))?;
    let answer = match CodeAnswer::parse(&body.query) {
        Ok(answer) => answer,
        Err(problem) => return Ok(Err(Unidentified::Answer(problem))),
    };
    let now = weir_clock::now();
    Ok(state.identify.redeem(handle, answer, now).await)
}

fn refused(error: &Unidentified) -> Json<api::LoginState> {
    let reason = error.operator_text();
    Json(api::LoginState::Refused { reason })
}

async fn login(
    AxumState(state): Shared,
    Extension(PeerUid(uid)): Extension<PeerUid>,
    Json(body): Json<api::BrowserBody>,
) -> Result<Json<api::BrowserStart>, Failed> {
    let start = start(&state, body.redirect_uri, false).await?;
    keep(&state.signins.browsers.reviewers, uid, start.handle);
    Ok(Json(api::BrowserStart { url: start.url }))
}

async fn login_answer(
    AxumState(state): Shared,
    Extension(PeerUid(uid)): Extension<PeerUid>,
    Json(body): Json<api::BrowserAnswer>,
) -> Result<Json<api::LoginState>, Failed> {
    let handle = locked(&state.signins.browsers.reviewers).remove(&uid);
    match redeem(&state, handle, &body).await? {
        Ok(signed) => {
            let now = weir_clock::now();
            let who = state.signins.finish(uid, signed.principal, now);
            Ok(Json(api::LoginState::SignedIn { who }))
        }
        Err(error) => Ok(refused(&error)),
    }
}

async fn begin_run(
    AxumState(state): Shared,
    Extension(PeerPid(pid)): Extension<PeerPid>,
    Json(body): Json<api::RunBrowserBody>,
) -> Result<Json<api::BrowserStart>, Failed> {
    let workload = run::persons_workload(&state, &body.agent)?.name;
    let start = start(&state, body.redirect_uri, true).await?;
    let handle = start.handle;
    keep(
        &state.signins.browsers.runs,
        pid,
        RunUnderWay { workload, handle },
    );
    Ok(Json(api::BrowserStart { url: start.url }))
}

async fn run_answer(
    AxumState(state): Shared,
    Extension(PeerPid(pid)): Extension<PeerPid>,
    Json(body): Json<api::BrowserAnswer>,
) -> Result<Json<api::LoginState>, Failed> {
    let under_way = locked(&state.signins.browsers.runs).remove(&pid);
    let (workload, handle) = match under_way {
        Some(run) => (run.workload, Some(run.handle)),
        None => (String::new(), None),
    };
    match redeem(&state, handle, &body).await? {
        Ok(signed) => {
            let who = run::govern(&state, (&workload, pid), signed).await?;
            Ok(Json(api::LoginState::SignedIn { who }))
        }
        Err(error) => Ok(refused(&error)),
    }
}
