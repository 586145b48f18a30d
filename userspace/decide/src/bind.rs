//! One principal at one target: evaluation and its cache.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicyId,
    Request, RestrictedExpression,
};
use weir_model::ident::{ApprovalId, Principal, PrincipalKind, SessionId};
use weir_model::request::{Access, AttrValue, Intent, Object};
use weir_model::time::Now;
use weir_model::vocabulary::{PredicateKind, Vocabulary};

use crate::compile::{Duty, PolicySet};
use crate::outcome::{Denial, HoldNeeded, Mask, MaskKind, Obligations, Outcome, Permit};

/// Decisions kept per session; at the limit the cache starts anew.
const CACHE_MAX: usize = 4096;

/// A target as policy knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRef {
    pub name: Arc<str>,
    /// Cedar namespace of its protocol.
    pub namespace: &'static str,
}

/// Forbids that an approval lifts.
#[derive(Clone, Debug, Default)]
pub struct Lifted {
    approval: Option<ApprovalId>,
    rules: Vec<Arc<str>>,
}

impl Lifted {
    #[must_use]
    pub const fn none() -> Self {
        Self {
            approval: None,
            rules: Vec::new(),
        }
    }

    #[must_use]
    pub const fn approved(approval: ApprovalId, rules: Vec<Arc<str>>) -> Self {
        Self {
            approval: Some(approval),
            rules,
        }
    }
}

/// One hold rule that applies.
#[derive(Clone, Debug)]
struct HoldRule {
    rule: Arc<str>,
    groups: Vec<Arc<str>>,
    reason: String,
}

/// All that policy says of an intent, before approvals.
#[derive(Clone, Debug)]
enum Finding {
    Denied(Denial),
    Permitted {
        rule: Arc<str>,
        obligations: Arc<Obligations>,
        holds: Vec<HoldRule>,
    },
}

/// Decides for one principal at one target.
pub struct Bound {
    set: Arc<PolicySet>,
    vocabulary: Option<&'static Vocabulary>,
    /// Who has to be permitted: the principal, and beside it the workload that presented its token.
    sides: Vec<Side>,
    authorizer: Authorizer,
    cache: HashMap<Arc<Intent>, Arc<Finding>>,
    /// Columns asked for by [`Bound::masks`].
    masked: HashMap<Object, bool>,
}

/// One of those who have to be permitted, with all entities of the question.
struct Side {
    uid: EntityUid,
    entities: Vec<Entity>,
    /// Ends the reason of a denial, where there are two.
    whose: &'static str,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound")
            .field("version", &self.set.version())
            .finish_non_exhaustive()
    }
}

