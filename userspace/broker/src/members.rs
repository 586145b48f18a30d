//! Pods and containers that the node told of, and the class of every governed cgroup.

use std::collections::{BTreeMap, BTreeSet};

use weir_kernel::ClassId;

use crate::layout::{self, Misnamed, Roots};
use crate::message::MemberReport;

/// A node runs a few hundred pods at most.
const MEMBERS_MAX: usize = 2048;

/// Cgroups above one that are looked at.
const DEPTH_MAX: usize = 32;

/// Why a report was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unknown {
    #[error("no workload {0} is configured for pods or containers")]
    Workload(String),
    #[error(transparent)]
    Misnamed(#[from] Misnamed),
    #[error("more than {MEMBERS_MAX} pods and containers")]
    TooMany,
}

struct Member {
    candidates: Vec<String>,
    class: ClassId,
    /// Told of since the node that is here now came.
    fresh: bool,
}

/// By the name that the node gave.
#[derive(Default)]
pub(crate) struct Members {
    by_id: BTreeMap<String, Member>,
    told: bool,
}

impl Members {
    /// A node came: what an earlier one told stays until this one has told everything.
    pub(crate) fn begin(&mut self) {
        for member in self.by_id.values_mut() {
            member.fresh = false;
        }
    }

    /// Everything was told: what was not told again is gone.
    pub(crate) fn complete(&mut self) {
        self.by_id.retain(|_, member| member.fresh);
        self.told = true;
    }

    /// Everything was told, at some time since this broker started.
    pub(crate) const fn are_told(&self) -> bool {
        self.told
    }

    /// `class` is that of the report's workload, when there is such a one.
    pub(crate) fn put(
        &mut self,
        report: &MemberReport,
        class: Option<ClassId>,
        roots: Roots<'_>,
    ) -> Result<(), Unknown> {
        let class = match (&report.workload, class) {
            (None, _) => ClassId::EXEMPT,
            (Some(_), Some(class)) => class,
            (Some(name), None) => return Err(Unknown::Workload(name.clone())),
        };
        if !self.by_id.contains_key(&report.id) && self.by_id.len() >= MEMBERS_MAX {
            return Err(Unknown::TooMany);
        }
        let member = Member {
            candidates: layout::candidates(&report.kind, roots)?,
            class,
            fresh: true,
        };
        self.by_id.insert(report.id.clone(), member);
        Ok(())
    }

    pub(crate) fn remove(&mut self, id: &str) {
        self.by_id.remove(id);
    }

    /// The places that a member of this class may be at.
    pub(crate) fn places(&self, id: &str, class: ClassId) -> Option<&[String]> {
        let member = self.by_id.get(id).filter(|member| member.class == class)?;
        Some(&member.candidates)
    }

    /// Whose the cgroup at this path is: the nearest one above it that a member may be at.
    pub(crate) fn holder(&self, path: &str) -> Option<&str> {
        let above = std::iter::successors(Some(path), |path| {
            path.rsplit_once('/').map(|(parent, _)| parent)
        });
        let mut holders = above.take(DEPTH_MAX).filter_map(|path| {
            let mut all = self.by_id.iter();
            let is_here = |member: &Member| member.candidates.iter().any(|one| one == path);
            all.find(|(_, member)| is_here(member))
        });
        holders.next().map(|(id, _)| id.as_str())
    }

    /// Every place that a member may be at.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (&str, ClassId)> {
        self.by_id.values().flat_map(|member| {
            let candidates = member.candidates.iter();
            candidates.map(|path| (path.as_str(), member.class))
        })
    }
}

