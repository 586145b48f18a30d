//! The ClickHouse engine: one shared library from an npm package, pinned by hash, never committed.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::say::Step;
use crate::{place, run};

const PACKAGE: &str = "@chdb/lib-linux-x64-gnu@26.7.3-stable.1";
const PACKAGE_SHA256: &str = "c0d32b129e988f2b9a9a31c9141aecf5e1e2453f9a079efc4d36ab8e3f92b2ad";
const LIBRARY_SHA256: &str = "36ad4e999882821ef13cf2d0f52c93f48e6ee1b4498b35a201c23ce4b8d15bf5";
const LIBRARY_BYTES: u64 = 566_330_096;

/// Where the library is kept, by hash; `weir-store` verifies all of it at each start.
pub(crate) fn library() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("WEIR_LIBCHDB") {
        return Ok(PathBuf::from(path));
    }
    Ok(place::cache()?.join(format!("libchdb-{}.so", &LIBRARY_SHA256[..16])))
}

pub(super) fn missing() -> Result<Vec<String>> {
    let there = fs::metadata(library()?).is_ok_and(|metadata| metadata.len() == LIBRARY_BYTES);
    Ok(if there {
        Vec::new()
    } else {
        vec![format!("{PACKAGE} (178 MB)")]
    })
}

pub(super) fn install(_missing: &[String], step: &Step) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the ClickHouse engine is pinned for x86_64 only");
    }
    let library = library()?;
    let cache = library.parent().context("a cache folder")?;
    let work = cache.join(format!("fetch-{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("making {}", work.display()))?;
    let outcome = fetch(&work, &library, step);
    fs::remove_dir_all(&work).with_context(|| format!("removing {}", work.display()))?;
    outcome
}

fn fetch(work: &Path, library: &Path, step: &Step) -> Result<()> {
    let mut pack = Command::new("npm");
    pack.args(["pack", PACKAGE]).current_dir(work);
    run::logged(step, &super::log("engine"), &mut pack)?;
    let archive = fs::read_dir(work)
        .context("looking for the package")?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .context("npm pack left no archive")?;
    step.at("checking the package");
    expect_digest(&archive, PACKAGE_SHA256)?;
    step.at("unpacking");
    run::quiet(
        Command::new("tar")
            .args(["--extract", "--gzip", "--file"])
            .arg(&archive)
            .arg("package/libchdb.so")
            .current_dir(work),
    )?;
    let unpacked = work.join("package/libchdb.so");
    step.at("checking the library");
    expect_digest(&unpacked, LIBRARY_SHA256)?;
    fs::rename(&unpacked, library).with_context(|| format!("keeping {}", library.display()))
}

fn expect_digest(path: &Path, expected: &str) -> Result<()> {
    let mut file = fs::File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 20];
    loop {
        let count = file
            .read(&mut buffer)
            .with_context(|| format!("reading {}", path.display()))?;
        if count == 0 {
            break;
        }
        digest.update(&buffer[..count]);
    }
    let found: String = digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if found != expected {
        bail!(
            "{}: SHA-256 is {found}, expected {expected}",
            path.display()
        );
    }
    Ok(())
}
