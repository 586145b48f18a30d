//! The server's own regression SQL, from Debian's source package of the server that the lab runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::super::debian::Archive;
use super::report::Report;
use super::{Run, Way, corpus, folder, kept};
use crate::{place, run, say, setup};

const DATABASE: &str = "regression";
/// Where the tests stand in the source.
const TESTS: &str = "src/test/regress";
/// What a run of them may leave, which a database does not hold.
const LEFT: &str = "do $$ declare r record; begin \
    for r in select rolname from pg_roles where rolname like 'regress%' loop \
    execute format('drop owned by %I', r.rolname); execute format('drop role %I', r.rolname); \
    end loop; end $$";

pub(super) fn run(run: &Run<'_>) -> Result<Vec<Report>> {
    let source = source()?;
    let step = say::step("the server's regression SQL");
    // The server reads files of it, too.
    let data = run.lab.database.socket_dir.join("regress");
    copied(&source.join("data"), &data.join("data"))?;
    for way in Way::BOTH {
        step.at(way.name());
        one(run, way, &source, &data)?;
    }
    let script = folder().join("regress.py");
    let output = Command::new("python3")
        .arg("-B")
        .arg(script)
        .arg("compare")
        .args(Way::BOTH.map(outputs))
        .output()
        .context("comparing")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    fs::write(kept("regress.differences"), &text).context("keeping the differences")?;
    if text.is_empty() {
        bail!("{}", String::from_utf8_lossy(&output.stderr));
    }
    let report = Report::read("regression SQL".to_owned(), &text)?;
    step.done(format!("{} of {} the same", report.same, report.run));
    Ok(vec![report])
}

fn outputs(way: Way) -> PathBuf {
    kept(&format!("regress.{}", way.name()))
}

fn one(run: &Run<'_>, way: Way, source: &Path, data: &Path) -> Result<()> {
    let user = &run.lab.database.user;
    run.server.sql(&[
        &format!("drop database if exists {DATABASE} with (force)"),
        LEFT,
        &format!("create database {DATABASE} template template0 owner {user}"),
    ])?;
    let data = format!("REGRESS_DATA={}", data.display());
    let [script, sql] =
        [folder().join("regress.py"), source.join("sql")].map(|path| path.display().to_string());
    let command = ["env", &data, "python3", "-B", &script, "run", &sql];
    corpus::to_file(&mut run.client(way, DATABASE, &command)?, &outputs(way))
}

/// The tests of the newest source package of that server, kept in the cache.
fn source() -> Result<PathBuf> {
    let cache = place::cache()?.join("conformance");
    let tests = cache.join("postgresql-15-regress");
    if tests.is_dir() {
        return Ok(tests);
    }
    setup::also(&[("dpkg-dev", "dpkg-source")])?;
    let step = say::step("fetch the server's source");
    let staging = cache.join("postgresql-15.fetching");
    let archive = Archive::open(&staging, &step)?;
    archive.fetch(
        &step,
        "source",
        &["source", "--download-only", "postgresql-15"],
    )?;
    let unpacked = staging.join("source");
    let _absent = fs::remove_dir_all(&unpacked);
    for package in archive.downloaded("dsc")? {
        let mut extract = Command::new("dpkg-source");
        extract.args(["--extract", "--no-check"]).arg(package);
        run::quiet(extract.arg(&unpacked))?;
    }
    fs::rename(unpacked.join(TESTS), &tests).context("keeping the tests")?;
    fs::remove_dir_all(&staging).context("removing the rest of the source")?;
    step.done("");
    Ok(tests)
}

/// A folder of files that everybody may read.
fn copied(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for folder in [to, to.parent().unwrap_or(to)] {
        fs::set_permissions(folder, PermissionsExt::from_mode(0o755)).context("permissions")?;
    }
    for file in fs::read_dir(from)
        .with_context(|| from.display().to_string())?
        .flatten()
    {
        let copy = to.join(file.file_name());
        fs::copy(file.path(), &copy).with_context(|| copy.display().to_string())?;
        fs::set_permissions(&copy, PermissionsExt::from_mode(0o644)).context("permissions")?;
    }
    Ok(())
}
