//! Cedar itself: the slow path for policies outside the compiled subset, and the oracle that
//! everything compiled is compared with.

use std::collections::{HashMap, HashSet};

use cedar_policy::{
    Authorizer, Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicyId, Request,
    Response, RestrictedExpression,
};
use weir_model::ident::{Principal, PrincipalKind};
use weir_model::request::{Access, AttrValue, Intent, Object};
use weir_model::vocabulary::Vocabulary;

use crate::compile::PolicySet;
use crate::moment::{self, Moment};
use crate::rule::RuleKind;

/// All policies as two Cedar sets.
pub(crate) struct Whole {
    /// Permits and plain forbids.
    base: cedar_policy::PolicySet,
    /// Annotated forbids.
    annotated: cedar_policy::PolicySet,
}

impl Whole {
    fn of(set: &PolicySet) -> Self {
        let mut whole = Self {
            base: cedar_policy::PolicySet::new(),
            annotated: cedar_policy::PolicySet::new(),
        };
        for rule in &set.rules {
            if let Some(policy) = set.all.policy(&PolicyId::new(&*rule.id)) {
                let into = match rule.kind {
                    RuleKind::Duty(_) => &mut whole.annotated,
                    RuleKind::Permit { .. } | RuleKind::Forbid => &mut whole.base,
                };
                // Ids are unique, so adding cannot fail.
                let _unique = into.add(policy.clone());
            }
        }
        whole
    }
}

/// Cedar's answer; numbers of rules.
#[derive(Debug, Default)]
pub(crate) struct Reasons {
    pub(crate) base: Vec<u32>,
    pub(crate) duties: Vec<u32>,
    pub(crate) base_failed: bool,
    pub(crate) duties_failed: bool,
}

/// A principal in Cedar's form.
pub(crate) struct Cedar {
    authorizer: Authorizer,
    uid: EntityUid,
    entities: Vec<Entity>,
}

pub(crate) struct Question {
    request: Request,
    entities: Entities,
}

impl Cedar {
    /// `other` is the principal beside this one, by the attribute that names it, and the attribute
    /// by which it names this one.
    pub(crate) fn new(
        set: &PolicySet,
        principal: &Principal,
        other: Option<(&str, &Principal, &str)>,
    ) -> Option<Self> {
        let uid = agent(principal)?;
        let mut all = Vec::new();
        match other {
            None => all = entities(set, principal, (&uid, None)),
            Some((name, beside, of_beside)) => {
                let beside_uid = agent(beside)?;
                let mine = entities(set, principal, (&uid, Some((name, &beside_uid))));
                let theirs = entities(set, beside, (&beside_uid, Some((of_beside, &uid))));
                for entity in mine.into_iter().chain(theirs) {
                    // Both may be in the same group.
                    if all.iter().all(|have: &Entity| have.uid() != entity.uid()) {
                        all.push(entity);
                    }
                }
            }
        }
        Some(Self {
            authorizer: Authorizer::new(),
            entities: all,
            uid,
        })
    }

    /// `None` when the question does not fit the vocabulary.
    pub(crate) fn question(
        &self,
        vocabulary: &Vocabulary,
        (intent, access, moment): (&Intent, &Access, Moment),
        action: &str,
    ) -> Option<Question> {
        let namespace = vocabulary.namespace;
        let mut entities = self.entities.clone();
        let resource = resource(vocabulary, &access.object, &mut entities)?;
        let action = uid(&format!("{namespace}::Action"), action)?;
        let own = intent.context.iter();
        let own = own.map(|(name, value)| ((*name).to_owned(), expression(value)));
        let ours = [moment::DATE, moment::TIME, moment::WEEKDAY].into_iter();
        let ours = ours.filter_map(|name| {
            let value = RestrictedExpression::new_long(moment.attribute(name)?);
            Some((name.to_owned(), value))
        });
        let context = Context::from_pairs(own.chain(ours)).ok()?;
        let request = Request::new(self.uid.clone(), action, resource, context, None).ok()?;
        let entities = Entities::from_entities(entities, None).ok()?;
        Some(Question { request, entities })
    }

    fn response(&self, question: &Question, set: &cedar_policy::PolicySet) -> Response {
        self.authorizer
            .is_authorized(&question.request, set, &question.entities)
    }

    /// Is this one policy satisfied? `None` when it failed.
    pub(crate) fn satisfied(
        &self,
        question: &Question,
        alone: &cedar_policy::PolicySet,
    ) -> Option<bool> {
        let response = self.response(question, alone);
        let mut errors = response.diagnostics().errors();
        if errors.next().is_some() {
            return None;
        }
        Some(response.diagnostics().reason().next().is_some())
    }