/// A name that this crate or a vocabulary made; anything else is an error of ours.
fn uid(kind: &str, id: &str) -> Option<EntityUid> {
    let kind: EntityTypeName = kind.parse().ok()?;
    Some(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

impl Bound {
    /// `attested` is the workload that presented a token of `principal`: both have to be permitted,
    /// and what either of them obliges to holds.
    pub(crate) fn new(
        set: Arc<PolicySet>,
        (principal, attested): (&Principal, Option<&Principal>),
        target: &TargetRef,
    ) -> Self {
        let vocabulary = set
            .vocabularies
            .iter()
            .copied()
            .find(|known| known.namespace == target.namespace);
        let sides = match attested {
            Some(attested) if agent(attested) != agent(principal) => {
                presented_sides(&set, principal, attested)
            }
            Some(_) | None => vec![Side {
                uid: agent(principal),
                entities: entities(&set, principal, None),
                whose: "",
            }],
        };
        Self {
            set,
            vocabulary,
            sides,
            authorizer: Authorizer::new(),
            cache: HashMap::new(),
            masked: HashMap::new(),
        }
    }

    #[must_use]
    pub fn policy_version(&self) -> u32 {
        self.set.version()
    }

    /// Decides one request. The answer for an equal intent is taken from the cache; approvals
    /// are applied afterwards and never cached.
    #[expect(
        clippy::too_many_arguments,
        reason = "the permit's session and number, and time, are inputs of a pure decision"
    )]
    pub fn decide(
        &mut self,
        seq: u32,
        session: SessionId,
        intent: &Arc<Intent>,
        lifted: &Lifted,
        _now: Now,
    ) -> Outcome {
        let finding = match self.cache.get(intent) {
            Some(finding) => Arc::clone(finding),
            None => match self.evaluate(intent) {
                Ok(finding) => self.keep(intent, finding),
                Err(Fault(denial)) => return Outcome::Denial(denial),
            },
        };
        match &*finding {
            Finding::Denied(denial) => Outcome::Denial(denial.clone()),
            Finding::Permitted {
                rule,
                obligations,
                holds,
            } => {
                let open: Vec<&HoldRule> = holds
                    .iter()
                    .filter(|hold| !lifted.rules.contains(&hold.rule))
                    .collect();
                if !open.is_empty() {
                    return Outcome::Hold(needed(&open));
                }
                Outcome::Permit(Permit {
                    session,
                    seq,
                    rule: Arc::clone(rule),
                    obligations: Arc::clone(obligations),
                    approval: if holds.is_empty() {
                        None
                    } else {
                        lifted.approval
                    },
                })
            }
        }
    }

    /// Would this principal get the column's values masked? Then what they are compared with is as
    /// secret as they are. A policy that cannot be evaluated counts as a mask.
    pub fn masks(&mut self, column: &Object) -> bool {
        if let Some(known) = self.masked.get(column) {
            return *known;
        }
        let maskable = self.vocabulary.map_or(&[][..], |known| known.maskable);
        let masks = maskable.iter().any(|action| {
            let access = Access {
                action,
                object: column.clone(),
            };
            let intent = Intent::new(vec![access.clone()], Vec::new());
            self.sides.iter().any(|side| {
                self.question(side, &intent, &access, action)
                    .and_then(|question| self.duties(&question, &access))
                    .map_or(true, |duties| {
                        duties.iter().any(|(_, duty)| matches!(duty, Duty::Mask(_)))
                    })
            })
        });
        if self.masked.len() >= CACHE_MAX {
            self.masked.clear();
        }
        self.masked.insert(column.clone(), masks);
        masks
    }

    /// Whether policy masks anything of this protocol. Where nothing is masked, what the server says
    /// has nothing to hide.
    #[must_use]
    pub fn masks_any(&self) -> bool {
        self.vocabulary
            .is_none_or(|known| self.set.masked.contains(known.namespace))
    }

    fn keep(&mut self, intent: &Arc<Intent>, finding: Finding) -> Arc<Finding> {
        if self.cache.len() >= CACHE_MAX {
            self.cache.clear();
        }
        let finding = Arc::new(finding);
        self.cache.insert(Arc::clone(intent), Arc::clone(&finding));
        finding
    }

    fn evaluate(&self, intent: &Intent) -> Result<Finding, Fault> {
        if intent.accesses.is_empty() {
            return Ok(Finding::Denied(Denial {
                rule: Arc::from("weir:no-permit"),
                reason: "the request says nothing that policy could permit".to_owned(),
                access: None,
                advice: None,
            }));
        }
        let mut gathered = Gathered::default();
        for side in &self.sides {
            if let Some(mut denial) = self.denied(side, intent, &mut gathered)? {
                denial.reason.push_str(side.whose);
                return Ok(Finding::Denied(denial));
            }
        }
        let mut rules: Vec<&str> = gathered.permits.iter().map(String::as_str).collect();
        rules.sort_unstable();
        rules.dedup();
        Ok(Finding::Permitted {
            rule: Arc::from(rules.join(", ")),
            obligations: Arc::new(gathered.obligations),
            holds: gathered.holds.into_values().collect(),
        })
    }

    fn denied(
        &self,
        side: &Side,
        intent: &Intent,
        gathered: &mut Gathered,
    ) -> Result<Option<Denial>, Fault> {
        // Masks first: whether a predicate is an oracle depends on them.
        for access in &intent.accesses {
            if let Some(denial) = self.access(side, (intent, access), gathered)? {
                return Ok(Some(denial));
            }
        }
        for access in &intent.accesses {
            if let Some(kind) = self.vocabulary.and_then(|known| known.predicate)
                && access.action == kind.action
                && let Some(denial) = self.predicate(side, (intent, access), kind)?
            {
                return Ok(Some(denial));
            }
        }
        Ok(None)
    }

    /// The denial, if any; otherwise what the access adds is in `gathered`.
    fn access(
        &self,
        side: &Side,
        (intent, access): (&Intent, &Access),
        gathered: &mut Gathered,
    ) -> Result<Option<Denial>, Fault> {
        let question = self.question(side, intent, access, access.action)?;
        match self.judge(&self.set.base, &question, access)? {
            Verdict::Denied(denial) => return Ok(Some(denial)),
            Verdict::Allowed(permits) => gathered.permits.extend(permits),
        }
        for (id, duty) in self.duties(&question, access)? {
            match duty {
                Duty::Mask(kind)
                    if kind.is_deterministic() && self.writes(side, intent, access)? =>
                {
                    let stricter = Duty::Mask(MaskKind::Redact);
                    gathered.add(&self.set, &id, &stricter, access);
                }
                Duty::Mask(_) | Duty::Detect | Duty::Hold { .. } | Duty::Limit { .. } => {
                    gathered.add(&self.set, &id, duty, access);
                }
            }
        }
        Ok(None)
    }

    /// Whether this principal may choose the column's values: then it could look up what each becomes.
    fn writes(&self, side: &Side, intent: &Intent, access: &Access) -> Result<bool, Fault> {
        let Some(kind) = self.vocabulary.and_then(|known| known.predicate) else {
            return Ok(false);
        };
        let question = self.question(side, intent, access, kind.writes)?;
        Ok(matches!(
            self.judge(&self.set.base, &question, access)?,
            Verdict::Allowed(_)
        ))
    }

    /// A predicate on a column that this principal gets masked needs a permit that says so.
    fn predicate(
        &self,
        side: &Side,
        (intent, access): (&Intent, &Access),
        kind: PredicateKind,
    ) -> Result<Option<Denial>, Fault> {
        let read = self.question(side, intent, access, kind.reads)?;
        let masked = self
            .duties(&read, access)?
            .iter()
            .any(|(_, duty)| matches!(duty, Duty::Mask(_)));
        if !masked {
            return Ok(None);
        }
        let question = self.question(side, intent, access, kind.action)?;
        match self.judge(&self.set.predicate, &question, access)? {
            Verdict::Allowed(_permits) => Ok(None),
            Verdict::Denied(_) => Ok(Some(ours(
                "weir:masked-predicate",
                "a masked column may not decide which rows come back",
                access,
            ))),
        }
    }

    fn judge(
        &self,
        set: &cedar_policy::PolicySet,
        question: &Question,
        access: &Access,
    ) -> Result<Verdict, Fault> {
        let response = self
            .authorizer
            .is_authorized(&question.request, set, &question.entities);
        if response.diagnostics().errors().next().is_some() {
            return Err(Fault::failed(access));
        }
        // Cedar names reasons in no order; the record and the cache need one.
        let mut reasons: Vec<String> = response
            .diagnostics()
            .reason()
            .map(ToString::to_string)
            .collect();
        reasons.sort_unstable();
        if response.decision() == Decision::Allow {
            return Ok(Verdict::Allowed(reasons));
        }
        Ok(Verdict::Denied(match reasons.first() {
            Some(id) => self.forbidden(id, access),
            None => ours("weir:no-permit", "no policy permits it", access),
        }))
    }

    fn forbidden(&self, id: &str, access: &Access) -> Denial {
        let words = self
            .set
            .words
            .get(&PolicyId::new(id))
            .cloned()
            .unwrap_or_default();
        let reason = if words.reason.is_empty() {
            "a policy forbids it".to_owned()
        } else {
            words.reason
        };
        Denial {
            rule: Arc::from(id),
            reason,
            access: Some(access.clone()),
            advice: words.advice,
        }
    }

    fn duties(
        &self,
        question: &Question,
        access: &Access,
    ) -> Result<Vec<(PolicyId, &Duty)>, Fault> {
        let response = self.authorizer.is_authorized(
            &question.request,
            &self.set.annotated,
            &question.entities,
        );
        if response.diagnostics().errors().next().is_some() {
            return Err(Fault::failed(access));
        }
        let mut duties: Vec<(PolicyId, &Duty)> = response
            .diagnostics()
            .reason()
            .filter_map(|id| self.set.duties.get(id).map(|duty| (id.clone(), duty)))
            .collect();
        duties.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(duties)
    }

    fn question(
        &self,
        side: &Side,
        intent: &Intent,
        access: &Access,
        action: &str,
    ) -> Result<Question, Fault> {
        self.asked(side, intent, access, action)
            .ok_or_else(|| Fault::unfit(access))
    }

    fn asked(
        &self,
        side: &Side,
        intent: &Intent,
        access: &Access,
        action: &str,
    ) -> Option<Question> {
        let vocabulary = self.vocabulary?;
        let namespace = vocabulary.namespace;
        let mut entities = side.entities.clone();
        let resource = resource(vocabulary, &access.object, &mut entities)?;
        let action = uid(&format!("{namespace}::Action"), action)?;
        let context = Context::from_pairs(
            intent
                .context
                .iter()
                .map(|(name, value)| ((*name).to_owned(), expression(value))),
        )
        .ok()?;
        let request = Request::new(side.uid.clone(), action, resource, context, None).ok()?;
        let entities = Entities::from_entities(entities, None).ok()?;
        Some(Question { request, entities })
    }
}

