//! Landlock: what the engine may touch, whatever SQL tells it.

use std::path::Path;

use anyhow::{Context, Result};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr,
};

/// What the loader and the engine read.
const READ_ONLY: &[&str] = &[
    "/usr",
    "/lib",
    "/lib64",
    "/proc",
    "/sys",
    "/etc/ld.so.cache",
    "/dev/urandom",
];
const READ_WRITE: &[&str] = &["/dev/null"];

/// Fences the calling thread and all it starts: `data` read-write, the library and system
/// libraries read-only, no binding and no connecting.
///
/// # Errors
/// The kernel has no Landlock with network rules (6.7): without it `url()` and `file()` in SQL
/// reach everything that the process reaches, so the store does not start.
pub(crate) fn enter(data: &Path, library: &Path) -> Result<()> {
    let abi = ABI::V4;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))
        .context("Landlock")?
        .handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)
        .context("Landlock with network rules is needed (Linux 6.7)")?
        .create()
        .context("Landlock")?
        .set_compatibility(CompatLevel::BestEffort);
    let all = AccessFs::from_all(abi) & !AccessFs::Execute;
    let read = AccessFs::from_read(abi) & !AccessFs::Execute;
    let reads = READ_ONLY.iter().map(Path::new).chain([library]);
    let fences = reads
        .map(|path| (path, read))
        .chain(READ_WRITE.iter().map(|path| (Path::new(path), all)));
    for (path, access) in fences {
        // Not every system has each of them.
        if let Ok(descriptor) = PathFd::new(path) {
            rules = rules
                .add_rule(PathBeneath::new(descriptor, access))
                .with_context(|| format!("Landlock rule for {}", path.display()))?;
        }
    }
    let descriptor = PathFd::new(data).with_context(|| format!("opening {}", data.display()))?;
    let rules = rules
        .add_rule(PathBeneath::new(descriptor, all))
        .context("Landlock rule for the data directory")?;
    rules.restrict_self().context("Landlock")?;
    Ok(())
}
