//! The one configuration file, `weir.yaml`: strict, versioned, every problem reported at once.
//!
//! `read` turns YAML into a tree, `raw` names every field, `checked` makes types that cannot be
//! wrong. Nothing else in the product reads configuration files or the environment.

mod checked;
mod console;
mod containers;
mod credential;
mod notifiers;
mod raw;
mod read;
mod sets;
mod shared_state;
mod sign_in;
mod targets;

pub(crate) use self::checked::{ClickHouse, Config, Durability, Witness, Workload, is_guid};
pub(crate) use self::console::Console;
pub(crate) use self::containers::Runtime;
pub(crate) use self::credential::{Remote, SecretFrom};
pub(crate) use self::notifiers::{Notifier, Way};
pub(crate) use self::read::Problem;
pub(crate) use self::sets::{Members, warnings};
pub(crate) use self::shared_state::{SharedState, StateHost, StatePlace};
pub(crate) use self::sign_in::{How, Request, SignIn, TokenSource};
pub(crate) use self::targets::{AgentTls, Credential, SshFiles, Target, UpstreamTls};

use std::path::Path;

/// Largest configuration file; ConfigMaps are limited to 1 MiB as well.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads and checks a configuration file.
///
/// # Errors
/// Every problem of the file, each with its path, such as `targets[0].match.hosts[1]`.
pub(crate) fn load(path: &Path) -> Result<Config, Vec<Problem>> {
    let whole = |message: String| {
        vec![Problem {
            path: String::new(),
            message,
        }]
    };
    let size = std::fs::metadata(path)
        .map_err(|error| whole(format!("cannot read {}: {error}", path.display())))?
        .len();
    if size > FILE_BYTES_MAX {
        return Err(whole(format!("{} is larger than 1 MiB", path.display())));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| whole(format!("cannot read {}: {error}", path.display())))?;
    let base = path.parent().unwrap_or(Path::new("/"));
    parse(&text, base)
}

/// The same from text; relative paths are taken from `base`.
///
/// # Errors
/// As [`load`].
pub(crate) fn parse(text: &str, base: &Path) -> Result<Config, Vec<Problem>> {
    let tree: serde_json::Value = serde_saphyr::from_str(text).map_err(|error| {
        vec![Problem {
            path: String::new(),
            message: format!("not valid YAML: {error}"),
        }]
    })?;
    let mut problems = Vec::new();
    let raw = raw::Raw::read(&tree, &mut problems);
    let config = checked::check(raw, base, &mut problems);
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        _ => Err(problems),
    }
}

#[cfg(test)]
pub(crate) mod tests;