/// The class of each claimed cgroup. Two claims that differ make it nobody's, so that protected
/// destinations are refused; those cgroups are named in the second part.
pub(crate) fn settle(
    claims: impl IntoIterator<Item = (u64, ClassId)>,
) -> (BTreeMap<u64, ClassId>, BTreeSet<u64>) {
    let mut classes = BTreeMap::new();
    let mut disputed = BTreeSet::new();
    for (cgroup, class) in claims {
        match classes.insert(cgroup, class) {
            Some(before) if before != class => {
                disputed.insert(cgroup);
            }
            Some(_) | None => {}
        }
    }
    for cgroup in &disputed {
        classes.insert(*cgroup, ClassId::NONE);
    }
    (classes, disputed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MemberKind;

    const ROOTS: Roots<'static> = Roots {
        pods: "/",
        runtimes: &[],
    };

    fn pod(digit: char, workload: Option<&str>) -> MemberReport {
        let uid: String = "00000000-0000-4000-8000-00000000000".to_owned() + &digit.to_string();
        MemberReport {
            id: format!("pod/{uid}"),
            kind: MemberKind::Pod {
                uid,
                containers: Vec::new(),
            },
            workload: workload.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn a_pod_without_a_workload_is_exempt_and_one_of_an_unknown_workload_is_refused() {
        let mut members = Members::default();
        members.put(&pod('1', None), None, ROOTS).unwrap();
        let class = Some(ClassId(3));
        members.put(&pod('2', Some("a")), class, ROOTS).unwrap();
        let unknown = members.put(&pod('3', Some("b")), None, ROOTS);
        assert_eq!(unknown, Err(Unknown::Workload("b".to_owned())));
        let classes: BTreeSet<ClassId> = members.claims().map(|(_, class)| class).collect();
        assert_eq!(classes, BTreeSet::from([ClassId(3), ClassId::EXEMPT]));
    }

    #[test]
    fn a_cgroup_belongs_to_the_pod_that_it_lies_in() {
        let mut members = Members::default();
        for digit in ['1', '2'] {
            members.put(&pod(digit, None), None, ROOTS).unwrap();
        }
        let path = "/kubepods/pod00000000-0000-4000-8000-000000000001";
        let holder = |path: &str| members.holder(path).map(ToOwned::to_owned);
        let one = Some("pod/00000000-0000-4000-8000-000000000001".to_owned());
        assert_eq!(holder(path), one);
        assert_eq!(holder(&format!("{path}/container/inner")), one);
        // A name inside another's subtree, and one that only begins alike.
        let inner = "/kubepods/pod00000000-0000-4000-8000-000000000002";
        assert_eq!(holder(&format!("{path}{inner}")), one);
        for stranger in [format!("{path}9"), format!("/agents{path}"), "/".to_owned()] {
            assert_eq!(holder(&stranger), None, "{stranger}");
        }
    }

    #[test]
    fn what_a_new_node_does_not_tell_again_is_gone_once_it_has_told_everything() {
        let mut members = Members::default();
        for digit in ['1', '2'] {
            members.put(&pod(digit, None), None, ROOTS).unwrap();
        }
        let all = members.claims().count();
        members.begin();
        members.put(&pod('2', None), None, ROOTS).unwrap();
        assert_eq!(members.claims().count(), all, "gone too early");
        members.complete();
        assert_eq!(members.claims().count(), all / 2);
    }

    #[test]
    fn a_cgroup_that_two_claim_differently_is_nobodys() {
        let (a, b) = (ClassId(1), ClassId::EXEMPT);
        let (classes, disputed) = settle([(7, a), (8, a), (7, b), (8, a), (7, a)]);
        assert_eq!(classes, BTreeMap::from([(7, ClassId::NONE), (8, a)]));
        assert_eq!(disputed, BTreeSet::from([7]));
    }

    #[test]
    fn the_number_of_members_is_limited() {
        let mut members = Members::default();
        for number in 0..=MEMBERS_MAX {
            let uid = format!("00000000-0000-4000-8000-{number:012x}");
            let report = MemberReport {
                id: uid.clone(),
                kind: MemberKind::Pod {
                    uid,
                    containers: Vec::new(),
                },
                workload: None,
            };
            let put = members.put(&report, None, ROOTS);
            assert_eq!(put.is_ok(), number < MEMBERS_MAX, "{number}");
        }
    }
}
