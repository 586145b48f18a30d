//! From a text of SQL, a request or a command line to what policy is asked.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use weir_mask::MaskKey;
use weir_model::request::Intent;
use weir_postgres::understand::{NameScope, SqlLimits, understand};

use super::scene::SceneTarget;

/// What somebody asks for.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    Sql(String),
    /// `METHOD /path?query` and the body.
    Request {
        line: String,
        body: String,
    },
    Command(String),
}

/// What becomes of it before policy.
#[derive(Debug)]
pub(crate) enum Asked {
    /// One intent for each statement.
    Intents(Vec<Arc<Intent>>),
    /// Not understood, or not supported: refused whatever policy says.
    Refused(String),
}

impl Question {
    /// As the protocol of the target understands it.
    pub(crate) fn ask(&self, target: &SceneTarget) -> Result<Asked> {
        match (self, target.reference.namespace) {
            (Self::Sql(sql), "Postgres") => Ok(sql_intents(sql, target)),
            (Self::Request { line, body }, "Kubernetes") => request_intents(line, body, target),
            (Self::Command(command), "Ssh") => {
                let name = &target.reference.name;
                let request = weir_ssh::command_line(name, &target.user, command);
                Ok(Asked::Intents(vec![request.intent]))
            }
            (Self::Sql(_), other) => bail!("sql is not for a target of {other}"),
            (Self::Request { .. }, other) => bail!("request is not for a target of {other}"),
            (Self::Command(_), other) => bail!("command is not for a target of {other}"),
        }
    }
}

fn sql_intents(sql: &str, target: &SceneTarget) -> Asked {
    let Some(catalog) = &target.catalog else {
        return Asked::Refused("the target has no catalog".to_owned());
    };
    let scope = NameScope {
        catalog,
        target: &target.reference.name,
        database: &target.database,
        search_path: &target.search_path,
        role: &target.user,
        lenient: false,
        path_settled: true,
    };
    match understand(sql, &scope, &SqlLimits::default()) {
        Ok(statements) if statements.is_empty() => {
            Asked::Refused("there is no statement".to_owned())
        }
        Ok(statements) => {
            let intents = statements.into_iter().map(|statement| statement.intent);
            Asked::Intents(intents.collect())
        }
        Err(refusal) => Asked::Refused(refusal.to_string()),
    }
}

fn request_intents(line: &str, body: &str, target: &SceneTarget) -> Result<Asked> {
    let (method, uri) = line
        .split_once(' ')
        .context("a request is METHOD /path, such as GET /api/v1/pods")?;
    let method = method.parse().context("the method")?;
    let (path, query) = uri.trim().split_once('?').unwrap_or((uri.trim(), ""));
    let content = (!body.is_empty()).then_some("application/json");
    // Nothing of it is kept: any key will do.
    let key = MaskKey::new([0; 32]);
    let name = &target.reference.name;
    let body = (body.as_bytes(), content);
    let asked = weir_kubernetes::question(name, &method, (path, query), body, &key);
    Ok(match asked {
        Ok(question) => Asked::Intents(vec![question.request.intent]),
        Err(unclear) => Asked::Refused(unclear.0.to_owned()),
    })
}
