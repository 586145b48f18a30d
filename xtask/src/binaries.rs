//! The product's binaries, built by cargo.

use std::path::PathBuf;

use anyhow::Result;

use crate::{place, run, say};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Dev,
    Release,
}

/// Where the binaries are.
#[derive(Clone, Debug)]
pub(crate) struct Binaries {
    pub(crate) weir: PathBuf,
    pub(crate) store: PathBuf,
    /// The test API server.
    pub(crate) apiserver: PathBuf,
}

/// Builds packages and their binaries; quick when nothing changed.
pub(crate) fn packages(names: &[&str], profile: Profile) -> Result<PathBuf> {
    let step = say::step(format!("build {}", names.join(" and ")));
    let mut command = run::cargo();
    command.args(["build", "--color", "never"]);
    for name in names {
        command.args(["--package", name]);
    }
    let folder = match profile {
        Profile::Dev => "debug",
        Profile::Release => {
            command.arg("--release");
            "release"
        }
    };
    run::logged(
        &step,
        &place::target().join("xtask-logs/build.log"),
        &mut command,
    )?;
    step.done("");
    Ok(place::target().join(folder))
}

/// `weir`, `weir-store` and the servers that a lab protects.
pub(crate) fn product(profile: Profile) -> Result<Binaries> {
    let folder = packages(
        &["weir-enforcer", "weir-store", "weir-test-apiserver"],
        profile,
    )?;
    Ok(Binaries {
        weir: folder.join("weir"),
        store: folder.join("weir-store"),
        apiserver: folder.join("weir-test-apiserver"),
    })
}
