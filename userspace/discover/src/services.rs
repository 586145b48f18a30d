//! Where a Kubernetes Service is: its cluster addresses with its ports, and the addresses behind it
//! with theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::Value;

/// Addresses and ports of one Service; beyond it the rest is not protected, and said.
const PLACES_MAX: usize = 512;

/// One address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub addr: IpAddr,
    /// 0 means any.
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceName {
    pub namespace: String,
    pub name: String,
}

/// What is known of one Service.
#[derive(Clone, Debug, Default)]
pub struct Services {
    own: BTreeSet<Place>,
    /// By the slice's name.
    slices: BTreeMap<String, BTreeSet<Place>>,
}

impl Services {
    /// The Service itself; `None` when it is gone.
    pub fn set_service(&mut self, object: Option<&Value>) {
        self.own = object.map(of_service).unwrap_or_default();
    }

    /// One of its EndpointSlices.
    pub fn set_slice(&mut self, object: &Value) {
        if let Some(name) = name_of(object) {
            self.slices.insert(name, of_slice(object));
        }
    }

    pub fn remove_slice(&mut self, object: &Value) {
        if let Some(name) = name_of(object) {
            self.slices.remove(&name);
        }
    }

    /// These are all.
    pub fn replace_slices(&mut self, objects: &[Value]) {
        self.slices.clear();
        for object in objects {
            self.set_slice(object);
        }
    }

    /// Every place, sorted, limited.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        let all: BTreeSet<Place> = self
            .own
            .iter()
            .chain(self.slices.values().flatten())
            .copied()
            .collect();
        if all.len() > PLACES_MAX {
            tracing::error!(
                places = all.len(),
                "a Service is at more than {PLACES_MAX} places: the rest is not protected"
            );
        }
        all.into_iter().take(PLACES_MAX).collect()
    }
}

fn name_of(object: &Value) -> Option<String> {
    let name = object.pointer("/metadata/name")?.as_str()?;
    Some(name.to_owned())
}

fn of_service(object: &Value) -> BTreeSet<Place> {
    let spec = object.get("spec");
    let texts = |name: &str| {
        let list = spec
            .and_then(|spec| spec.get(name))
            .and_then(Value::as_array);
        list.into_iter().flatten().filter_map(Value::as_str)
    };
    // "None" and "" parse as no address.
    let addresses = texts("clusterIPs")
        .chain(texts("externalIPs"))
        .chain(
            spec.and_then(|spec| spec.get("clusterIP"))
                .and_then(Value::as_str),
        )
        .filter_map(|text| text.parse::<IpAddr>().ok());
    let ports = spec.and_then(|spec| spec.get("ports"));
    cross(addresses, &read_ports(ports))
}

fn of_slice(object: &Value) -> BTreeSet<Place> {
    let endpoints = object.get("endpoints").and_then(Value::as_array);
    // Ready or not: one that is not may be in a moment.
    let addresses = endpoints
        .into_iter()
        .flatten()
        .filter_map(|endpoint| endpoint.get("addresses").and_then(Value::as_array))
        .flatten()
        .filter_map(|text| text.as_str()?.parse::<IpAddr>().ok());
    cross(addresses, &read_ports(object.get("ports")))
}

fn read_ports(ports: Option<&Value>) -> Vec<u16> {
    let list = ports.and_then(Value::as_array);
    list.into_iter()
        .flatten()
        .filter(|port| {
            port.get("protocol")
                .and_then(Value::as_str)
                .unwrap_or("TCP")
                == "TCP"
        })
        .filter_map(|port| u16::try_from(port.get("port")?.as_u64()?).ok())
        .filter(|port| *port != 0)
        .collect()
}

fn cross(addresses: impl Iterator<Item = IpAddr>, ports: &[u16]) -> BTreeSet<Place> {
    addresses
        .flat_map(|addr| ports.iter().map(move |port| Place { addr, port: *port }))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn place(addr: &str, port: u16) -> Place {
        Place {
            addr: addr.parse().unwrap(),
            port,
        }
    }

    #[test]
    fn a_service_is_at_its_own_addresses_and_at_those_behind_it() {
        let mut services = Services::default();
        services.set_service(Some(&json!({ "spec": {
            "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"],
            "ports": [
                { "port": 5432, "targetPort": 15432 },
                { "port": 53, "protocol": "UDP" },
            ],
        }})));
        let slice = |name: &str, address: &str| {
            json!({
                "metadata": { "name": name },
                "endpoints": [{ "addresses": [address], "conditions": { "ready": false } }],
                "ports": [{ "name": "sql", "port": 15432, "protocol": "TCP" }],
            })
        };
        services.set_slice(&slice("a", "10.1.0.5"));
        services.set_slice(&slice("b", "10.1.0.6"));
        let expected = [
            place("10.1.0.5", 15432),
            place("10.1.0.6", 15432),
            place("10.96.0.9", 5432),
            place("fd00::9", 5432),
        ];
        assert_eq!(services.places(), expected);
        services.remove_slice(&slice("a", "10.1.0.5"));
        assert_eq!(services.places().len(), 3);
        services.replace_slices(&[]);
        services.set_service(None);
        assert_eq!(services.places(), []);
    }

    #[test]
    fn headless_services_and_nonsense_have_no_places_of_their_own() {
        let mut services = Services::default();
        for object in [
            json!({}),
            json!({ "spec": { "clusterIP": "None", "clusterIPs": ["None"], "ports": [{ "port": 1 }] } }),
            json!({ "spec": { "clusterIP": "10.0.0.1", "ports": [{ "port": 0 }, { "port": 70000 }, {}] } }),
            json!({ "spec": { "clusterIPs": 7, "ports": {} } }),
        ] {
            services.set_service(Some(&object));
            assert_eq!(services.places(), [], "{object}");
        }
        services.set_slice(&json!({ "endpoints": "x" }));
        services.set_slice(
            &json!({ "metadata": { "name": "a" }, "endpoints": [{ "addresses": ["db.example"] }] }),
        );
        assert_eq!(services.places(), []);
    }

    #[test]
    fn the_number_of_places_is_limited() {
        let addresses: Vec<String> = (0..=PLACES_MAX)
            .map(|number| format!("10.1.{}.{}", number / 256, number % 256))
            .collect();
        let mut services = Services::default();
        services.set_slice(&json!({
            "metadata": { "name": "a" }, "endpoints": [{ "addresses": addresses }],
            "ports": [{ "port": 1 }],
        }));
        assert_eq!(services.places().len(), PLACES_MAX);
    }
}
