//! Debian's kernel packages: which there are, and one of them unpacked in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{place, run, say};

const BEFORE: &str = "linux-image-";
const AFTER: &str = "-cloud-amd64-unsigned";

/// The newest package of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kernel {
    /// As in `6.12`.
    pub(super) line: String,
    pub(super) package: String,
    numbers: Vec<u64>,
}

impl Kernel {
    /// As `uname -r` says.
    pub(super) fn release(&self) -> &str {
        let name = self.package.strip_prefix(BEFORE).unwrap_or(&self.package);
        name.strip_suffix("-unsigned").unwrap_or(name)
    }
}

/// What apt offers, by line, oldest line first.
pub(super) fn offered() -> Result<Vec<Kernel>> {
    if !run::found("apt-cache") {
        bail!("kernels come from Debian's packages, and there is no apt-cache on this machine");
    }
    let pattern = format!("^{BEFORE}[0-9].*{AFTER}$");
    let ask = || {
        let mut command = Command::new("apt-cache");
        run::output(command.args(["search", "--names-only", &pattern]))
    };
    let mut text = ask()?;
    if text.trim().is_empty() {
        say::note("apt has no lists yet: apt-get update");
        run::quiet(Command::new("apt-get").args(["update", "-q"]))?;
        text = ask()?;
    }
    let names = text.lines().filter_map(|line| line.split(' ').next());
    Ok(newest(names))
}

fn newest<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Kernel> {
    let mut all: Vec<Kernel> = names.filter_map(parse).collect();
    all.sort_by(|a, b| a.numbers.cmp(&b.numbers));
    all.reverse();
    all.dedup_by(|older, newer| older.line == newer.line);
    all.reverse();
    all
}

/// `linux-image-6.1.0-56-cloud-amd64-unsigned`, `linux-image-6.12.117+deb12-cloud-amd64-unsigned`.
fn parse(package: &str) -> Option<Kernel> {
    let version = package.strip_prefix(BEFORE)?.strip_suffix(AFTER)?;
    let mut numbers = Vec::new();
    for part in version.split(|letter: char| !letter.is_ascii_digit()) {
        if !part.is_empty() {
            numbers.push(part.parse().ok()?);
        }
    }
    let [major, minor, ..] = numbers.as_slice() else {
        return None;
    };
    Some(Kernel {
        line: format!("{major}.{minor}"),
        package: package.to_owned(),
        numbers,
    })
}

/// The unpacked package, downloaded once.
pub(super) fn fetch(kernel: &Kernel) -> Result<PathBuf> {
    let folder = place::cache()?.join("kernels");
    let unpacked = folder.join(kernel.release());
    if unpacked.exists() {
        return Ok(unpacked);
    }
    let step = say::step(format!("download {}", kernel.package));
    let work = folder.join(format!("fetch-{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    let outcome = unpack(kernel, &work, &step).and_then(|()| {
        // Last: what has the name is complete.
        fs::rename(work.join("x"), &unpacked)
            .with_context(|| format!("keeping {}", unpacked.display()))
    });
    fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
    outcome?;
    step.done("");
    Ok(unpacked)
}

fn unpack(kernel: &Kernel, work: &Path, step: &say::Step) -> Result<()> {
    let log = place::target().join("xtask-logs/vm-download.log");
    let mut get = Command::new("apt-get");
    get.args(["download", &kernel.package]).current_dir(work);
    run::logged(step, &log, &mut get)?;
    let package = fs::read_dir(work)
        .context("looking for the package")?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get download left no package")?;
    let root = work.join("x");
    run::quiet(Command::new("dpkg").arg("-x").arg(&package).arg(&root))?;
    // The package leaves this to its installation.
    run::quiet(
        Command::new("depmod")
            .arg("-b")
            .arg(&root)
            .arg(kernel.release()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_each_line_is_taken_by_number() {
        let names = [
            "linux-image-6.12.99+deb12-cloud-amd64-unsigned",
            "linux-image-6.1.0-9-cloud-amd64-unsigned",
            "linux-image-6.12.117+deb12-cloud-amd64-unsigned",
            "linux-image-6.1.0-56-cloud-amd64-unsigned",
            "linux-image-cloud-amd64-dbg",
        ];
        let found = newest(names.into_iter());
        let lines: Vec<(&str, &str)> = found
            .iter()
            .map(|kernel| (kernel.line.as_str(), kernel.release()))
            .collect();
        assert_eq!(
            lines,
            [
                ("6.1", "6.1.0-56-cloud-amd64"),
                ("6.12", "6.12.117+deb12-cloud-amd64"),
            ]
        );
    }
}
