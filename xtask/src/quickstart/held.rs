//! A command that waits for a reviewer.

use std::time::Duration;

use anyhow::{Context, Result};

use super::said::{Said, finish, show, until};
use super::scene::Scene;
use crate::say;

/// Starts the operator's command, approves the request whose statement has `needle`, and gives what
/// came of it.
pub(super) fn approve(scene: &Scene<'_>, command: &[&str], needle: &str) -> Result<Said> {
    say::note(format!("operator$ {}", command.join(" ")));
    let waiting = scene.start("operator", command)?;
    let id = until(Duration::from_secs(20), || {
        let list = scene.weir_json(&["approvals", "ls"])?;
        Ok(list.as_array().into_iter().flatten().find_map(|row| {
            let statement = row.get("statement")?.as_str()?;
            let id = row.get("id")?.as_str()?;
            statement.contains(needle).then(|| id.to_owned())
        }))
    })
    .context("the request was not held")?;
    let arguments = ["approvals", "approve", &id, "--justification", "quickstart"];
    let decided = scene.weir(&arguments)?;
    say::note(format!("$ weir {}", arguments.join(" ")));
    show(&decided);
    let said = finish(waiting)?;
    show(&said);
    Ok(said)
}
