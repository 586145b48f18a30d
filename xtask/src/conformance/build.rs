//! kube-apiserver, kube-controller-manager and kubectl from Debian's source package, kept in the cache.
//!
//! Compiler and etcd are unpacked into the cache and not installed, so that no service of them starts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::debian::Archive;
use super::suite;
use crate::{place, run, say, setup};

/// Part of the cache's name: another version is another build.
const VERSION: &str = "1.20.5+really1.20.2-1.1+deb12u1";
/// Part of it, too; raised whenever something else is built, kept or rewritten.
const RECIPE: u32 = 2;
/// Of the same release as the source.
const TOOLS: [&str; 4] = [
    "etcd-server",
    "golang-1.19-go",
    "golang-1.19-src",
    "golang-github-modern-go-reflect2-dev",
];
const BINARIES: [&str; 4] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kubectl",
    "kubectl-convert",
];
/// The release's own reflect2 reads maps the way Go did before 1.18 and crashes on later ones.
const REFLECT2: &str = "github.com/modern-go/reflect2";
/// Of the source, what the suite does not need.
const LEFT: [&str; 6] = ["_output", ".make", "vendor", "staging", "pkg", "CHANGELOG"];

/// What the cache holds.
pub(super) struct Built {
    /// The server's parts, kubectl and etcd.
    pub(super) bin: PathBuf,
    /// The source's scripts and what they read.
    pub(super) suite: PathBuf,
}

/// Builds unless it is there.
pub(super) fn build() -> Result<Built> {
    let cache = place::cache()?.join("conformance");
    let name = format!("kubernetes-{VERSION}-{RECIPE}");
    let folder = cache.join(&name);
    if !folder.is_dir() {
        say::heading(format!("Kubernetes {VERSION}, once: about 20 minutes"));
        let staging = Staging(cache.join(format!("{name}.building")));
        staging.make(&folder)?;
    }
    Ok(Built {
        bin: folder.join("bin"),
        suite: folder.join("suite"),
    })
}

/// The folder in which it is built.
struct Staging(PathBuf);

impl Staging {
    fn make(&self, folder: &Path) -> Result<()> {
        setup::also(&[
            ("dpkg-dev", "dpkg-source"),
            ("make", "make"),
            ("rsync", "rsync"),
        ])?;
        let archive = self.fetch()?;
        self.unpack(&archive)?;
        self.compile()?;
        self.keep()?;
        fs::rename(self.0.join("kept"), folder).context("moving what was built")?;
        fs::remove_dir_all(&self.0).context("removing what the build needed")
    }

    fn log(&self, name: &str) -> PathBuf {
        place::target().join(format!("xtask-logs/conformance-{name}.log"))
    }

    fn fetch(&self) -> Result<Archive> {
        let step = say::step("fetch source, compiler and etcd");
        let archive = Archive::open(&self.0, &step)?;
        let source = format!("kubernetes={VERSION}");
        archive.fetch(&step, "source", &["source", "--download-only", &source])?;
        let tools = [&["download"], TOOLS.as_slice()].concat();
        archive.fetch(&step, "tools", &tools)?;
        step.done("");
        Ok(archive)
    }

    fn unpack(&self, archive: &Archive) -> Result<()> {
        let step = say::step("unpack");
        for folder in ["source", "tools", "kept"] {
            let _absent = fs::remove_dir_all(self.0.join(folder));
        }
        for (program, kind, to) in [
            ("dpkg-source", "dsc", "source"),
            ("dpkg-deb", "deb", "tools"),
        ] {
            for package in archive.downloaded(kind)? {
                let mut command = Command::new(program);
                command.arg("--extract").arg(package).arg(self.0.join(to));
                run::quiet(&mut command)?;
            }
        }
        let vendored = self.0.join("source/vendor").join(REFLECT2);
        fs::remove_dir_all(&vendored).context("the vendored reflect2")?;
        let debian = self.0.join("tools/usr/share/gocode/src").join(REFLECT2);
        run::quiet(
            Command::new("cp")
                .arg("--recursive")
                .args([debian, vendored]),
        )?;
        step.done("");
        Ok(())
    }

    fn compile(&self) -> Result<()> {
        let step = say::step("compile");
        let goroot = self.0.join("tools/usr/lib/go-1.19");
        let path = std::env::var("PATH").context("PATH")?;
        let targets = BINARIES.map(|name| format!("cmd/{name}")).join(" ");
        let mut command = Command::new("nice");
        command
            .args(["make", &format!("WHAT={targets}")])
            .current_dir(self.0.join("source"))
            .env("PATH", format!("{}/bin:{path}", goroot.display()))
            .env("GOROOT", goroot)
            .env("GOPROXY", "off")
            .env("CGO_ENABLED", "0");
        run::logged(&step, &self.log("compile"), &mut command)?;
        step.done("");
        Ok(())
    }

    fn keep(&self) -> Result<()> {
        let (source, kept) = (self.0.join("source"), self.0.join("kept"));
        fs::create_dir_all(kept.join("bin")).context("the folder of binaries")?;
        let built = BINARIES.map(|name| source.join("_output/bin").join(name));
        for from in built.into_iter().chain([self.0.join("tools/usr/bin/etcd")]) {
            let name = from.file_name().context("a binary's name")?;
            fs::copy(&from, kept.join("bin").join(name))
                .with_context(|| format!("keeping {}", from.display()))?;
        }
        for left in LEFT {
            let _absent = fs::remove_dir_all(source.join(left));
        }
        fs::rename(source, kept.join("suite")).context("keeping the suite")?;
        suite::point_elsewhere(&kept.join("suite"))
    }
}
