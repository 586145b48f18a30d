//! How long each stage of a request takes, by a clock that whoever drives the session gives.

/// Microseconds that belong to the next request, and the clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stages {
    pub(crate) clock: fn() -> u64,
    pub(crate) decode_us: u32,
    pub(crate) credential_us: u32,
}

impl Default for Stages {
    fn default() -> Self {
        Self {
            clock: || 0,
            decode_us: 0,
            credential_us: 0,
        }
    }
}

impl Stages {
    pub(crate) fn since(&self, started_us: u64) -> u32 {
        micros((self.clock)().saturating_sub(started_us))
    }
}

/// At most some 49 days.
pub(crate) fn millis(micros: u64) -> u32 {
    u32::try_from(micros / 1000).unwrap_or(u32::MAX)
}

/// At most some 71 minutes.
pub(crate) const fn micros(micros: u64) -> u32 {
    if micros > u32::MAX as u64 {
        u32::MAX
    } else {
        micros as u32
    }
}
