//! What is protected, and where it is redirected to.

/// Matches every port of the destination.
pub const PORT_ANY: u32 = 0;

/// Pseudo port of the entry that says: some port of this address is protected.
pub const PORT_SOME: u32 = u32::MAX;

/// Data of the longest-prefix key of `DESTINATIONS`; class and port are matched exactly, so a
/// prefix length is 64 plus that of the address in its IPv6 form.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    pub class: u32,
    /// Host order, [`PORT_ANY`] or [`PORT_SOME`].
    pub port: u32,
    /// IPv4 as `::ffff:a.b.c.d`.
    pub addr: [u8; 16],
}

/// Bits of [`Destination`] before the address.
pub const DESTINATION_FIXED_BITS: u32 = 64;

/// Value of `NETNS`: the listeners of one namespace, and of `HOSTS`: those of one class in the
/// host's. A port of 0 means none: refuse.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Netns {
    /// The workload's own addresses, network byte order.
    pub v6: [u32; 4],
    pub v4: u32,
    /// Listener ports, host order.
    pub port4: u32,
    pub port6: u32,
    pub class: u32,
}

const _: () = assert!(size_of::<Destination>() == 24);
const _: () = assert!(size_of::<Netns>() == 32);
