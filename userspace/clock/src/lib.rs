//! Where `Now` comes from: the real clock for the shell, a simulated one for tests.

#![forbid(unsafe_code)]
#![expect(
    clippy::disallowed_methods,
    reason = "this crate is the one place that reads clocks"
)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

use weir_model::time::Now;

/// Reads both clocks of the machine. A wall clock before 1970 reads as 0.
#[must_use]
pub fn now() -> Now {
    let wall = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Now {
        // Since boot, so that it goes on where a session moves to another process.
        mono_us: mono_us(),
        wall_us: i64::try_from(wall.as_micros()).unwrap_or(i64::MAX),
    }
}

/// The monotonic part alone, microseconds.
#[must_use]
pub fn mono_us() -> u64 {
    let mono = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
    u64::try_from(mono.unwrap_or_default().as_micros()).unwrap_or(u64::MAX)
}

/// A clock that moves only when told to.
#[derive(Clone, Debug)]
pub struct SimClock {
    now: Now,
}

impl SimClock {
    /// Starts at monotonic 0 and the given wall time in microseconds.
    #[must_use]
    pub const fn starting_at(wall_us: i64) -> Self {
        Self {
            now: Now {
                mono_us: 0,
                wall_us,
            },
        }
    }

    #[must_use]
    pub const fn now(&self) -> Now {
        self.now
    }

    /// Moves both clocks forward.
    pub const fn advance_ms(&mut self, millis: u64) {
        self.now.mono_us += millis * 1000;
        self.now.wall_us += (millis * 1000) as i64;
    }
}
