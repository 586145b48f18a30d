//! The policies in force, and what they would say.

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Extension, Query, State as AxumState};
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;

use crate::Console;
use crate::failed::Failed;
use crate::highlight::{Piece, pieces};
use crate::house::Question;
use crate::limit::Of;
use crate::page::{Frame, rendered};
use crate::session::Visit;

const STATEMENT_BYTES_MAX: usize = 16 * 1024;

pub(crate) fn routes() -> Router<Arc<Console>> {
    Router::new().route("/policies", get(policies))
}

struct File {
    name: String,
    text: Vec<Piece>,
    rules: Vec<String>,
}

#[derive(Template)]
#[template(path = "policies.html")]
struct Policies {
    frame: Frame,
    files: Vec<File>,
    question: Question,
    can_explain: bool,
    answer: String,
    away: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    workload: String,
    target: String,
    statement: String,
}

/// Names of the rules of a file, for its summary.
fn rules(text: &str) -> Vec<String> {
    let names = text.lines().filter_map(|line| {
        let rest = line.trim_start().strip_prefix("@id(\"")?;
        rest.split_once('"').map(|(name, _)| name.to_owned())
    });
    names.collect()
}

async fn policies(
    AxumState(console): AxumState<Arc<Console>>,
    Extension(visit): Extension<Visit>,
    Query(asked): Query<Asked>,
) -> Result<Response, Failed> {
    if asked.statement.len() > STATEMENT_BYTES_MAX {
        return Err(Failed::refused("The statement is longer than 16 KiB."));
    }
    if !console.limits.take(Of::Search(visit.key), (console.now)()) {
        return Err(Failed::too_often());
    }
    let question = Question {
        workload: asked.workload,
        target: asked.target,
        statement: asked.statement,
    };
    let (mut answer, mut away) = (String::new(), String::new());
    let asking = console.house.explain(question.clone());
    let can_explain = asking.is_some();
    if let Some(asking) = asking
        && !question.statement.trim().is_empty()
    {
        match asking.await {
            Ok(explained) => answer = explained.text,
            Err(error) => away = error.0,
        }
    }
    let files = console.house.policies()?.into_iter().map(|file| File {
        rules: rules(&file.text),
        text: pieces(&file.text),
        name: file.name,
    });
    Ok(rendered(&Policies {
        frame: Frame::new(&console, &visit, "policies", "Policies"),
        files: files.collect(),
        question,
        can_explain,
        answer,
        away,
    }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn rules_are_listed_by_their_names() {
        let text = "// x\n@id(\"one\")\npermit (…);\n  @id(\"two\")\nforbid (…);";
        assert_eq!(super::rules(text), ["one", "two"]);
    }
}
