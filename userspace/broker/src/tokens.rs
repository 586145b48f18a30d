//! Service-account tokens, read for the node.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

const TOKEN_BYTES_MAX: u64 = 16 * 1024;

/// Reads a token file. Its directory belongs to root (the kubelet, the lab): the path comes from
/// the configuration, never from a workload. Symbolic links in the last step are followed only
/// where root made them, as the kubelet's `..data` links are.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let real = path.canonicalize()?;
    for part in real.ancestors() {
        let metadata = std::fs::symlink_metadata(part)?;
        if metadata.uid() != 0 {
            return Err(io::Error::other(format!(
                "{} is not root's",
                part.display()
            )));
        }
    }
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(&real)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > TOKEN_BYTES_MAX {
        return Err(io::Error::other(
            "the token file is not a regular file of at most 16 KiB",
        ));
    }
    let mut text = String::new();
    Read::by_ref(&mut file)
        .take(TOKEN_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}
