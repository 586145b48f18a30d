//! Rules about crates: inherited lints, no unsafe code, and the table of who may use whom.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Problem;
use super::deps::{TABLE, UNSAFE};

pub(super) fn check(root: &Path) -> Result<Vec<Problem>> {
    let mut found = Vec::new();
    for folder in members(root)? {
        let manifest = root.join(&folder).join("Cargo.toml");
        let text = fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
        let path = format!("{folder}/Cargo.toml");
        let mut say = |rule: &'static str, message: String| {
            found.push(Problem {
                path: path.clone(),
                line: 0,
                rule,
                message,
            });
        };
        if !text.contains("[lints]\nworkspace = true") {
            say("lints", "no [lints] workspace = true".to_owned());
        }
        for message in dependencies(&folder, &text) {
            say("dependency table", message);
        }
        if let Some(message) = unsafety(root, &folder) {
            say("unsafe code", message);
        }
    }
    Ok(found)
}

/// The members of the workspace, as its manifest lists them.
fn members(root: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(root.join("Cargo.toml")).context("reading Cargo.toml")?;
    let list = text
        .split("members = [")
        .nth(1)
        .and_then(|rest| rest.split(']').next());
    let list = list.context("Cargo.toml lists no members")?;
    Ok(list
        .split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect())
}

/// What the table of `deps.rs` says otherwise.
fn dependencies(folder: &str, manifest: &str) -> Vec<String> {
    let Some((_, allowed)) = TABLE.iter().find(|(name, _)| *name == folder) else {
        return vec!["not in the table of xtask/src/tidy/deps.rs".to_owned()];
    };
    let section = manifest
        .split("\n[dependencies]\n")
        .nth(1)
        .unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let real: BTreeSet<&str> = section
        .lines()
        .filter_map(|line| line.strip_prefix("weir-")?.split(['.', ' ', '=']).next())
        .collect();
    let allowed: BTreeSet<&str> = allowed.split_whitespace().collect();
    let more = real
        .difference(&allowed)
        .map(|name| format!("uses {name}, which it may not"));
    let less = allowed
        .difference(&real)
        .map(|name| format!("the table allows {name}: not used"));
    more.chain(less).collect()
}

fn unsafety(root: &Path, folder: &str) -> Option<String> {
    let source = root.join(folder).join("src");
    let tops: Vec<PathBuf> = ["lib.rs", "main.rs"]
        .iter()
        .map(|name| source.join(name))
        .filter(|p| p.exists())
        .collect();
    let text: String = tops
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .collect();
    if UNSAFE.iter().any(|(name, _)| *name == folder) || tops.is_empty() {
        return None;
    }
    let fenced = |word: &str| text.matches(&format!("#![{word}(unsafe_code)]")).count();
    if fenced("forbid") + fenced("deny") < tops.len() {
        return Some("no #![forbid(unsafe_code)] (exceptions are in deps.rs)".to_owned());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_compared_both_ways() {
        let manifest =
            "[package]\n\n[dependencies]\nbytes.workspace = true\nweir-govern.workspace = true\n";
        let found = dependencies("userspace/mask", manifest);
        assert!(found.iter().any(|m| m.contains("uses govern")), "{found:?}");
        assert!(
            found.iter().any(|m| m.contains("allows decide")),
            "{found:?}"
        );
        assert_eq!(dependencies("userspace/nobody", manifest).len(), 1);
    }
}
