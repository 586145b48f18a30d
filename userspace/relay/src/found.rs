//! Where a target is, as it was found by name; replaced while flows come and go.

use std::net::IpAddr;
use std::sync::{PoisonError, RwLock};

/// Address and port (0: any), sorted.
#[derive(Debug, Default)]
pub struct FoundPlaces(RwLock<Vec<(IpAddr, u16)>>);

impl FoundPlaces {
    /// These, and no others, from here on.
    pub fn replace(&self, mut places: Vec<(IpAddr, u16)>) {
        places.sort_unstable();
        places.dedup();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = places;
    }

    /// `Some(true)` when the port itself was found, `Some(false)` when every port counts.
    pub(crate) fn covers(&self, ip: IpAddr, port: u16) -> Option<bool> {
        let places = self.0.read().unwrap_or_else(PoisonError::into_inner);
        [(port, true), (0, false)]
            .into_iter()
            .find(|(port, _)| places.binary_search(&(ip, *port)).is_ok())
            .map(|(_, exact)| exact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_covered_by_port_or_as_a_whole_until_replaced() {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let found = FoundPlaces::default();
        assert_eq!(found.covers(ip("10.0.0.1"), 5432), None);
        found.replace(vec![(ip("10.0.0.2"), 0), (ip("10.0.0.1"), 5432)]);
        assert_eq!(found.covers(ip("10.0.0.1"), 5432), Some(true));
        assert_eq!(found.covers(ip("10.0.0.1"), 5433), None);
        assert_eq!(found.covers(ip("10.0.0.2"), 1), Some(false));
        found.replace(vec![(ip("fd77::1"), 5432)]);
        assert_eq!(found.covers(ip("10.0.0.1"), 5432), None);
        assert_eq!(found.covers(ip("fd77::1"), 5432), Some(true));
    }
}