    /// The deciding policies of the whole set.
    pub(crate) fn reasons(&self, question: &Question, set: &PolicySet) -> Reasons {
        let whole = set.whole.get_or_init(|| Whole::of(set));
        let base = self.response(question, &whole.base);
        let annotated = self.response(question, &whole.annotated);
        let failed = |response: &Response| response.diagnostics().errors().next().is_some();
        Reasons {
            base: numbers(set, &base),
            duties: numbers(set, &annotated),
            base_failed: failed(&base),
            duties_failed: failed(&annotated),
        }
    }
}

/// Ascending: Cedar names reasons in no order, and the record and the cache need one.
fn numbers(set: &PolicySet, response: &Response) -> Vec<u32> {
    let number = |id: &PolicyId| {
        let id: &str = id.as_ref();
        let at = set.rules.binary_search_by(|rule| (*rule.id).cmp(id)).ok()?;
        u32::try_from(at).ok()
    };
    let mut numbers: Vec<u32> = response.diagnostics().reason().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// A name that this crate or a vocabulary made; anything else is an error of ours.
fn uid(kind: &str, id: &str) -> Option<EntityUid> {
    let kind: EntityTypeName = kind.parse().ok()?;
    Some(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn expression(value: &AttrValue) -> RestrictedExpression {
    match value {
        AttrValue::Bool(value) => RestrictedExpression::new_bool(*value),
        AttrValue::Long(value) => RestrictedExpression::new_long(*value),
        AttrValue::String(value) => text(value),
        AttrValue::StringSet(values) => {
            RestrictedExpression::new_set(values.iter().map(|value| text(value)))
        }
    }
}

/// A principal's own entity; the key of policy and record.
fn agent(principal: &Principal) -> Option<EntityUid> {
    let id = format!("{}/{}", principal.tenant, principal.oid);
    uid("Weir::Agent", &id)
}

/// The principal, everything it is in, and an attribute that names another one.
fn entities(
    set: &PolicySet,
    principal: &Principal,
    (agent, other): (&EntityUid, Option<(&str, &EntityUid)>),
) -> Vec<Entity> {
    let mut parents = HashSet::new();
    for (kind, id) in parents_of(set, principal) {
        parents.extend(uid(kind, &id));
    }
    let mut attrs = HashMap::from([
        ("workload".to_owned(), text(&principal.workload)),
        ("tenant".to_owned(), text(&principal.tenant)),
        ("kind".to_owned(), text(kind_of(principal))),
    ]);
    if let Some(person) = &principal.on_behalf_of {
        attrs.insert("onBehalfOf".to_owned(), text(person));
    }
    if let Some((name, uid)) = other {
        let uid = RestrictedExpression::new_entity_uid(uid.clone());
        attrs.insert(name.to_owned(), uid);
    }
    let mut entities: Vec<Entity> = parents
        .iter()
        .map(|parent| Entity::new_no_attrs(parent.clone(), HashSet::new()))
        .collect();
    // Literals as attributes cannot fail to evaluate.
    entities.extend(Entity::new(agent.clone(), attrs, parents));
    entities
}

/// As the attribute `kind` says it.
pub(crate) const fn kind_of(principal: &Principal) -> &'static str {
    match principal.kind {
        PrincipalKind::Application => "application",
        PrincipalKind::Person => "person",
    }
}

/// Types and ids of what a principal is in.
pub(crate) fn parents_of(set: &PolicySet, principal: &Principal) -> Vec<(&'static str, String)> {
    let mut parents = Vec::new();
    for guid in principal.groups.certain() {
        parents.push(("Weir::Group", guid.to_string()));
        for alias in set.aliases.get(&**guid).into_iter().flatten() {
            parents.push(("Weir::Group", alias.clone()));
        }
    }
    for role in &principal.roles {
        parents.push(("Weir::Role", role.to_string()));
    }
    parents.push(("Weir::Application", principal.app.to_string()));
    parents
}

/// The object and its ancestors; `None` when it does not fit the vocabulary.
fn resource(
    vocabulary: &Vocabulary,
    object: &Object,
    entities: &mut Vec<Entity>,
) -> Option<EntityUid> {
    let find = |name: &str| vocabulary.objects.iter().find(|known| known.name == name);
    let mut kinds = vec![object.kind];
    let mut kind = find(object.kind)?;
    while let Some(parent) = kind.parent {
        kinds.push(parent);
        kind = find(parent)?;
    }
    kinds.push("");
    kinds.reverse();
    if kinds.len() != object.path.len() {
        return None;
    }
    let mut above: Option<EntityUid> = None;
    for (depth, kind) in kinds.iter().enumerate() {
        let path = object.path.get(..=depth)?;
        let type_name = if depth == 0 {
            "Weir::Target".to_owned()
        } else {
            format!("{}::{kind}", vocabulary.namespace)
        };
        let id = Object {
            kind: object.kind,
            path: path.into(),
        }
        .id();
        let this = uid(&type_name, &id)?;
        let attrs = HashMap::from([("name".to_owned(), text(path.last()?))]);
        let parents = above.take().into_iter().collect();
        entities.push(Entity::new(this.clone(), attrs, parents).ok()?);
        above = Some(this);
    }
    above
}
