//! What the record knows around a held request: the process and its parents, and what else its
//! session did. Fetched by the page after it is shown, so that a slow store keeps nobody waiting.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Extension, Path, State as AxumState};
use axum::response::Response;

use crate::Console;
use crate::failed::Failed;
use crate::limit::Of;
use crate::page::rendered;
use crate::replay::{Entry, Process, entries, process};
use crate::session::Visit;

/// Facts that are read; the last of them are shown.
const FACTS_MAX: u32 = 500;
const SHOWN_MAX: usize = 30;
/// A request that the record does not have after this long is not waited for any more.
const LATE_US: i64 = 600_000_000;

#[derive(Template)]
#[template(path = "approval_context.html")]
struct Context {
    process: Option<Process>,
    entries: Vec<Entry>,
    session: String,
    seq: u64,
    away: String,
    /// This person may open the whole session.
    whole: bool,
    id: String,
    /// The record has not got to this request yet: the page asks again.
    late: bool,
}

pub(super) async fn context(
    AxumState(console): AxumState<Arc<Console>>,
    Extension(visit): Extension<Visit>,
    Path(id): Path<String>,
) -> Result<Response, Failed> {
    if !console.limits.take(Of::Search(visit.key), (console.now)()) {
        return Err(Failed::too_often());
    }
    let row = super::row(&console, &id).await?;
    let whole = crate::recorded::may_see(&visit, std::slice::from_ref(&row));
    let (mut found, mut away) = (Vec::new(), String::new());
    if whole {
        match console.house.facts(row.new.session, 0, FACTS_MAX).await {
            Ok(recorded) => found = recorded.facts,
            Err(error) => away = error.0,
        }
    } else {
        "Only its reviewers, auditors and administrators see the session.".clone_into(&mut away);
    }
    let mut entries = entries(&found);
    let seq = u64::from(row.new.seq);
    let complete = found.len() >= FACTS_MAX as usize || entries.iter().any(|one| one.seq == seq);
    let young = (console.now)().wall_us - row.new.created_us < LATE_US;
    let before = entries.len().saturating_sub(SHOWN_MAX);
    entries.drain(..before);
    Ok(rendered(&Context {
        process: process(&found, seq),
        late: whole && away.is_empty() && !complete && young,
        id: row.id.to_string(),
        entries,
        session: row.new.session.to_string(),
        seq,
        away,
        whole,
    }))
}
