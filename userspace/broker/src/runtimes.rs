//! Questions to container runtimes.
//!
//! Whoever can write to a runtime's socket is root on the node, so the node never gets one. The
//! broker writes one of two requests, and copies what comes back into a pipe without reading any of
//! it; the node holds the pipe's other end, to which nothing can be written.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use serde::{Deserialize, Serialize};

/// Answers under way: a stream of events and a list for each of a few runtimes, of two nodes.
const OPEN_MAX: usize = 16;
const COPY_BYTES: usize = 64 * 1024;
/// A runtime takes a request at once.
const WRITE_TIME_MAX: Duration = Duration::from_secs(5);

/// The closed list of what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuntimeAsk {
    /// Every container, running or not.
    List,
    /// A stream that says when one comes, goes or gets another name.
    Events,
}

impl RuntimeAsk {
    /// Docker Engine API, which Podman speaks too. HTTP/1.0: one answer, which ends with the
    /// connection (RFC 1945).
    const fn request(self) -> &'static str {
        match self {
            Self::List => "GET /containers/json?all=1 HTTP/1.0\r\nHost: runtime\r\n\r\n",
            // {"type":["container"],"event":["create","start","rename","destroy","remove"]}
            Self::Events => {
                "GET /events?filters=%7B%22type%22%3A%5B%22container%22%5D%2C%22event%22%3A%5B\
                 %22create%22%2C%22start%22%2C%22rename%22%2C%22destroy%22%2C%22remove%22%5D%7D \
                 HTTP/1.0\r\nHost: runtime\r\n\r\n"
            }
        }
    }
}

/// Counts the answers under way.
#[derive(Clone, Default)]
pub(crate) struct Desk {
    open: Arc<AtomicUsize>,
    /// What was last said of each socket: one that is away is asked every few seconds.
    said: Arc<Mutex<HashMap<PathBuf, String>>>,
}

