//! How long the attached programs run, as the kernel measures it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use aya::sys::{Stats, enable_stats};

use crate::sys;
use crate::system::device::versioned;

/// The kernel measures for as long as this lives, which costs every program some 20 ns per run.
pub struct Measuring {
    _stats: OwnedFd,
}

/// What one attached program came to since it was loaded, while measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramTime {
    pub name: String,
    pub runs: u64,
    pub ns: u64,
    /// Instructions that the verifier looked at.
    pub verified: u32,
}

/// Starts measuring (`BPF_ENABLE_STATS`); other measurements of the host are not disturbed.
///
/// # Errors
/// Needs root.
pub fn measure() -> io::Result<Measuring> {
    let stats = enable_stats(Stats::RunTime).map_err(io::Error::other)?;
    Ok(Measuring { _stats: stats })
}

/// Every program below the pins, once, wherever it is attached.
///
/// # Errors
/// The pins cannot be read.
pub fn program_times(pins: &Path) -> io::Result<Vec<ProgramTime>> {
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for entry in fs::read_dir(versioned(pins))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let object = if name.starts_with("clsact_") {
            sys::get(&path)?
        } else if name.starts_with("link_") || name.starts_with("device_") {
            sys::program_of_link(sys::get(&path)?.as_fd())?
        } else {
            continue;
        };
        let info = sys::program_info(object.as_fd())?;
        if !seen.insert(info.id) {
            continue;
        }
        found.push(ProgramTime {
            name: info.name,
            runs: info.runs,
            ns: info.ns,
            verified: info.verified,
        });
    }
    Ok(found)
}
