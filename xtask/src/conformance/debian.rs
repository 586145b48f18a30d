//! Source packages of Debian, checked by apt against the archive's signatures.
//!
//! apt uses lists of its own, so that the machine's sources stay as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{place, run, say};

const SOURCES: &str = "Types: deb deb-src
URIs: http://deb.debian.org/debian
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
";

/// A folder with apt's lists, and `downloads`.
pub(super) struct Archive(PathBuf);

impl Archive {
    /// Makes the folder and reads the lists.
    pub(super) fn open(folder: &Path, step: &say::Step) -> Result<Self> {
        for name in ["downloads", "apt/lists/partial", "apt/cache"] {
            let name = folder.join(name);
            fs::create_dir_all(&name).with_context(|| format!("making {}", name.display()))?;
        }
        fs::write(folder.join("apt/debian.sources"), SOURCES).context("apt's list")?;
        let archive = Self(folder.to_path_buf());
        archive.fetch(step, "lists", &["update"])?;
        Ok(archive)
    }

    /// Runs apt-get in `downloads`.
    pub(super) fn fetch(&self, step: &say::Step, name: &str, arguments: &[&str]) -> Result<()> {
        let option = |name: &str, path: PathBuf| format!("{name}={}", path.display());
        let options = [
            option("Dir::Etc::sourcelist", PathBuf::from("/dev/null")),
            option("Dir::Etc::sourceparts", self.0.join("apt")),
            option("Dir::State::lists", self.0.join("apt/lists")),
            option("Dir::Cache", self.0.join("apt/cache")),
            // The folder is the user's, and apt's own user may not look into it.
            "APT::Sandbox::User=root".to_owned(),
        ];
        let mut command = Command::new("apt-get");
        for option in options {
            command.args(["-o", &option]);
        }
        command
            .args(arguments)
            .current_dir(self.0.join("downloads"));
        let log = place::target().join(format!("xtask-logs/conformance-{name}.log"));
        run::logged(step, &log, &mut command)
    }

    /// What was downloaded, by extension.
    pub(super) fn downloaded(&self, extension: &str) -> Result<Vec<PathBuf>> {
        let folder = self.0.join("downloads");
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        Ok(entries
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .collect())
    }
}
