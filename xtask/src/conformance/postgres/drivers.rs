//! Drivers and the server's own clients: a script each, whose output has to be the same both ways.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::report::Report;
use super::{Run, Way, corpus, folder, kept};
use crate::{place, run, say, setup};

/// Scripts of `drivers/`, programs of `rust/`; those of the server's own clients are shell.
const SCRIPTS: [&str; 11] = [
    "psycopg3_.py",
    "psycopg2_.py",
    "asyncpg_.py",
    "pg8000_.py",
    "sqlalchemy_.py",
    "pg.js",
    "postgres.js",
    "jdbc.py",
    "tokio_postgres.rs",
    "sqlx.rs",
    "clients.sh",
];
/// Debian's packages for them, and what each brings.
const PACKAGES: [(&str, &str); 2] = [
    ("default-jdk-headless", "javac"),
    ("libpostgresql-jdbc-java", "/usr/share/java/postgresql.jar"),
];

pub(super) fn run(run: &Run<'_>) -> Result<Vec<Report>> {
    setup::also(&PACKAGES)?;
    let programs = Programs {
        python: setup::python_with(&folder().join("requirements.txt"))?,
        modules: node_modules()?,
        rust: rust_drivers()?,
    };
    let mut reports = Vec::new();
    for script in SCRIPTS {
        let step = say::step(format!("driver, {script}"));
        let report = one(run, script, &programs)?;
        step.done(format!("{} of {} the same", report.same, report.run));
        reports.push(report);
    }
    Ok(reports)
}

/// A driver that waits for ever is an error.
const LIMIT: [&str; 3] = ["timeout", "--kill-after=10", "300"];

/// What the scripts run on.
struct Programs {
    python: PathBuf,
    /// Of Node.
    modules: PathBuf,
    /// Folder of the programs that cargo built.
    rust: PathBuf,
}

/// tokio-postgres and sqlx, a program each, in a workspace of their own.
fn rust_drivers() -> Result<PathBuf> {
    let to = place::target().join("conformance/rust");
    let step = say::step("build tokio-postgres and sqlx");
    let mut cargo = run::cargo();
    cargo
        .args(["build", "--locked", "--bins", "--color", "never"])
        .arg("--manifest-path")
        .arg(folder().join("rust/Cargo.toml"))
        .arg("--target-dir")
        .arg(&to);
    let log = place::target().join("xtask-logs/conformance-rust.log");
    run::logged(&step, &log, &mut cargo)?;
    step.done("");
    Ok(to.join("debug"))
}

/// node-postgres and postgres.js, as their lock file says, in a folder of this build.
fn node_modules() -> Result<PathBuf> {
    let to = place::target().join("conformance/node");
    fs::create_dir_all(&to).context("a folder for node-postgres")?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(folder().join("node").join(file), to.join(file)).context(file)?;
    }
    let step = say::step("install node-postgres and postgres.js");
    let mut npm = Command::new("npm");
    npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(&to);
    let log = place::target().join("xtask-logs/conformance-npm.log");
    run::logged(&step, &log, &mut npm)?;
    step.done("");
    Ok(to.join("node_modules"))
}

impl Programs {
    fn command(&self, script: &str) -> Result<Vec<String>> {
        let path = folder().join("drivers").join(script);
        let text = |path: &Path| path.to_str().map(str::to_owned).context("a path of text");
        let extension = path.extension().and_then(|extension| extension.to_str());
        Ok(match extension {
            Some("py") => vec![text(&self.python)?, "-B".to_owned(), text(&path)?],
            Some("js") => vec![
                "env".to_owned(),
                format!("NODE_PATH={}", text(&self.modules)?),
                text(&setup::node_binary())?,
                text(&path)?,
            ],
            Some("rs") => vec![text(&self.rust.join(Path::new(script).with_extension("")))?],
            Some(_) | None => vec!["bash".to_owned(), text(&path)?],
        })
    }
}

fn one(run: &Run<'_>, script: &str, programs: &Programs) -> Result<Report> {
    let script_command = programs.command(script)?;
    let mut command = LIMIT.to_vec();
    command.extend(script_command.iter().map(String::as_str));
    for way in Way::BOTH {
        run.server.fresh(corpus::DATABASE)?;
        let mut client = run.client(way, corpus::DATABASE, &command)?;
        let path = output(script, way);
        let ended = corpus::to_file(&mut client, &path);
        match (ended, way) {
            (Ok(()), _) => {}
            (Err(error), Way::Direct) => return Err(error),
            // What it said before is compared, and this is a difference beside.
            (Err(error), Way::Weir) => append(&path, &format!("ended: {error:#}"))?,
        }
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

fn append(path: &Path, line: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new().append(true).open(path)?;
    writeln!(file, "{}", line.replace('\n', " ")).with_context(|| path.display().to_string())
}

fn output(script: &str, way: Way) -> PathBuf {
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