struct Turn(Arc<AtomicUsize>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Desk {
    /// The end that the answer is read from. What fails later is said in the log, and the answer
    /// then ends before it began.
    ///
    /// # Errors
    /// Too many are under way, or the system gives no pipe or thread.
    pub(crate) fn ask(&self, socket: &Path, ask: RuntimeAsk) -> io::Result<OwnedFd> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let turn = Turn(Arc::clone(&self.open));
        if before >= OPEN_MAX {
            return Err(io::Error::other("too many questions to runtimes are open"));
        }
        let (answer, mut into) = io::pipe()?;
        // The other end must not become non-blocking with it: they are different descriptions.
        nix::fcntl::fcntl(&answer, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let (socket, said) = (socket.to_owned(), Arc::clone(&self.said));
        let carry = move || {
            let _turn = turn;
            let outcome = carry(&socket, ask, &mut into);
            let text = outcome.map_or_else(|error| error.to_string(), |()| String::new());
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            let before = said.insert(socket.clone(), text.clone());
            if !text.is_empty() && before.as_ref() != Some(&text) {
                tracing::warn!(socket = %socket.display(), ?ask, error = text, "a container runtime");
            }
        };
        let thread = std::thread::Builder::new().name("weir-runtime".to_owned());
        drop(thread.spawn(carry)?);
        Ok(answer.into())
    }
}

/// Asks, and copies until either side ends.
fn carry(socket: &Path, ask: RuntimeAsk, into: &mut io::PipeWriter) -> io::Result<()> {
    let mut runtime = connect(socket)?;
    runtime.set_write_timeout(Some(WRITE_TIME_MAX))?;
    runtime.write_all(ask.request().as_bytes())?;
    let mut bytes = vec![0; COPY_BYTES];
    loop {
        if !more(&runtime, into)? {
            // Nobody listens any more.
            runtime.shutdown(Shutdown::Both)?;
            return Ok(());
        }
        let count = runtime.read(&mut bytes)?;
        if count == 0 {
            return Ok(());
        }
        match into.write_all(bytes.get(..count).unwrap_or_default()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other?,
        }
    }
}

/// Waits for the runtime; false once the reader is gone.
fn more(runtime: &UnixStream, into: &io::PipeWriter) -> io::Result<bool> {
    loop {
        let mut fds = [
            PollFd::new(runtime.as_fd(), PollFlags::POLLIN),
            // Errors are always said.
            PollFd::new(into.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let said = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        let [of_runtime, of_reader] = &fds;
        if said(of_reader) {
            return Ok(false);
        }
        if said(of_runtime) {
            return Ok(true);
        }
    }
}

/// Only a socket that is root's along its whole path, and only a runtime that runs as root: one of
/// a user's own is worth that user's trust.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let real = path.canonicalize()?;
    for part in real.ancestors() {
        if std::fs::symlink_metadata(part)?.uid() != 0 {
            let text = format!("{} is not root's", part.display());
            return Err(io::Error::other(text));
        }
    }
    if !std::fs::symlink_metadata(&real)?.file_type().is_socket() {
        return Err(io::Error::other("it is not a socket"));
    }
    let stream = UnixStream::connect(&real)?;
    if getsockopt(&stream, sockopt::PeerCredentials)?.uid() != 0 {
        return Err(io::Error::other("the runtime does not run as root"));
    }
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    struct Runtime {
        listener: UnixListener,
        path: PathBuf,
    }

    impl Drop for Runtime {
        fn drop(&mut self) {
            let _gone = std::fs::remove_file(&self.path);
        }
    }

    /// Below a directory of root's; `/tmp` is one, too.
    fn runtime(name: &str) -> Runtime {
        let path = PathBuf::from(format!("/run/weir-runtimes-{}-{name}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        Runtime { listener, path }
    }

    fn blocking(answer: OwnedFd) -> std::fs::File {
        nix::fcntl::fcntl(&answer, nix::fcntl::FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        answer.into()
    }

    #[test]
    fn an_answer_comes_whole_and_the_node_cannot_write_to_the_runtime() {
        let runtime = runtime("list");
        let desk = Desk::default();
        let mut answer = blocking(desk.ask(&runtime.path, RuntimeAsk::List).unwrap());
        let (mut theirs, _) = runtime.listener.accept().unwrap();
        let mut request = vec![0; RuntimeAsk::List.request().len()];
        theirs.read_exact(&mut request).unwrap();
        assert_eq!(request, RuntimeAsk::List.request().as_bytes());
        assert!(answer.write_all(b"POST /containers/create").is_err());
        let large = vec![b'x'; 300_000];
        let writer = std::thread::spawn(move || theirs.write_all(&large));
        let mut text = Vec::new();
        answer.read_to_end(&mut text).unwrap();
        writer.join().unwrap().unwrap();
        assert_eq!(text.len(), 300_000);
    }

    #[test]
    fn the_connection_ends_when_nobody_listens() {
        let runtime = runtime("events");
        let desk = Desk::default();
        let answer = desk.ask(&runtime.path, RuntimeAsk::Events).unwrap();
        let (mut theirs, _) = runtime.listener.accept().unwrap();
        let mut request = vec![0; RuntimeAsk::Events.request().len()];
        theirs.read_exact(&mut request).unwrap();
        drop(answer);
        assert_eq!(theirs.read(&mut request).unwrap(), 0, "it was let go");
    }

    #[test]
    fn questions_are_limited_and_each_ends() {
        let runtime = runtime("many");
        let desk = Desk::default();
        let mut open = Vec::new();
        for _ in 0..OPEN_MAX {
            open.push(desk.ask(&runtime.path, RuntimeAsk::Events).unwrap());
        }
        assert!(desk.ask(&runtime.path, RuntimeAsk::List).is_err());
        let mut theirs = Vec::new();
        for _ in 0..OPEN_MAX {
            theirs.push(runtime.listener.accept().unwrap().0);
        }
        drop(theirs);
        for answer in open {
            let mut text = String::new();
            blocking(answer).read_to_string(&mut text).unwrap();
            assert_eq!(text, "");
        }
    }

    #[test]
    fn a_path_that_is_not_roots_is_not_connected_to() {
        let directory = PathBuf::from(format!("/run/weir-runtimes-{}-user", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let path = directory.join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        assert!(connect(&path).is_ok());
        std::os::unix::fs::chown(&directory, Some(65_534), None).unwrap();
        let error = connect(&path).unwrap_err().to_string();
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(error.contains("is not root's"), "{error}");
        drop(listener);
        let error = connect(Path::new("/etc/passwd")).unwrap_err().to_string();
        assert!(error.contains("not a socket"), "{error}");
    }
}
