//! Who was told to the broker: pods and containers, and only what is new of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use weir_broker::{MemberKind, MemberReport, World};
use weir_discover::{Change, Choice, Container, ContainerSelector, Pod, PodSelector, Rules};

/// The pods that were told of, by uid.
#[derive(Default)]
pub(super) struct Roll(BTreeMap<String, MemberReport>);

impl Roll {
    /// What is new to the broker.
    pub(super) fn take(&mut self, change: Change, rules: &Rules<PodSelector>) -> Vec<World> {
        let mut worlds = Vec::new();
        match change {
            Change::All(objects) => {
                let present: BTreeSet<&str> = objects.iter().filter_map(uid).collect();
                let gone: Vec<String> = self
                    .0
                    .keys()
                    .filter(|uid| !present.contains(uid.as_str()))
                    .cloned()
                    .collect();
                worlds.extend(gone.iter().filter_map(|uid| self.strike(uid)));
                for object in &objects {
                    worlds.extend(self.put(object, rules));
                }
            }
            Change::Put(object) => worlds.extend(self.put(&object, rules)),
            Change::Gone(object) => worlds.extend(uid(&object).and_then(|uid| self.strike(uid))),
        }
        worlds
    }

    fn put(&mut self, object: &Value, rules: &Rules<PodSelector>) -> Option<World> {
        let uid = uid(object)?;
        if Pod::has_ended(object) {
            return self.strike(uid);
        }
        let Some(pod) = Pod::read(object) else {
            tracing::error!(
                uid,
                "a pod cannot be understood: its protected connects are refused"
            );
            return self.strike(uid);
        };
        let workload = match rules.choose(&pod) {
            Choice::Workload(name) => Some(name),
            Choice::Exempt => None,
            Choice::Disputed(names) => {
                tracing::error!(
                    namespace = pod.namespace,
                    pod = pod.name,
                    ?names,
                    "several workloads select this pod: its protected connects are refused"
                );
                return self.strike(uid);
            }
        };
        let report = MemberReport {
            id: pod.uid.clone(),
            kind: MemberKind::Pod {
                uid: pod.cgroup_uid,
                containers: pod.containers,
            },
            workload,
        };
        if self.0.get(uid) == Some(&report) {
            return None;
        }
        self.0.insert(pod.uid, report.clone());
        Some(World::Member(report))
    }

    fn strike(&mut self, uid: &str) -> Option<World> {
        let report = self.0.remove(uid)?;
        Some(World::MemberGone { id: report.id })
    }
}

fn uid(object: &Value) -> Option<&str> {
    object.pointer("/metadata/uid")?.as_str()
}

/// The containers of one runtime that were told of, by id.
pub(super) struct Containers {
    runtime: String,
    told: BTreeMap<String, MemberReport>,
}

impl Containers {
    pub(super) fn of(runtime: &str) -> Self {
        Self {
            runtime: runtime.to_owned(),
            told: BTreeMap::new(),
        }
    }

    /// What is new to the broker, of everything that there is.
    pub(super) fn take(
        &mut self,
        all: &[Container],
        rules: &Rules<ContainerSelector>,
    ) -> Vec<World> {
        let mut now = BTreeMap::new();
        for container in all {
            if let Some(report) = self.report(container, rules) {
                now.insert(container.id.clone(), report);
            }
        }
        let gone = self.told.iter().filter(|(id, _)| !now.contains_key(*id));
        let mut worlds: Vec<World> = gone
            .map(|(_, report)| World::MemberGone {
                id: report.id.clone(),
            })
            .collect();
        let new = now
            .iter()
            .filter(|(id, report)| self.told.get(*id) != Some(report));
        for (_, report) in new {
            tracing::info!(id = report.id, workload = report.workload, "a container");
            worlds.push(World::Member(report.clone()));
        }
        self.told = now;
        worlds
    }

