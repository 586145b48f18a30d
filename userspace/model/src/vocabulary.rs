//! What a protocol can say to policy: its object kinds, actions and context attributes.
//!
//! Each protocol crate exports one `Vocabulary`; `decide` generates the Cedar schema from it, so
//! that policies are validated against the very names that requests are made of.

/// Type of a context attribute in Cedar terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttrType {
    Bool,
    Long,
    String,
    /// A set of strings.
    StringSet,
}

/// One attribute of the request context. Every attribute is optional in the schema unless
/// `required`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttrKind {
    pub name: &'static str,
    pub ty: AttrType,
    pub required: bool,
    pub doc: &'static str,
}

/// One kind of object and the kind it lives in; `None` means directly in the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectKind {
    pub name: &'static str,
    pub parent: Option<&'static str>,
    pub doc: &'static str,
}

/// One action and the object kinds it applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActionKind {
    pub name: &'static str,
    pub on: &'static [&'static str],
    pub doc: &'static str,
}

/// An object kind, in a table of them.
#[must_use]
pub const fn object(
    name: &'static str,
    parent: Option<&'static str>,
    doc: &'static str,
) -> ObjectKind {
    ObjectKind { name, parent, doc }
}

/// An action, in a table of them.
#[must_use]
pub const fn action(
    name: &'static str,
    on: &'static [&'static str],
    doc: &'static str,
) -> ActionKind {
    ActionKind { name, on, doc }
}

/// An attribute that not every request has, in a table of them.
#[must_use]
pub const fn optional(name: &'static str, ty: AttrType, doc: &'static str) -> AttrKind {
    AttrKind {
        name,
        ty,
        required: false,
        doc,
    }
}

/// An attribute that every request has, in a table of them.
#[must_use]
pub const fn required(name: &'static str, ty: AttrType, doc: &'static str) -> AttrKind {
    AttrKind {
        name,
        ty,
        required: true,
        doc,
    }
}

/// All of one protocol. `namespace` is the Cedar namespace, such as `Postgres`.
///
/// Object kinds form a tree below the shared `Weir::Target`. An object's path starts with the
/// target's name; the entity id is the path joined by `/`, with `%` and `/` inside a segment
/// written `%25` and `%2F`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    pub namespace: &'static str,
    pub objects: &'static [ObjectKind],
    pub actions: &'static [ActionKind],
    pub context: &'static [AttrKind],
    /// Actions by which values flow to the agent: what `@mask` may stand on.
    pub maskable: &'static [&'static str],
    /// Actions whose effect can be run, shown and taken back: `@approve("effect")`.
    pub showable: &'static [&'static str],
    /// An action that tells something about values without showing them.
    pub predicate: Option<PredicateKind>,
}

/// Using an object this way is an oracle on values that are masked when read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PredicateKind {
    /// Such as `usePredicate`.
    pub action: &'static str,
    /// The one of `maskable` whose values it tells about.
    pub reads: &'static str,
    /// The action that chooses the object's values, on the same kind of object.
    pub writes: &'static str,
}
