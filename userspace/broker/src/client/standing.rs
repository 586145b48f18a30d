//! What a broker that has come has to be told: all that the one before it knew from this node.

use std::collections::BTreeMap;

use crate::message::{Ask, FLOWS_TOLD_MAX, FlowNote, MemberReport, World};

/// As last said.
#[derive(Default)]
pub(super) struct Standing {
    flows: BTreeMap<String, FlowNote>,
    members: BTreeMap<String, MemberReport>,
    members_complete: bool,
    targets: BTreeMap<String, World>,
    allowed: BTreeMap<String, World>,
}

/// Is told again as a part of everything, and never by itself.
pub(super) const fn is_standing(ask: &Ask) -> bool {
    matches!(
        ask,
        Ask::FlowOpened(_) | Ask::FlowClosed { .. } | Ask::Flows(_) | Ask::World(_)
    )
}

impl Standing {
    /// Takes in what is being said.
    pub(super) fn note(&mut self, ask: &Ask) {
        match ask {
            Ask::FlowOpened(note) => self.flow(note),
            Ask::Flows(notes) => notes.iter().for_each(|note| self.flow(note)),
            Ask::FlowClosed { session } => self.forget_flow(session),
            Ask::World(world) => self.world(world),
            Ask::Hello { .. }
            | Ask::Serving
            | Ask::HandOver
            | Ask::Pass(_)
            | Ask::Upstream { .. }
            | Ask::Identity(_)
            | Ask::Process { .. }
            | Ask::Counts
            | Ask::Ledger
            | Ask::Refusals
            | Ask::Runtime { .. } => {}
        }
    }

    fn flow(&mut self, note: &FlowNote) {
        self.flows.insert(note.session.clone(), note.clone());
    }

    /// Of a flow that has ended, or is another node's by now.
    pub(super) fn forget_flow(&mut self, session: &str) {
        self.flows.remove(session);
    }

    fn world(&mut self, world: &World) {
        match world {
            World::Member(report) => {
                self.members.insert(report.id.clone(), report.clone());
            }
            World::MemberGone { id } => {
                self.members.remove(id);
            }
            World::MembersComplete => self.members_complete = true,
            World::Target { name, .. } => {
                self.targets.insert(name.clone(), world.clone());
            }
            World::Allowed { workload, .. } => {
                self.allowed.insert(workload.clone(), world.clone());
            }
        }
    }

    /// Everything, in an order in which it can be taken.
    pub(super) fn all(&self) -> Vec<Ask> {
        let notes: Vec<FlowNote> = self.flows.values().cloned().collect();
        let flows = notes.chunks(FLOWS_TOLD_MAX);
        let mut all: Vec<Ask> = flows.map(|some| Ask::Flows(some.to_vec())).collect();
        let places = self.targets.values().chain(self.allowed.values());
        all.extend(places.cloned().map(Ask::World));
        let members = self.members.values().cloned();
        all.extend(members.map(|report| Ask::World(World::Member(report))));
        if self.members_complete {
            all.push(Ask::World(World::MembersComplete));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MemberKind;

    fn note(session: &str) -> FlowNote {
        FlowNote {
            session: session.to_owned(),
            netns: 1,
            client: ([10, 0, 0, 1], 5).into(),
            upstream: None,
            workload: "analyst".to_owned(),
            principal: "p".to_owned(),
        }
    }

    fn member(id: &str, workload: Option<&str>) -> World {
        World::Member(MemberReport {
            id: id.to_owned(),
            kind: MemberKind::Container {
                id: "a".repeat(64),
                runtime: "docker".to_owned(),
            },
            workload: workload.map(ToOwned::to_owned),
        })
    }

    fn target(complete: bool) -> World {
        World::Target {
            name: "orders".to_owned(),
            found: Vec::new(),
            complete,
        }
    }

    #[test]
    fn what_was_said_last_is_told_and_what_is_gone_is_not() {
        let mut standing = Standing::default();
        for ask in [
            Ask::FlowOpened(note("a")),
            Ask::FlowOpened(note("b")),
            Ask::World(target(false)),
            Ask::World(member("one", None)),
            Ask::World(member("two", Some("analyst"))),
            Ask::FlowClosed {
                session: "a".to_owned(),
            },
            Ask::World(target(true)),
            Ask::World(member("two", None)),
            Ask::World(World::MemberGone {
                id: "one".to_owned(),
            }),
        ] {
            assert!(is_standing(&ask), "{ask:?}");
            standing.note(&ask);
        }
        let told = [
            Ask::Flows(vec![note("b")]),
            Ask::World(target(true)),
            Ask::World(member("two", None)),
        ];
        assert_eq!(standing.all(), told);
        standing.note(&Ask::World(World::MembersComplete));
        let last = standing.all().pop();
        assert_eq!(last, Some(Ask::World(World::MembersComplete)));
    }

    #[test]
    fn many_flows_are_told_in_messages_that_fit() {
        let mut standing = Standing::default();
        for number in 0..1000 {
            let mut note = note(&format!("{number:032x}"));
            note.workload = "w".repeat(63);
            note.principal = "p".repeat(36);
            standing.note(&Ask::FlowOpened(note));
        }
        let all = standing.all();
        let bytes = |ask: &Ask| serde_json::to_vec(ask).unwrap().len();
        assert!(all.iter().map(bytes).all(|bytes| bytes < 32 * 1024));
        let flows = all.iter().map(|ask| match ask {
            Ask::Flows(notes) => notes.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(flows.sum::<usize>(), 1000);
    }

    #[test]
    fn questions_are_no_state() {
        let mut standing = Standing::default();
        standing.note(&Ask::Counts);
        assert!(!is_standing(&Ask::Counts) && standing.all().is_empty());
    }
}
