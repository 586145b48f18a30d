//! Every network namespace of the host that has a process or a name.

#![expect(unsafe_code, reason = "one setns(2) on a thread of its own")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::sys;

/// Where `ip netns` and container runtimes keep names.
const NAMED: [&str; 3] = ["/run/netns", "/var/run/netns", "/run/docker/netns"];

/// Does something in each, on a thread that is inside, with the namespace's cookie. All are
/// visited, whatever fails; the first failure is the result.
pub(crate) fn each_namespace(work: impl Fn(u64) -> io::Result<()> + Sync) -> io::Result<()> {
    let mut outcome = Ok(());
    for file in found().into_values() {
        let visited = visit(&file, &work);
        if outcome.is_ok() {
            outcome = visited;
        }
    }
    outcome
}

/// By inode.
fn found() -> BTreeMap<u64, File> {
    let mut files = BTreeMap::new();
    let processes = entries("/proc").into_iter().map(|path| path.join("ns/net"));
    let named = NAMED.into_iter().flat_map(entries);
    for path in processes.chain(named) {
        // Processes end while we look, and not everything here is a namespace.
        let Ok(file) = File::open(path) else { continue };
        if let Ok(metadata) = file.metadata() {
            files.entry(metadata.ino()).or_insert(file);
        }
    }
    files
}

fn entries(folder: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries.flatten().map(|entry| entry.path()).collect()
}

fn visit(file: &File, work: &(impl Fn(u64) -> io::Result<()> + Sync)) -> io::Result<()> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: changes the calling thread alone, which ends right after.
            let code = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
            if code != 0 {
                // A file that is no namespace, or one that is just going.
                return Ok(());
            }
            let socket = UdpSocket::bind(("0.0.0.0", 0))?;
            work(sys::netns_cookie(socket.as_fd())?)
        });
        thread
            .join()
            .map_err(|_| io::Error::other("a namespace visit panicked"))?
    })
}
