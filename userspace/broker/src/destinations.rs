//! What is protected, and what listed workloads may reach: from the configuration, and found by
//! the node (DNS names, Services).

use std::collections::BTreeMap;
use std::net::IpAddr;

use weir_kernel::{KernelError, System};

use crate::config::{BrokerConfig, Destination};
use crate::message::Found;

/// Addresses and ports of one name set; far above what a Service or a name has.
const FOUND_MAX: usize = 512;

/// Why a report was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("nothing by the name of {0} is found by the node")]
    Unknown(String),
    #[error("more than {FOUND_MAX} places")]
    TooMany,
    #[error("{0} can not be the address of a server")]
    Address(IpAddr),
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// Everything that is in the two maps.
pub(crate) struct Destinations {
    classes: u32,
    /// Class 0 is listed, too, when a workload is: its cgroup may be one that is not known yet.
    listed: Vec<(u32, bool)>,
    fixed: Vec<Destination>,
    fixed_allowed: Vec<(u32, Destination)>,
    targets: BTreeMap<String, Told>,
    allowed: BTreeMap<u32, Told>,
}

/// As the node found it.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) found: Vec<Found>,
    /// The node has heard of all names.
    pub(crate) complete: bool,
}

impl Destinations {
    pub(crate) fn new(config: &BrokerConfig) -> Self {
        let mut listed = vec![(0, config.workloads.iter().any(|one| one.egress.is_some()))];
        let (mut fixed_allowed, mut allowed) = (Vec::new(), BTreeMap::new());
        for (class, workload) in (1..).zip(&config.workloads) {
            listed.push((class, workload.egress.is_some()));
            let Some(egress) = &workload.egress else {
                continue;
            };
            fixed_allowed.extend(egress.allow.iter().map(|place| (class, *place)));
            if egress.named {
                allowed.insert(class, Told::default());
            }
        }
        Self {
            classes: u32::try_from(config.workloads.len()).unwrap_or(u32::MAX),
            listed,
            fixed: config.destinations.clone(),
            fixed_allowed,
            targets: config
                .found_targets
                .iter()
                .map(|name| (name.clone(), Told::default()))
                .collect(),
            allowed,
        }
    }

    /// The addresses of a target as the node found them; replaces those that it told before.
    pub(crate) fn set_target(
        &mut self,
        name: &str,
        told: Told,
        system: &mut System,
    ) -> Result<(), Refused> {
        check(&told.found)?;
        let Some(slot) = self.targets.get_mut(name) else {
            return Err(Refused::Unknown(name.to_owned()));
        };
        *slot = told;
        Ok(self.apply(system)?)
    }

    /// The same for what a listed workload may reach by name.
    pub(crate) fn set_allowed(
        &mut self,
        (class, name): (u32, &str),
        told: Told,
        system: &mut System,
    ) -> Result<(), Refused> {
        check(&told.found)?;
        let Some(slot) = self.allowed.get_mut(&class) else {
            return Err(Refused::Unknown(name.to_owned()));
        };
        *slot = told;
        Ok(self.apply(system)?)
    }

    /// Adds first and removes last, so that nothing is unprotected in between. What an earlier run
    /// protected stays until the node has told of every target.
    pub(crate) fn apply(&self, system: &mut System) -> Result<(), KernelError> {
        let mut protected = Vec::new();
        for class in 0..=self.classes {
            for place in &self.fixed {
                protected.push((class, place.net, place.prefix, place.port));
            }
            for place in self.targets.values().flat_map(|told| &told.found) {
                protected.push((class, place.addr, whole(place.addr), place.port));
            }
        }
        let mut allowed = Vec::new();
        for (class, place) in &self.fixed_allowed {
            allowed.push((*class, place.net, place.prefix, place.port));
        }
        for (class, told) in &self.allowed {
            for place in &told.found {
                allowed.push((*class, place.addr, whole(place.addr), place.port));
            }
        }
        for (class, net, prefix, port) in &protected {
            system.protect(*class, *net, *prefix, *port)?;
        }
        for (class, net, prefix, port) in &allowed {
            system.allow(*class, *net, *prefix, *port)?;
        }
        for (class, listed) in &self.listed {
            system.set_listed(*class, *listed)?;
        }
        if self.targets.values().all(|told| told.complete) {
            system.retain_destinations(&protected);
        }
        if self.allowed.values().all(|told| told.complete) {
            system.retain_allowed(&allowed);
        }
        Ok(())
    }
}

const fn whole(addr: IpAddr) -> u8 {
    if addr.is_ipv4() { 32 } else { 128 }
}

/// An answer of DNS never protects (or opens) what is no single server's: every address, a
/// loopback, a group, a link.
fn check(found: &[Found]) -> Result<(), Refused> {
    if found.len() > FOUND_MAX {
        return Err(Refused::TooMany);
    }
    match found.iter().find(|place| !is_server(place.addr)) {
        Some(place) => Err(Refused::Address(place.addr)),
        None => Ok(()),
    }
}

fn is_server(addr: IpAddr) -> bool {
    match addr.to_canonical() {
        IpAddr::V4(addr) => {
            !addr.is_unspecified()
                && !addr.is_loopback()
                && !addr.is_multicast()
                && !addr.is_broadcast()
                && !addr.is_link_local()
                && addr.octets().first() != Some(&0)
        }
        IpAddr::V6(addr) => {
            !addr.is_unspecified()
                && !addr.is_loopback()
                && !addr.is_multicast()
                && !addr.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_servers_are_taken() {
        let found = |addr: &str| {
            vec![Found {
                addr: addr.parse().unwrap(),
                port: 5432,
            }]
        };
        for addr in ["10.0.0.1", "fd77::1", "192.0.2.1", "2001:db8::1"] {
            assert!(check(&found(addr)).is_ok(), "{addr}");
        }
        for addr in [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(
                matches!(check(&found(addr)), Err(Refused::Address(_))),
                "{addr}"
            );
        }
        let many = vec![found("10.0.0.1").remove(0); FOUND_MAX + 1];
        assert!(matches!(check(&many), Err(Refused::TooMany)));
    }
}