struct Question {
    request: Request,
    entities: Entities,
}

/// What permits and plain forbids say of one access.
enum Verdict {
    /// Ids of the permits, sorted.
    Allowed(Vec<String>),
    Denied(Denial),
}

/// Policy could not be asked: refused like a denial, but never remembered.
struct Fault(Denial);

impl Fault {
    fn unfit(access: &Access) -> Self {
        Self(ours(
            "weir:policy-error",
            "policy cannot judge this access",
            access,
        ))
    }

    fn failed(access: &Access) -> Self {
        Self(ours(
            "weir:policy-error",
            "a policy failed to evaluate",
            access,
        ))
    }
}

#[derive(Default)]
struct Gathered {
    permits: Vec<String>,
    obligations: Obligations,
    holds: BTreeMap<Arc<str>, HoldRule>,
}

impl Gathered {
    fn add(&mut self, set: &PolicySet, id: &PolicyId, duty: &Duty, access: &Access) {
        let rule: Arc<str> = Arc::from(id.to_string());
        match duty {
            Duty::Hold { groups } => {
                let words = set.words.get(id).cloned().unwrap_or_default();
                let hold = HoldRule {
                    rule: Arc::clone(&rule),
                    groups: groups.clone(),
                    reason: words.reason,
                };
                self.holds.insert(rule, hold);
            }
            Duty::Mask(kind) => self.mask(access, *kind, rule),
            Duty::Detect => self.obligations.detect = Some(rule),
            Duty::Limit { rows, bytes } => {
                let obligations = &mut self.obligations;
                obligations.rows_max = least(obligations.rows_max, *rows);
                obligations.bytes_max = least(obligations.bytes_max, *bytes);
            }
        }
    }

