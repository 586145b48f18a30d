//! Drivers and the server's own clients: a script each, whose output has to be the same both ways.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::report::Report;
use super::{Run, Way, corpus, folder, kept};
use crate::{say, setup};

/// Scripts of `drivers/`; those of the server's own clients are shell.
const SCRIPTS: [&str; 5] = [
    "psycopg3_.py",
    "psycopg2_.py",
    "asyncpg_.py",
    "sqlalchemy_.py",
    "clients.sh",
];

pub(super) fn run(run: &Run<'_>) -> Result<Vec<Report>> {
    let python = setup::python_with(&folder().join("requirements.txt"))?;
    let python = python.to_str().context("a path of text")?;
    let mut reports = Vec::new();
    for script in SCRIPTS {
        let step = say::step(format!("driver, {script}"));
        let report = one(run, script, python)?;
        step.done(format!("{} of {} the same", report.same, report.run));
        reports.push(report);
    }
    Ok(reports)
}

fn one(run: &Run<'_>, script: &str, python: &str) -> Result<Report> {
    let path = folder().join("drivers").join(script);
    let path = path.to_str().context("a path of text")?;
    for way in Way::BOTH {
        run.server.fresh(corpus::DATABASE)?;
        let command: &[&str] = if script.ends_with(".py") {
            &[python, "-B", path]
        } else {
            &["bash", path]
        };
        let mut client = run.client(way, corpus::DATABASE, command)?;
        corpus::to_file(&mut client, &output(script, way))?;
    }
    let read = |way| {
        let path = output(script, way);
        fs::read_to_string(&path).with_context(|| path.display().to_string())
    };
    Ok(compared(
        format!("driver, {script}"),
        &read(Way::Direct)?,
        &read(Way::Weir)?,
    ))
}

fn output(script: &str, way: Way) -> std::path::PathBuf {
    kept(&format!("{}.{}", Path::new(script).display(), way.name()))
}

/// Line by line: every line is a step.
pub(super) fn compared(suite: String, direct: &str, weir: &str) -> Report {
    let (direct, weir): (Vec<&str>, Vec<&str>) = (direct.lines().collect(), weir.lines().collect());
    let count = direct.len().max(weir.len());
    let mut different = Vec::new();
    for at in 0..count {
        let line = |lines: &[&str]| lines.get(at).map_or("(nothing)", |line| line).to_owned();
        let (direct, weir) = (line(&direct), line(&weir));
        if direct != weir {
            different.push(format!(
                "different: line {}\n   direct {direct}\n   weir   {weir}",
                at + 1
            ));
        }
    }
    Report {
        suite,
        run: count,
        same: count - different.len(),
        meant: Vec::new(),
        different,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_compared_and_missing_ones_are_different() {
        let report = compared("x".to_owned(), "a\nb\nc\n", "a\nB\n");
        assert_eq!((report.run, report.same), (3, 1));
        assert!(report.different[1].contains("weir   (nothing)"));
    }
}
