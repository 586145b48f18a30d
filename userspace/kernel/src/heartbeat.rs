//! A second handle on the heartbeat, for a thread that does nothing else.

use std::path::Path;

use aya::maps::{Array, Map, MapData};
use weir_abi::names;

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
