//! Room on the disk: a build that runs out of it fails in places that do not say so.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::place;

const GIB: u64 = 1 << 30;
/// Everything that the tests build, without what incremental builds keep (as much again).
const FIRST_BUILD: u64 = 6 * GIB;
/// What databases, stores and logs of a run take.
const A_RUN: u64 = GIB;

/// # Errors
/// When less is free than what is about to be written.
pub(super) fn check() -> Result<()> {
    let target = place::target();
    let needed = match target.join("debug/deps").exists() {
        true => A_RUN,
        false => FIRST_BUILD,
    };
    let there = target.ancestors().find(|path| path.exists());
    enough(there.unwrap_or_else(|| Path::new("/")), needed)
}

fn enough(place: &Path, needed: u64) -> Result<()> {
    let space = nix::sys::statvfs::statvfs(place)
        .with_context(|| format!("asking for the room on {}", place.display()))?;
    let free = space.blocks_available() * space.fragment_size();
    if free >= needed {
        return Ok(());
    }
    bail!(
        "{:.1} GiB are free on {}, and building and testing takes {}: make room (target folders of \
         other checkouts are the largest), or set CARGO_TARGET_DIR to a larger disk",
        free as f64 / GIB as f64,
        place.display(),
        needed / GIB
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_disk_has_is_not_enough() {
        assert!(enough(Path::new("/"), 0).is_ok());
        let said = enough(Path::new("/"), u64::MAX).expect_err("too little");
        assert!(said.to_string().contains("make room"), "{said}");
    }
}
