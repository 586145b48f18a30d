//! What policy would say to a workload, by what this node knows of it: its newest principal, the
//! catalogs that were read for it, the policies in force. Nothing is asked of a server for it.

use std::sync::Arc;

use weir_console::{Away, Explained, Question};
use weir_relay::{Asker, NoAsker, Node, Protocol};

use crate::examples::{self, Report, SceneTarget};

pub(super) async fn explain(node: &Node, question: Question) -> Result<Explained, Away> {
    let (target, database) = match question.target.split_once('/') {
        Some((target, database)) => (target, Some(database)),
        None => (question.target.as_str(), None),
    };
    let asker = node.asker(question.workload.trim(), target.trim()).await;
    let asker = asker.map_err(|none| {
        Away(
            match none {
                NoAsker::NoSuchTarget => "There is no such target.",
                NoAsker::NeverSeen => {
                    "Nobody of that workload has connected since this node started, so its groups \
                     and roles are not known here. Ask again when it has."
                }
            }
            .to_owned(),
        )
    })?;
    let place = place(&asker, database)?;
    let text = &question.statement;
    let asked = match asker.protocol {
        Protocol::Postgres => examples::Question::Sql(text.clone()),
        Protocol::Kubernetes => examples::Question::Request {
            line: text.trim().to_owned(),
            body: String::new(),
        },
        Protocol::Ssh => examples::Question::Command(text.clone()),
    };
    let asked = asked
        .ask(&place)
        .map_err(|error| Away(format!("It cannot be asked: {error:#}.")))?;
    let answer = examples::answer_of(asker.bound, None, &asked, weir_clock::now());
    let answer = answer.map_err(|error| Away(format!("{error:#}.")))?;
    Ok(Explained {
        text: Report::of(&asker.policies, &answer).text(),
    })
}

/// The database that was named, or the only one that is known.
fn place(asker: &Asker, named: Option<&str>) -> Result<SceneTarget, Away> {
    let known = match (named, asker.catalogs.as_slice()) {
        (Some(name), all) => all.iter().find(|(database, _)| **database == *name.trim()),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    if asker.protocol == Protocol::Postgres && known.is_none() {
        let names: Vec<&str> = asker.catalogs.iter().map(|(name, _)| &**name).collect();
        let target = &asker.target.name;
        return Err(Away(if names.is_empty() {
            "No database of this target was read yet: the workload has to connect to it once."
                .to_owned()
        } else {
            format!(
                "Say which database, as {target}/DATABASE: {}.",
                names.join(", ")
            )
        }));
    }
    let (database, catalog) = known.map_or_else(
        || (Arc::from(""), None),
        |(database, catalog)| (Arc::clone(database), Some(Arc::clone(catalog))),
    );
    let user: Arc<str> = Arc::from(asker.user.as_str());
    Ok(SceneTarget {
        reference: asker.target.clone(),
        database,
        // PostgreSQL's default: what a session sets for itself is not known here.
        search_path: vec![Arc::clone(&user), Arc::from("public")],
        user,
        catalog,
    })
}
