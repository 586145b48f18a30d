//! `aya::Pod` for the types that cross the boundary.

#![expect(unsafe_code, reason = "aya::Pod is an unsafe marker trait")]

use crate::lineage::Offsets;
use crate::{Destination, Event, FlowKey, Netns, Origin, Process, ProcessKey, Speaker};

// SAFETY: `repr(C)`, integers only, sizes asserted to have no padding.
unsafe impl aya::Pod for Origin {}
// SAFETY: as above.
unsafe impl aya::Pod for FlowKey {}
// SAFETY: as above.
unsafe impl aya::Pod for Event {}
// SAFETY: as above.
unsafe impl aya::Pod for Destination {}
// SAFETY: as above.
unsafe impl aya::Pod for Netns {}
// SAFETY: as above.
unsafe impl aya::Pod for Process {}
// SAFETY: as above.
unsafe impl aya::Pod for ProcessKey {}
// SAFETY: as above.
unsafe impl aya::Pod for Speaker {}
// SAFETY: as above.
unsafe impl aya::Pod for Offsets {}
