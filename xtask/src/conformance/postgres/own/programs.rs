//! What the drivers' own tests run on: Python, their sources, and what cargo builds of crates.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::crates::{self, Crate};
use super::list::{Runner, Tests};
use super::suites;
use crate::{place, run, say, setup};

pub(super) struct Programs {
    python: PathBuf,
    /// A folder for each source package.
    sources: PathBuf,
    crates: BTreeMap<&'static str, Crate>,
}

impl Programs {
    pub(super) fn prepare() -> Result<Self> {
        let python = setup::python_with(&suites().join("requirements.txt"))?;
        Ok(Self {
            sources: sources(&python)?,
            python,
            crates: crates::all()?,
        })
    }

    fn script(&self, name: &str) -> Result<Vec<String>> {
        let script = suites().join(name);
        Ok(vec![text(&self.python)?, "-B".to_owned(), text(&script)?])
    }

    fn built(&self, package: &str) -> Result<&Crate> {
        let found = self.crates.get(package);
        found.with_context(|| format!("no crate {package} was built"))
    }

    /// What the tests want of a fresh database: the crate's own word, or ours.
    pub(super) fn script_of(&self, package: &str) -> PathBuf {
        let own = self.crates.get(package).and_then(|it| it.setup.clone());
        own.unwrap_or_else(|| suites().join(format!("{package}.sql")))
    }

    /// What stands before a command whose tests know one address only.
    pub(super) fn forwarded(&self) -> Result<Vec<String>> {
        self.script("forward.py")
    }

    /// Runs the tests whose ids stand in the file `only`, or all of them.
    pub(super) fn command(
        &self,
        tests: &Tests,
        only: &str,
        left_out: &[&str],
    ) -> Result<Vec<String>> {
        let mut command;
        match tests.runner {
            Runner::Pytest(arguments) => {
                command = self.script("pytests.py")?;
                command.push(text(&self.sources.join(tests.package))?);
                command.push(only.to_owned());
                command.extend(arguments.iter().map(|argument| (*argument).to_owned()));
                command.extend(left_out.iter().map(|test| format!("--deselect={test}")));
            }
            Runner::Libtest => {
                let built = self.built(tests.package)?;
                command = self.script("libtests.py")?;
                command.push(text(&built.folder)?);
                command.push(only.to_owned());
                for program in &built.programs {
                    command.push(text(program)?);
                }
                command.extend(left_out.iter().map(|test| format!("--skip={test}")));
            }
        }
        Ok(command)
    }
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).context("a path of text")
}

/// The tests of the source packages, fetched once; the folder is named by what was fetched and how.
fn sources(python: &Path) -> Result<PathBuf> {
    let (list, script) = (suites().join("sources.txt"), suites().join("sources.py"));
    let mut digest = Sha256::new();
    for file in [&list, &script] {
        digest.update(fs::read(file).with_context(|| file.display().to_string())?);
    }
    let name: String = digest
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let to = place::cache()?.join(format!("conformance/own-{name}"));
    if to.is_dir() {
        return Ok(to);
    }
    let staging = to.with_extension("fetching");
    let _absent = fs::remove_dir_all(&staging);
    fs::create_dir_all(&staging).with_context(|| staging.display().to_string())?;
    let step = say::step("fetch the drivers' sources");
    let log = place::target().join("xtask-logs/conformance-own-sources.log");
    let mut fetch = Command::new(python);
    fetch.arg("-B").args([&script, &list, &staging]);
    run::logged(&step, &log, &mut fetch)?;
    fs::rename(&staging, &to).context("keeping the sources")?;
    step.done("");
    Ok(to)
}