    fn mask(&mut self, access: &Access, kind: MaskKind, rule: Arc<str>) {
        let masks = &mut self.obligations.masks;
        match masks.get(&access.object) {
            Some(have) if have.kind >= kind => {}
            Some(_) | None => {
                masks.insert(access.object.clone(), Mask { kind, rule });
            }
        }
    }
}

fn least(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

fn needed(open: &[&HoldRule]) -> HoldNeeded {
    let mut groups: Vec<Arc<str>> = open.iter().flat_map(|hold| hold.groups.clone()).collect();
    groups.sort();
    groups.dedup();
    let reasons: Vec<&str> = open
        .iter()
        .map(|hold| hold.reason.as_str())
        .filter(|text| !text.is_empty())
        .collect();
    HoldNeeded {
        rules: open.iter().map(|hold| Arc::clone(&hold.rule)).collect(),
        groups,
        reason: reasons.join("; "),
        expires_s: None,
    }
}

fn ours(rule: &'static str, reason: &str, access: &Access) -> Denial {
    Denial {
        rule: Arc::from(rule),
        reason: reason.to_owned(),
        access: Some(access.clone()),
        advice: None,
    }
}

fn agent_type() -> EntityTypeName {
    static NAME: std::sync::LazyLock<Option<EntityTypeName>> =
        std::sync::LazyLock::new(|| "Weir::Agent".parse().ok());
    match NAME.as_ref() {
        Some(name) => name.clone(),
        None => unreachable!("Weir::Agent is a valid Cedar type name"),
    }
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
fn agent(principal: &Principal) -> EntityUid {
    EntityUid::from_type_name_and_id(
        agent_type(),
        EntityId::new(format!("{}/{}", principal.tenant, principal.oid)),
    )
}

/// Each sees the other: `principal.attested` of the token's subject is the workload, and
/// `principal.presented` of the workload is the token's subject.
fn presented_sides(set: &PolicySet, principal: &Principal, attested: &Principal) -> Vec<Side> {
    let mut all: Vec<Entity> = Vec::new();
    let of_principal = entities(set, principal, Some(("attested", agent(attested))));
    let of_attested = entities(set, attested, Some(("presented", agent(principal))));
    for entity in of_principal.into_iter().chain(of_attested) {
        // Both may be in the same group.
        if all.iter().all(|have| have.uid() != entity.uid()) {
            all.push(entity);
        }
    }
    let side = |principal: &Principal, whose| Side {
        uid: agent(principal),
        entities: all.clone(),
        whose,
    };
    vec![
        side(principal, " (asked of the presented token's subject)"),
        side(
            attested,
            " (asked of the workload that presented the token)",
        ),
    ]
}

/// The principal, everything it is in, and an attribute that names another one.
fn entities(
    set: &PolicySet,
    principal: &Principal,
    other: Option<(&str, EntityUid)>,
) -> Vec<Entity> {
    let mut parents = HashSet::new();
    for guid in principal.groups.certain() {
        parents.extend(uid("Weir::Group", guid));
        for (alias, of) in &set.aliases {
            if **of == **guid {
                parents.extend(uid("Weir::Group", alias));
            }
        }
    }
    for role in &principal.roles {
        parents.extend(uid("Weir::Role", role));
    }
    parents.extend(uid("Weir::Application", &principal.app));
    let kind = match principal.kind {
        PrincipalKind::Application => "application",
        PrincipalKind::Person => "person",
    };
    let mut attrs = HashMap::from([
        ("workload".to_owned(), text(&principal.workload)),
        ("tenant".to_owned(), text(&principal.tenant)),
        ("kind".to_owned(), text(kind)),
    ]);
    if let Some(person) = &principal.on_behalf_of {
        attrs.insert("onBehalfOf".to_owned(), text(person));
    }
    if let Some((name, uid)) = other {
        attrs.insert(name.to_owned(), RestrictedExpression::new_entity_uid(uid));
    }
    let mut entities: Vec<Entity> = parents
        .iter()
        .map(|parent| Entity::new_no_attrs(parent.clone(), HashSet::new()))
        .collect();
    // Literals as attributes cannot fail to evaluate.
    entities.extend(Entity::new(agent(principal), attrs, parents));
    entities
}

/// The object and its ancestors; `None` when it does not fit the vocabulary.
fn resource(
    vocabulary: &Vocabulary,
    object: &Object,
    entities: &mut Vec<Entity>,
) -> Option<EntityUid> {
    let mut kinds = vec![object.kind];
    let mut kind = vocabulary
        .objects
        .iter()
        .find(|known| known.name == object.kind)?;
    while let Some(parent) = kind.parent {
        kinds.push(parent);
        kind = vocabulary
            .objects
            .iter()
            .find(|known| known.name == parent)?;
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
