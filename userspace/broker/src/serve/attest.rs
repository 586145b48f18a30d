//! Who a cgroup belongs to, and what proves that.

use super::Broker;
use crate::config::Members as Selector;
use crate::message::{Answer, PodToken};
use crate::{cgroup, enrol, tokens};

impl Broker {
    /// What proves a workload, or one of its pods.
    pub(super) fn token(&self, name: &str, pod: Option<&PodToken>) -> Answer {
        let mut workloads = self.config.workloads.iter();
        let Some(workload) = workloads.find(|workload| workload.name == name) else {
            return Answer::Refused("no such workload".to_owned());
        };
        let cgroups = match (&workload.members, pod) {
            (Selector::Cgroup(path), None) => std::slice::from_ref(path),
            (Selector::Told, None) => &[],
            (Selector::Cgroup(_), Some(_)) => {
                return Answer::Refused("that workload has no pods".to_owned());
            }
            (Selector::Told, Some(pod)) => {
                let class = self.class_of(name);
                let places = class.and_then(|class| self.members.places(&pod.member, class));
                match places {
                    Some(places) => places,
                    None => return Answer::Refused("that pod is not the workload's".to_owned()),
                }
            }
        };
        let projected = pod.and_then(|pod| {
            let (volume, path) = pod.volume.as_ref()?;
            Some((pod.member.as_str(), volume.as_str(), path.as_str()))
        });
        let whose = tokens::Whose {
            workload,
            cgroups,
            projected,
        };
        match tokens::of(&whose, self.places.mount(), &self.config.kubelet_dir) {
            Ok(token) => Answer::Token(token),
            Err(error) => Answer::Refused(format!("the token: {error}")),
        }
    }

    /// The member that a governed cgroup belongs to, looked for once more when it is new.
    pub(super) fn holder(&mut self, id: u64) -> Option<String> {
        if !self.cgroups.contains_key(&id) {
            self.look();
        }
        let path = self.cgroups.get(&id)?;
        self.members.holder(path).map(ToOwned::to_owned)
    }

    pub(super) fn enrol(&mut self, name: &str, pid: u32) -> Answer {
        let mut workloads = self.config.workloads.iter();
        let Some(workload) = workloads.find(|workload| workload.name == name) else {
            return Answer::Refused("no such workload".to_owned());
        };
        let Selector::Cgroup(path) = &workload.members else {
            return Answer::Refused("that workload has no cgroup of its own".to_owned());
        };
        let mount = self.places.mount();
        let directory = cgroup::directory(mount, path);
        let roots = self.config.governed.iter();
        let governed: Vec<_> = roots.map(|root| cgroup::directory(mount, root)).collect();
        match enrol::enrol(&directory, &governed, pid) {
            Ok(id) => {
                // Its listeners before its first connect.
                self.look();
                Answer::Enrolled(id)
            }
            Err(error) => Answer::Refused(error.to_string()),
        }
    }
}
