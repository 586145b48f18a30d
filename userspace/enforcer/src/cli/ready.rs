//! `weir ready`: whether one process serves, for probes.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

/// A number and a line's end.
const LINE_BYTES_MAX: u64 = 32;

/// Exit 0 when the node that was given this file serves and is alive.
pub(super) fn run(path: &Path) -> Result<ExitCode> {
    let file = std::fs::File::open(path).with_context(|| format!("reading {}", path.display()))?;
    let mut text = String::new();
    file.take(LINE_BYTES_MAX)
        .read_to_string(&mut text)
        .with_context(|| format!("reading {}", path.display()))?;
    if text.is_empty() {
        bail!("not yet, or not any more: another node has succeeded this one");
    }
    let pid: u32 = text.trim().parse().context("the file holds no number")?;
    if !Path::new("/proc").join(pid.to_string()).exists() {
        bail!("process {pid} is gone");
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_with_a_live_process_is_ready() {
        let path = std::env::temp_dir().join(format!("weir-ready-{}", std::process::id()));
        assert!(run(&path).is_err());
        for (text, ready) in [
            (String::new(), false),
            ("no number\n".to_owned(), false),
            (format!("{}\n", u32::MAX), false),
            (format!("{}\n", std::process::id()), true),
        ] {
            std::fs::write(&path, &text).unwrap();
            assert_eq!(run(&path).is_ok(), ready, "{text}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
