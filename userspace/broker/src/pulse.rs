//! Keeps the kernel's heartbeat, in a thread that does nothing else: entering namespaces and
//! attaching programs must not make a live node look dead, nor a dead one live.
//!
//! A node writes a byte into its pipe every so often; each is good for [`GOOD_NS`].

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{pipe2, read};
use weir_kernel::Heartbeat;

use crate::serve::monotonic_ns;

/// Protected connects are refused this long after a node's last sign of life at the latest.
pub(crate) const GOOD_NS: u64 = 500_000_000;
/// A node that serves from now on is looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(50);

struct Kept {
    heartbeat: Heartbeat,
    /// Of the node that serves.
    active: Option<OwnedFd>,
}

/// The thread and what it watches.
pub(crate) struct Pulse(Arc<Mutex<Kept>>);

/// The broker's end and the node's.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?)
}

fn locked(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pulse {
    /// What is in the map stays: a node that outlived the broker before this one beats by itself
    /// until it is here. Nobody can have told the kernel to wait for longer than a beat is good.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub(crate) fn start(mut heartbeat: Heartbeat) -> io::Result<Self> {
        let latest = monotonic_ns() + GOOD_NS;
        let deadline = heartbeat.deadline().map_err(io::Error::other)?;
        if deadline > latest {
            heartbeat.set(latest).map_err(io::Error::other)?;
        }
        let kept = Arc::new(Mutex::new(Kept {
            heartbeat,
            active: None,
        }));
        let watched = Arc::clone(&kept);
        std::thread::Builder::new()
            .name("weir-pulse".to_owned())
            .spawn(move || {
                loop {
                    watch(&watched);
                }
            })?;
        Ok(Self(kept))
    }

    /// This node's bytes count from now on, and nobody else's; the first is taken for given.
    pub(crate) fn follow(&self, node: OwnedFd) {
        let mut kept = locked(&self.0);
        kept.active = Some(node);
        kept.beat(monotonic_ns() + GOOD_NS);
    }

    /// Nobody serves: refused at once.
    pub(crate) fn stop(&self) {
        let mut kept = locked(&self.0);
        kept.active = None;
        kept.beat(0);
    }
}

impl Kept {
    fn beat(&mut self, deadline_ns: u64) {
        if let Err(error) = self.heartbeat.set(deadline_ns) {
            tracing::error!(%error, "the heartbeat cannot be written; it runs out by itself");
        }
    }
}

/// Waits for bytes of the node that serves, for a moment.
fn watch(kept: &Mutex<Kept>) {
    let active = locked(kept).active.as_ref().map(|fd| fd.try_clone());
    let Some(Ok(node)) = active else {
        std::thread::sleep(LOOK_EVERY);
        return;
    };
    let wait = u16::try_from(LOOK_EVERY.as_millis()).unwrap_or(50);
    let mut fds = [PollFd::new(node.as_fd(), PollFlags::POLLIN)];
    if !matches!(poll(&mut fds, PollTimeout::from(wait)), Ok(1)) {
        return;
    }
    let mut kept = locked(kept);
    // It may have stopped serving meanwhile: only the active one is read.
    let Some(active) = kept.active.as_ref().map(AsFd::as_fd) else {
        return;
    };
    match drain(active) {
        Drained::Beat => kept.beat(monotonic_ns() + GOOD_NS),
        Drained::Nothing => {}
        // The main loop hears of it as well.
        Drained::End => kept.active = None,
    }
}

enum Drained {
    Beat,
    Nothing,
    End,
}

fn drain(node: BorrowedFd<'_>) -> Drained {
    let mut bytes = [0; 256];
    match read(node, &mut bytes) {
        Ok(0) => Drained::End,
        Ok(_) => Drained::Beat,
        Err(Errno::EAGAIN | Errno::EINTR) => Drained::Nothing,
        Err(error) => {
            tracing::warn!(%error, fd = node.as_raw_fd(), "a node's pulse cannot be read");
            Drained::End
        }
    }
}
