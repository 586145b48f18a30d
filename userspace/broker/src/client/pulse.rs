//! The node's sign of life: by way of the broker, and by its own hand while no broker is there.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use weir_kernel::OwnHeartbeat;

use super::AWAY_MAX;
use crate::pulse::GOOD_NS;
use crate::serve::monotonic_ns;

/// By whom the kernel was told that the node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// The broker tells it on, if it is not stopped.
    Broker,
    /// The broker is gone, and was there a moment ago.
    Own,
    /// It has a successor, or the broker has been gone for too long.
    Nobody,
}

/// The node's sign of life, once it serves.
pub struct NodePulse(pub(super) Arc<Vital>);

impl NodePulse {
    /// The node lives. Say so every 100 ms; each is good for 500 ms.
    ///
    /// # Errors
    /// The kernel does not take it.
    pub fn beat(&self) -> io::Result<Beat> {
        self.0.beat(monotonic_ns())
    }
}

/// What a beat needs.
pub(super) struct Vital {
    /// Breaks when the broker ends, or lets us go.
    pipe: Mutex<OwnedFd>,
    heartbeat: OwnHeartbeat,
    drains: AtomicBool,
    /// When the pipe was found broken; 0 while it holds.
    broken_ns: AtomicU64,
}

impl Vital {
    pub(super) const fn new(pipe: OwnedFd, heartbeat: OwnedFd) -> Self {
        Self {
            pipe: Mutex::new(pipe),
            heartbeat: OwnHeartbeat::new(heartbeat),
            drains: AtomicBool::new(false),
            broken_ns: AtomicU64::new(0),
        }
    }

    /// A successor serves: its beats count, and ours never again.
    pub(super) fn drains(&self) {
        self.drains.store(true, Ordering::Relaxed);
    }

    /// Another broker reads this pipe.
    pub(super) fn follow(&self, pipe: OwnedFd) {
        *self.pipe.lock().unwrap_or_else(PoisonError::into_inner) = pipe;
        self.broken_ns.store(0, Ordering::Relaxed);
    }

    fn beat(&self, now_ns: u64) -> io::Result<Beat> {
        if self.drains.load(Ordering::Relaxed) {
            return Ok(Beat::Nobody);
        }
        let pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        match nix::unistd::write(&*pipe, &[1]) {
            // One that does not read was told already.
            Ok(_) | Err(Errno::EAGAIN) => return Ok(Beat::Broker),
            Err(Errno::EPIPE) => {}
            Err(error) => return Err(error.into()),
        }
        let first =
            self.broken_ns
                .compare_exchange(0, now_ns, Ordering::Relaxed, Ordering::Relaxed);
        let since_ns = first.err().unwrap_or(now_ns);
        drop(pipe);
        let away_ns = now_ns.saturating_sub(since_ns);
        if u128::from(away_ns) > AWAY_MAX.as_nanos() {
            return Ok(Beat::Nobody);
        }
        self.heartbeat.set(now_ns + GOOD_NS)?;
        Ok(Beat::Own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pulse::pair;

    /// No map: writing it fails, which shows that it was tried.
    fn vital() -> (OwnedFd, Vital) {
        let (read, write) = pair().unwrap();
        let no_map = std::fs::File::open("/dev/null").unwrap();
        (read, Vital::new(write, no_map.into()))
    }

    #[test]
    fn the_node_beats_by_itself_only_without_a_broker_and_for_a_while() {
        let (read, vital) = vital();
        assert_eq!(vital.beat(1).unwrap(), Beat::Broker);
        drop(read);
        let limit = u64::try_from(AWAY_MAX.as_nanos()).unwrap();
        vital.beat(1_000).unwrap_err();
        vital.beat(1_000 + limit).unwrap_err();
        assert_eq!(vital.beat(1_001 + limit).unwrap(), Beat::Nobody);
        let (read, write) = pair().unwrap();
        vital.follow(write);
        assert_eq!(vital.beat(2_000 + limit).unwrap(), Beat::Broker);
        // The time of the next absence begins anew.
        drop(read);
        vital.beat(2_000 + 2 * limit).unwrap_err();
    }

    #[test]
    fn a_node_that_drains_never_beats() {
        let (read, vital) = vital();
        vital.drains();
        assert_eq!(vital.beat(1).unwrap(), Beat::Nobody);
        drop(read);
        assert_eq!(vital.beat(2).unwrap(), Beat::Nobody);
    }

    #[test]
    fn a_broker_that_does_not_read_is_none_that_is_gone() {
        let (_read, vital) = vital();
        for now in 1..100_000 {
            assert_eq!(vital.beat(now).unwrap(), Beat::Broker);
        }
    }
}