    fn report(
        &self,
        container: &Container,
        rules: &Rules<ContainerSelector>,
    ) -> Option<MemberReport> {
        let workload = match rules.choose(&(self.runtime.as_str(), container)) {
            Choice::Workload(name) => Some(name),
            Choice::Exempt => None,
            Choice::Disputed(workloads) => {
                tracing::error!(
                    id = container.id,
                    ?workloads,
                    "several workloads select this container: its protected connects are refused"
                );
                return None;
            }
        };
        Some(MemberReport {
            id: format!("{}/{}", self.runtime, container.id),
            kind: MemberKind::Container {
                id: container.id.clone(),
                runtime: self.runtime.clone(),
            },
            workload,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(number: u8, app: &str, phase: &str) -> Value {
        json!({
            "metadata": {
                "uid": format!("00000000-0000-4000-8000-00000000000{number}"),
                "namespace": "agents", "name": format!("p{number}"), "labels": { "app": app },
            },
            "spec": {}, "status": { "phase": phase },
        })
    }

    fn rules() -> Rules<PodSelector> {
        let own = |name: &str, app: &str| {
            let selector = PodSelector {
                namespace: "agents".to_owned(),
                labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
                service_account: None,
            };
            (name.to_owned(), selector)
        };
        Rules {
            workloads: vec![own("a", "a"), own("b", "b"), own("c", "b")],
            exempt: Vec::new(),
        }
    }

    fn said(worlds: &[World]) -> Vec<String> {
        let short = |id: &str| id.chars().last().unwrap_or_default();
        let one = |world: &World| match world {
            World::Member(report) => {
                let whose = report.workload.as_deref().unwrap_or("exempt");
                format!("{} {whose}", short(&report.id))
            }
            World::MemberGone { id } => format!("{} gone", short(id)),
            World::MembersComplete | World::Target { .. } | World::Allowed { .. } => {
                "other".to_owned()
            }
        };
        worlds.iter().map(one).collect()
    }

    #[test]
    fn the_broker_is_told_what_is_new_and_nothing_twice() {
        let (mut roll, rules) = (Roll::default(), rules());
        let all = vec![
            pod(1, "a", "Running"),
            pod(2, "x", "Pending"),
            pod(3, "a", "Succeeded"),
            pod(4, "b", "Running"),
        ];
        let first = roll.take(Change::All(all.clone()), &rules);
        assert_eq!(said(&first), ["1 a", "2 exempt"]);
        assert!(roll.take(Change::All(all), &rules).is_empty());
        // A pod that is selected from now on, one that is disputed from now on, one that ends.
        let changed = roll.take(Change::Put(pod(2, "a", "Running")), &rules);
        assert_eq!(said(&changed), ["2 a"]);
        let changed = roll.take(Change::Put(pod(2, "b", "Running")), &rules);
        assert_eq!(said(&changed), ["2 gone"]);
        let ended = roll.take(Change::Put(pod(1, "a", "Failed")), &rules);
        assert_eq!(said(&ended), ["1 gone"]);
        assert!(
            roll.take(Change::Gone(pod(1, "a", "Failed")), &rules)
                .is_empty()
        );
    }

    #[test]
    fn what_a_new_list_lacks_is_gone() {
        let (mut roll, rules) = (Roll::default(), rules());
        roll.take(Change::Put(pod(1, "a", "Running")), &rules);
        roll.take(Change::Put(pod(2, "a", "Running")), &rules);
        let again = roll.take(Change::All(vec![pod(2, "a", "Running")]), &rules);
        assert_eq!(said(&again), ["1 gone"]);
    }

    #[test]
    fn a_pod_that_is_not_understood_is_not_known_any_more() {
        let (mut roll, rules) = (Roll::default(), rules());
        roll.take(Change::Put(pod(1, "a", "Running")), &rules);
        let mut broken = pod(1, "a", "Running");
        broken["metadata"]["labels"] = json!([1]);
        assert_eq!(said(&roll.take(Change::Put(broken), &rules)), ["1 gone"]);
    }
}
