//! Numbers for the entities that policies name, so that a question is answered with integers.

use std::collections::HashMap;
use std::sync::Arc;

use weir_model::request::Object;
use weir_model::vocabulary::Vocabulary;

/// Depth of the deepest object kind, the target included; a vocabulary with more is refused.
pub(crate) const DEPTH_MAX: usize = 8;

/// What an entity literal stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entity {
    /// An agent, group, role or application.
    Principal(u32),
    Resource(u32),
    Action(u32),
    /// A name that no request can have.
    Nothing,
}

/// One level of the object tree, as far as policies name it.
#[derive(Default, Debug)]
struct Node {
    /// Namespace and kind → number. Kinds of one depth share a path, such as `Table` and `Type`.
    named: Vec<(&'static str, &'static str, u32)>,
    below: HashMap<Arc<str>, Node>,
}

/// All entities that a policy set names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// By type, then by id.
    principals: HashMap<Arc<str>, HashMap<Arc<str>, u32>>,
    principal_count: usize,
    actions: HashMap<(&'static str, &'static str), u32>,
    root: Node,
    /// Each resource, by its number.
    resources: Vec<Named>,
}

/// A resource that a policy names.
#[derive(Debug)]
struct Named {
    namespace: &'static str,
    object: Object,
}

/// The numbers along one object's path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trail {
    ids: [u32; DEPTH_MAX],
    len: usize,
    itself: Option<u32>,
}

impl Trail {
    pub(crate) fn ids(&self) -> &[u32] {
        self.ids.get(..self.len).unwrap_or_default()
    }

    pub(crate) const fn itself(&self) -> Option<u32> {
        self.itself
    }
}

impl Names {
    /// Gives every action of the vocabularies its number.
    pub(crate) fn new(vocabularies: &[&'static Vocabulary]) -> Self {
        let mut names = Self::default();
        for vocabulary in vocabularies {
            for action in vocabulary.actions {
                let next = count(names.actions.len());
                names
                    .actions
                    .insert((vocabulary.namespace, action.name), next);
            }
        }
        names
    }

    /// The protocols of these actions; of all of them for `None`.
    pub(crate) fn namespaces(&self, actions: Option<&[u32]>) -> Vec<&'static str> {
        let all = self.actions.iter();
        all.filter(|(_, id)| actions.is_none_or(|chosen| chosen.contains(id)))
            .map(|((namespace, _), _)| *namespace)
            .collect()
    }

    /// The number of an action.
    pub(crate) fn action(&self, namespace: &str, name: &str) -> Option<u32> {
        self.actions.get(&(namespace, name)).copied()
    }

    /// The number of a principal's entity, if a policy names it.
    pub(crate) fn principal(&self, kind: &str, id: &str) -> Option<u32> {
        self.principals.get(kind)?.get(id).copied()
    }

