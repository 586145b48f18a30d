//! The guest's root: busybox, the test binaries with their libraries, and `init`.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::guest;
use super::programs::{Programs, libraries};
use crate::{place, run, say};

/// Programs of this machine that tests and recipes start.
const HOST: [&str; 5] = ["bash", "ip", "nsenter", "tc", "setpriv"];
/// As above, by their paths: lineage is told apart by inode, and busybox is one for all.
const BY_PATH: [&str; 6] = [
    "/bin/bash",
    "/bin/sh",
    "/bin/sleep",
    "/bin/cat",
    "/bin/true",
    "/usr/bin/env",
];

/// Both kernels share it.
pub(super) fn archive(programs: &Programs) -> Result<PathBuf> {
    let step = say::step("pack the guest's root");
    let root = place::target().join("vm/base");
    if root.exists() {
        fs::remove_dir_all(&root).with_context(|| format!("removing {}", root.display()))?;
    }
    for folder in [
        "bin",
        "sbin",
        "usr/bin",
        "usr/sbin",
        "usr/local/bin",
        "proc",
        "sys",
        "dev",
        "run",
        "tmp",
        "etc",
        "root",
        "weir",
    ] {
        fs::create_dir_all(root.join(folder)).with_context(|| format!("making {folder}"))?;
    }
    let mut added = BTreeSet::new();
    let busybox = found("busybox")?;
    add(&root, &busybox, Path::new("/bin/busybox"), &mut added)?;
    for name in HOST {
        let to = Path::new("/usr/local/bin").join(name);
        add(&root, &found(name)?, &to, &mut added)?;
    }
    add_python(&root, &mut added)?;
    for path in BY_PATH.map(Path::new) {
        add(&root, path, path, &mut added)?;
    }
    for path in programs
        .tests
        .iter()
        .map(|test| &test.path)
        .chain(&programs.beside)
    {
        add(&root, path, path, &mut added)?;
    }
    add(
        &root,
        &programs.weir,
        Path::new("/usr/local/bin/weir"),
        &mut added,
    )?;
    fs::write(root.join("weir/tests"), guest::list(&programs.tests))
        .context("the list of tests")?;
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").context("passwd")?;
    let init = root.join("init");
    fs::write(&init, guest::INIT).context("init")?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).context("init")?;
    let packed = pack(&root, &root.with_extension("cpio.zst"))?;
    step.done("");
    Ok(packed)
}

/// Python with its library, which tests of threads and processes speak.
fn add_python(root: &Path, added: &mut BTreeSet<PathBuf>) -> Result<()> {
    let ask = "import sys, sysconfig; print(sys.executable, sysconfig.get_path('stdlib'))";
    let text = run::output(Command::new("python3").args(["-c", ask]))?;
    let (program, library) = text.trim().split_once(' ').context("python's library")?;
    add(root, Path::new(program), Path::new(program), added)?;
    let link = root.join("usr/bin/python3");
    if !link.exists() {
        fs::create_dir_all(root.join("usr/bin")).context("a folder of programs")?;
        std::os::unix::fs::symlink(program, link).context("python's name")?;
    }
    let to = root.join(library.trim_start_matches('/'));
    fs::create_dir_all(&to).context("python's library")?;
    let script = "tar -c --exclude=__pycache__ --exclude=test --exclude=dist-packages \
                  --exclude=config-* . | tar -x -C \"$0\"";
    // Modules in C have libraries of their own.
    let modules = Path::new(library).join("lib-dynload");
    for module in fs::read_dir(&modules)
        .context("python's modules")?
        .flatten()
    {
        for needed in libraries(&module.path())? {
            if added.insert(needed.clone()) {
                let inside = root.join(needed.strip_prefix("/").unwrap_or(&needed));
                fs::create_dir_all(inside.parent().context("a folder")?).context("a folder")?;
                fs::copy(&needed, &inside).with_context(|| format!("{}", needed.display()))?;
            }
        }
    }
    let mut copy = Command::new("bash");
    run::quiet(copy.args(["-c", script]).arg(&to).current_dir(library))
}

fn found(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").context("PATH is not set")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .with_context(|| format!("{name} is not in PATH"))
}

/// A program without its debug information, and its libraries, each once.
fn add(root: &Path, from: &Path, to: &Path, added: &mut BTreeSet<PathBuf>) -> Result<()> {
    if !added.insert(to.to_owned()) {
        return Ok(());
    }
    let inside = root.join(to.strip_prefix("/").unwrap_or(to));
    fs::create_dir_all(inside.parent().context("a folder")?).context("a folder of programs")?;
    let mut strip = Command::new("strip");
    run::quiet(strip.arg("-o").arg(&inside).arg(from))?;
    for library in libraries(from)? {
        if added.insert(library.clone()) {
            let inside = root.join(library.strip_prefix("/").unwrap_or(&library));
            fs::create_dir_all(inside.parent().context("a folder")?).context("a folder")?;
            fs::copy(&library, &inside).with_context(|| format!("{}", library.display()))?;
        }
    }
    Ok(())
}

/// A compressed archive as the kernel unpacks them; it takes several, one behind the other.
pub(super) fn pack(root: &Path, archive: &Path) -> Result<PathBuf> {
    let script = "set -o pipefail; find . | cpio --quiet -o -H newc | zstd -q -3 -T0";
    let file = fs::File::create(archive).with_context(|| format!("{}", archive.display()))?;
    let status = Command::new("bash")
        .args(["-c", script])
        .current_dir(root)
        .stdout(file)
        .status()
        .context("packing")?;
    anyhow::ensure!(status.success(), "packing {} failed", root.display());
    Ok(archive.to_owned())
}
