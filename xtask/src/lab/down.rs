//! `lab down`: ends what was started, removes what was made, nothing else.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::model::Lab;
use super::{agents, network};
use crate::{place, say};

/// Ends one lab, or all.
pub(crate) fn run(name: &str, all: bool) -> Result<()> {
    place::need_root("a lab")?;
    if !all {
        return down(&Lab::load(name)?);
    }
    for name in Lab::names() {
        down(&Lab::load(&name)?)?;
    }
    Ok(())
}

/// Goes on after a failure, so that one stuck part leaves nothing else behind; reports the first.
pub(crate) fn down(lab: &Lab) -> Result<()> {
    let step = say::step(format!("lab '{}' down", lab.name));
    // Nodes that drain take no notice of being asked.
    for (name, process) in &lab.processes {
        if name.starts_with("node-") {
            process.end(Signal::SIGKILL);
        }
    }
    // The node before the broker, both before what they talk to.
    for name in ["node", "broker", "store", "entra", "postgres"] {
        if let Some(process) = lab.processes.get(name) {
            // PostgreSQL's SIGTERM waits for its clients.
            let ask = if name == "postgres" {
                Signal::SIGQUIT
            } else {
                Signal::SIGTERM
            };
            process.end(ask);
        }
    }
    let outcomes = [
        agents::remove(lab),
        network::remove(lab),
        remove_tree(&lab.pins),
        remove_tree(&lab.run_dir),
        remove_tree(&lab.state_dir),
    ];
    for outcome in outcomes {
        outcome?;
    }
    step.done("everything removed");
    Ok(())
}

fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("removing {}", path.display())),
    }
}

/// Copies the logs out of the way of `down`.
pub(crate) fn keep_logs(lab: &Lab) -> String {
    let to = place::target()
        .join("xtask-logs")
        .join(format!("lab-{}", lab.name));
    let _missing = fs::remove_dir_all(&to);
    let _made = fs::create_dir_all(&to);
    for entry in fs::read_dir(lab.state_dir.join("log"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let _copied = fs::copy(entry.path(), to.join(entry.file_name()));
    }
    to.display().to_string()
}