    /// Notes an entity literal.
    pub(crate) fn note(
        &mut self,
        vocabularies: &[&'static Vocabulary],
        kind: &str,
        id: &str,
    ) -> Entity {
        match kind {
            "Weir::Agent" | "Weir::Group" | "Weir::Role" | "Weir::Application" => {
                let of_kind = self.principals.entry(Arc::from(kind)).or_default();
                if let Some(known) = of_kind.get(id) {
                    return Entity::Principal(*known);
                }
                let next = count(self.principal_count);
                of_kind.insert(Arc::from(id), next);
                self.principal_count += 1;
                return Entity::Principal(next);
            }
            "Weir::Target" => return self.resource("Weir", "Target", id),
            _ => {}
        }
        let Some((namespace, name)) = kind.rsplit_once("::") else {
            return Entity::Nothing;
        };
        let known = vocabularies.iter().find(|one| one.namespace == namespace);
        let Some(vocabulary) = known else {
            return Entity::Nothing;
        };
        if name == "Action" {
            return match self.action(namespace, id) {
                Some(id) => Entity::Action(id),
                None => Entity::Nothing,
            };
        }
        match vocabulary.objects.iter().find(|one| one.name == name) {
            Some(kind) => self.resource(vocabulary.namespace, kind.name, id),
            None => Entity::Nothing,
        }
    }

    fn resource(&mut self, namespace: &'static str, kind: &'static str, id: &str) -> Entity {
        let Some(path) = segments(id) else {
            return Entity::Nothing;
        };
        if path.len() > DEPTH_MAX {
            return Entity::Nothing;
        }
        let mut node = &mut self.root;
        for segment in &path {
            node = node.below.entry(Arc::clone(segment)).or_default();
        }
        let named = &mut node.named;
        if let Some((_, _, id)) = named.iter().find(|one| (one.0, one.1) == (namespace, kind)) {
            return Entity::Resource(*id);
        }
        let next = count(self.resources.len());
        named.push((namespace, kind, next));
        let object = Object {
            kind,
            path: path.into(),
        };
        self.resources.push(Named { namespace, object });
        Entity::Resource(next)
    }

    /// A resource, by its number.
    pub(crate) fn object(&self, resource: u32) -> Option<&Object> {
        let named = self.resources.get(resource as usize);
        named.map(|named| &named.object)
    }

    /// How deep a resource lies; 1 is a target.
    pub(crate) fn depth(&self, resource: u32) -> usize {
        let named = self.resources.get(resource as usize);
        named.map_or(0, |named| named.object.path.len())
    }

    /// Is a resource another one, or below it?
    pub(crate) fn is_below(
        &self,
        vocabularies: &[&'static Vocabulary],
        resource: u32,
        above: u32,
    ) -> bool {
        self.above(vocabularies, resource).contains(&above)
    }

    /// The resource itself and everything named that it is in.
    pub(crate) fn above(&self, vocabularies: &[&'static Vocabulary], resource: u32) -> Vec<u32> {
        let mut ids = vec![resource];
        let Some(named) = self.resources.get(resource as usize) else {
            return ids;
        };
        let known = vocabularies
            .iter()
            .find(|one| one.namespace == named.namespace);
        if let Some(trail) = known.and_then(|known| self.trail(known, &named.object)) {
            ids.extend_from_slice(trail.ids());
        }
        ids
    }

    /// The numbers of `object` and all it is in. `None` when it does not fit the vocabulary.
    pub(crate) fn trail(&self, vocabulary: &Vocabulary, object: &Object) -> Option<Trail> {
        let kinds = kinds(vocabulary, object.kind)?;
        if kinds.len() != object.path.len() {
            return None;
        }
        let mut trail = Trail {
            ids: [0; DEPTH_MAX],
            len: 0,
            itself: None,
        };
        let mut node = &self.root;
        for (depth, segment) in object.path.iter().enumerate() {
            let Some(next) = node.below.get(&**segment) else {
                break;
            };
            node = next;
            let kind = kinds.get(depth)?;
            let namespace = if depth == 0 {
                "Weir"
            } else {
                vocabulary.namespace
            };
            let mut named = node.named.iter();
            if let Some((_, _, id)) = named.find(|one| (one.0, one.1) == (namespace, kind)) {
                *trail.ids.get_mut(trail.len)? = *id;
                trail.len += 1;
                if depth + 1 == object.path.len() {
                    trail.itself = Some(*id);
                }
            }
        }
        Some(trail)
    }
}

fn count(have: usize) -> u32 {
    // Policies are at most 32 MiB of text.
    u32::try_from(have).unwrap_or(u32::MAX)
}

/// The chain of kinds down to `kind`, `Target` first.
struct Kinds {
    names: [&'static str; DEPTH_MAX],
    len: usize,
}

impl Kinds {
    const fn len(&self) -> usize {
        self.len
    }

    fn get(&self, depth: usize) -> Option<&'static str> {
        // Stored from the leaf up.
        let at = self.len.checked_sub(depth + 1)?;
        self.names.get(at).copied()
    }
}

fn kinds(vocabulary: &Vocabulary, kind: &str) -> Option<Kinds> {
    let find = |name: &str| vocabulary.objects.iter().find(|known| known.name == name);
    let mut chain = Kinds {
        names: ["Target"; DEPTH_MAX],
        len: 0,
    };
    let mut at = find(kind)?;
    loop {
        *chain.names.get_mut(chain.len)? = at.name;
        chain.len += 1;
        match at.parent {
            Some(parent) => at = find(parent)?,
            None => break,
        }
    }
    *chain.names.get_mut(chain.len)? = "Target";
    chain.len += 1;
    Some(chain)
}

/// An entity id taken apart; `None` when no object's id is written that way.
fn segments(id: &str) -> Option<Vec<Arc<str>>> {
    let mut path = Vec::new();
    for written in id.split('/') {
        let plain = written.replace("%2F", "/").replace("%25", "%");
        if plain.replace('%', "%25").replace('/', "%2F") != written {
            return None;
        }
        path.push(Arc::from(plain));
    }
    Some(path)
}
