//! The table of attempts: what each tries, and what has to become of it.

mod datagrams;
mod escapes;
mod frames;
mod handed;
mod raw;
mod streams;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

pub use frames::flood;
pub use handed::give;
pub use streams::{exchange, reach};

/// What a recipe knows of its surroundings.
#[derive(Clone, Debug)]
pub struct Scene {
    pub server4: Ipv4Addr,
    pub server6: Ipv6Addr,
    /// Protected, and this recipe's alone.
    pub port: u16,
    /// Not protected.
    pub open_port: u16,
    pub own4: Ipv4Addr,
    pub own6: Ipv6Addr,
    pub server_mac: [u8; 6],
    pub device: &'static str,
}

impl Scene {
    #[must_use]
    pub fn v4(&self) -> SocketAddr {
        SocketAddr::new(self.server4.into(), self.port)
    }

    #[must_use]
    pub fn v6(&self) -> SocketAddr {
        SocketAddr::new(self.server6.into(), self.port)
    }

    #[must_use]
    pub fn mapped(&self) -> SocketAddr {
        SocketAddr::new(IpAddr::V6(self.server4.to_ipv6_mapped()), self.port)
    }

    #[must_use]
    pub fn open4(&self) -> SocketAddr {
        SocketAddr::new(self.server4.into(), self.open_port)
    }

    #[must_use]
    pub fn open6(&self) -> SocketAddr {
        SocketAddr::new(self.server6.into(), self.open_port)
    }
}

/// What has to become of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Served by Weir, with an origin that names the true destination.
    Redirected,
    /// Refused with an error, for one of these reasons.
    Refused(&'static [&'static str]),
    /// Packets dropped, for one of these reasons; the attempt may not notice.
    Dropped(&'static [&'static str]),
    /// Fails with or without Weir, because root in a container may not.
    Impossible,
}

/// Descriptors and processes that an attempt starts with.
#[derive(Debug, Default)]
pub struct Carry {
    pub socket: Option<OwnedFd>,
    pub pid: Option<u32>,
}

type Before = fn(&Scene) -> io::Result<Carry>;
type Attack = fn(&Scene, Carry) -> io::Result<String>;

/// One attempt.
#[derive(Clone, Copy)]
pub struct Recipe {
    pub name: &'static str,
    pub tries: &'static str,
    pub expect: Expect,
    /// Done as an ungoverned process of the same namespace.
    pub before: Before,
    /// Done as root inside the workload.
    pub attack: Attack,
}

fn nothing(_scene: &Scene) -> io::Result<Carry> {
    Ok(Carry::default())
}

const fn recipe(name: &'static str, tries: &'static str, expect: Expect, attack: Attack) -> Recipe {
    Recipe {
        name,
        tries,
        expect,
        before: nothing,
        attack,
    }
}

/// Every recipe; its place is its port.
#[must_use]
pub fn table() -> Vec<Recipe> {
    [
        streams::TABLE,
        datagrams::TABLE,
        raw::TABLE,
        frames::TABLE,
        handed::TABLE,
        escapes::TABLE,
    ]
    .concat()
}
