//! Time as a parameter. Pure crates get `Now`; only `clock`, `relay` and `enforcer` make one.

/// One reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Microseconds of a monotonic clock; only differences mean anything.
    pub mono_us: u64,
    /// Microseconds since the Unix epoch, UTC.
    pub wall_us: i64,
}

impl Now {
    /// The monotonic instant `millis` later, in microseconds.
    #[must_use]
    pub const fn mono_after_ms(self, millis: u64) -> u64 {
        self.mono_us.saturating_add(millis.saturating_mul(1000))
    }

    /// Wall-clock seconds since the Unix epoch.
    #[must_use]
    pub const fn unix_s(self) -> i64 {
        self.wall_us.div_euclid(1_000_000)
    }
}
