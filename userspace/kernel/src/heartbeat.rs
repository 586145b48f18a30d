//! Further handles on the heartbeat: for a thread that does nothing else, and for the node.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use aya::maps::{Array, Map, MapData};
use weir_abi::names;

use crate::sys;
use crate::system::KernelError;

/// Sets the instant until which the enforcer is believed alive.
pub struct Heartbeat(Array<MapData, u64>);

impl Heartbeat {
    /// From the pin; the map is there once the system was loaded.
    pub(crate) fn open(pins: &Path) -> Result<Self, KernelError> {
        let name = names::HEARTBEAT;
        let failed = |source| KernelError::Map { name, source };
        let data = MapData::from_pin(pins.join(name)).map_err(failed)?;
        Ok(Self(Array::try_from(Map::Array(data)).map_err(failed)?))
    }

    /// As it was set last.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn deadline(&self) -> Result<u64, KernelError> {
        let name = names::HEARTBEAT;
        let found = self.0.get(&0, 0);
        found.map_err(|source| KernelError::Map { name, source })
    }

    /// `CLOCK_MONOTONIC` nanoseconds; 0 means that it is gone.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set(&mut self, deadline_ns: u64) -> Result<(), KernelError> {
        let name = names::HEARTBEAT;
        let set = self.0.set(0, deadline_ns, 0);
        set.map_err(|source| KernelError::Map { name, source })
    }
}

/// The heartbeat by a descriptor that can be written and not read, as the broker passes it to the
/// node. Works in a process without capabilities.
pub struct OwnHeartbeat(OwnedFd);

impl OwnHeartbeat {
    #[must_use]
    pub const fn new(map: OwnedFd) -> Self {
        Self(map)
    }

    /// `CLOCK_MONOTONIC` nanoseconds.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set(&self, deadline_ns: u64) -> io::Result<()> {
        sys::set_value(self.0.as_fd(), &0_u32, &deadline_ns)
    }
}
