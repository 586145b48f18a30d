//! `cargo xtask tidy`: the repository's own rules, those that can be checked by reading files.

mod crates;
mod deps;
mod files;
mod functions;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::{place, say};

/// Places where a rule does not hold, and why. Entries that are no longer needed are problems.
const EXCEPTIONS: [(&str, &str, &str); 2] = [
    (
        "xtask/src/tidy/files.rs",
        "banned word",
        "it lists the banned words",
    ),
    (
        "userspace/identify/src/config.rs",
        "function length",
        "one check per field of the configuration",
    ),
];

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    /// Relative to the repository.
    path: String,
    /// Line, 0 for the file as a whole.
    line: usize,
    rule: &'static str,
    message: String,
}

/// A source file, without its tests.
struct Source {
    path: String,
    text: String,
    /// Lines before `#[cfg(test)] mod tests {`.
    code: Vec<String>,
}

/// Prints every problem; exit code 1 when there is one.
pub(crate) fn run() -> Result<ExitCode> {
    let problems = problems()?;
    for problem in &problems {
        say::result(problem);
    }
    say::note(format!("tidy: {} problems", problems.len()));
    Ok(if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Every problem as `path:line: rule: message`.
pub(crate) fn problems() -> Result<Vec<String>> {
    let root = place::root();
    let mut found = crates::check(&root)?;
    for source in sources(&root)? {
        found.extend(files::check(&source));
        found.extend(functions::check(&source));
    }
    let excused = |problem: &Problem, entry: &(&str, &str, &str)| {
        problem.path == entry.0 && problem.rule == entry.1
    };
    let idle = EXCEPTIONS
        .iter()
        .filter(|entry| !found.iter().any(|problem| excused(problem, entry)))
        .map(|(path, rule, _)| {
            format!("{path}: exception '{rule}' is no longer needed: remove it")
        });
    let mut lines: Vec<String> = idle.collect();
    found.retain(|problem| !EXCEPTIONS.iter().any(|entry| excused(problem, entry)));
    lines.extend(found.iter().map(
        |Problem {
             path,
             line,
             rule,
             message,
         }| match line {
            0 => format!("{path}: {rule}: {message}"),
            line => format!("{path}:{line}: {rule}: {message}"),
        },
    ));
    lines.sort();
    Ok(lines)
}

fn sources(root: &Path) -> Result<Vec<Source>> {
    let mut paths = Vec::new();
    for top in ["ebpf", "userspace", "xtask", "tests", "bench"] {
        walk(&root.join(top), &mut paths)?;
    }
    paths.sort();
    paths.iter().map(|path| read(root, path)).collect()
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        let skipped = path.ends_with("node_modules") || path.ends_with("target");
        if path.is_dir() && !skipped {
            walk(&path, paths)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
    Ok(())
}

fn read(root: &Path, path: &Path) -> Result<Source> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let relative = path
        .strip_prefix(root)
        .unwrap_or(path)
        .display()
        .to_string();
    Ok(Source::new(relative, text))
}

impl Source {
    fn new(path: String, text: String) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let tests = lines.windows(2).position(|pair| {
            pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod tests {")
        });
        let code = lines[..tests.unwrap_or(lines.len())]
            .iter()
            .map(|l| (*l).to_owned())
            .collect();
        Self { path, text, code }
    }

    /// Tests in files of their own: no budgets, and they may do what production may not.
    fn is_test(&self) -> bool {
        self.path.ends_with("tests.rs")
            || self.path.contains("/tests/")
            || self.path.starts_with("tests/")
            || self.path.contains("/benches/")
    }

    fn problem(&self, line: usize, rule: &'static str, message: impl Into<String>) -> Problem {
        Problem {
            path: self.path.clone(),
            line,
            rule,
            message: message.into(),
        }
    }
}
