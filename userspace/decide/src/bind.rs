//! One principal at one target: evaluation and its cache.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use weir_model::ident::{ApprovalId, Principal, SessionId};
use weir_model::request::{Access, Intent, Object};
use weir_model::time::{Now, TimesRead};
use weir_model::vocabulary::{PredicateKind, Vocabulary};

use crate::budget::{Accounts, Budgets, SavedAccounts, Spending};
use crate::compile::PolicySet;
use crate::expr::{Asked, Who};
use crate::gather::{Gathered, HoldRule, needed};
use crate::moment::{Class, Moment};
use crate::oracle::{self, Cedar};
use crate::outcome::{Denial, MaskKind, Obligations, Observed, Outcome, Permit, Would};
use crate::rule::{Duty, RuleKind, Test, all_hold};

/// Decisions kept per session; at the limit the cache starts anew.
const CACHE_MAX: usize = 4096;

/// A target as policy knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRef {
    pub name: Arc<str>,
    /// Cedar namespace of its protocol.
    pub namespace: &'static str,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// The index and expressions made from the policies; Cedar for what is outside their subset.
    Compiled,
    /// Cedar alone, asked for every access.
    Cedar,
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

/// All that policy says of an intent, before approvals.
#[derive(Clone, Debug)]
enum Finding {
    Denied(Denial),
    Permitted {
        rule: Arc<str>,
        obligations: Arc<Obligations>,
        holds: Vec<HoldRule>,
        /// Only where policy observes.
        observed: Option<Arc<Observed>>,
    },
}

/// Decides for one principal at one target.
pub struct Bound {
    pub(crate) set: Arc<PolicySet>,
    pub(crate) vocabulary: Option<&'static Vocabulary>,
    engine: Engine,
    /// The target's name.
    target: Arc<str>,
    observes: bool,
    /// Who has to be permitted: the principal, and beside it the workload that presented its token.
    pub(crate) sides: Vec<Side>,
    cache: HashMap<Arc<Intent>, Arc<Finding>>,
    reads_time: bool,
    /// When it was last asked, where policies read the time.
    moment: Moment,
    /// What is kept is of moments with these answers.
    class: Class,
    /// Columns asked for by [`Bound::masks`].
    masked: HashMap<Object, bool>,
    /// What budgets are charged to.
    accounts: Accounts,
}

/// One of those who have to be permitted.
pub(crate) struct Side {
    who: Who,
    principal: Principal,
    other: Option<Other>,
    /// Ends the reason of a denial, where there are two.
    whose: &'static str,
    /// Made when Cedar is needed; `None` inside when it cannot be made.
    cedar: OnceLock<Option<Cedar>>,
}

/// Each sees the other: `principal.attested` of a token's subject is the workload that presented
/// it, and `principal.presented` of the workload is the token's subject.
struct Other {
    principal: Principal,
    named: &'static str,
    names: &'static str,
}

impl Side {
    fn new(
        set: &PolicySet,
        principal: &Principal,
        other: Option<Other>,
        whose: &'static str,
    ) -> Self {
        Self {
            who: who(set, principal),
            principal: principal.clone(),
            other,
            whose,
            cedar: OnceLock::new(),
        }
    }

    pub(crate) const fn who(&self) -> &Who {
        &self.who
    }

    fn cedar(&self, set: &PolicySet) -> Option<&Cedar> {
        let made = || {
            let other = self.other.as_ref();
            let other = other.map(|other| (other.named, &other.principal, other.names));
            Cedar::new(set, &self.principal, other)
        };
        self.cedar.get_or_init(made).as_ref()
    }
}

fn sides(set: &PolicySet, principal: &Principal, attested: Option<&Principal>) -> Vec<Side> {
    let same = |one: &Principal| one.tenant == principal.tenant && one.oid == principal.oid;
    let Some(attested) = attested.filter(|attested| !same(attested)) else {
        return vec![Side::new(set, principal, None, "")];
    };
    let other = |principal: &Principal, named, names| Other {
        principal: principal.clone(),
        named,
        names,
    };
    vec![
        Side::new(
            set,
            principal,
            Some(other(attested, "attested", "presented")),
            " (asked of the presented token's subject)",
        ),
        Side::new(
            set,
            attested,
            Some(other(principal, "presented", "attested")),
            " (asked of the workload that presented the token)",
        ),
    ]
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound")
            .field("version", &self.set.version())
            .finish_non_exhaustive()
    }
}

impl Bound {
    /// `attested` is the workload that presented a token of `principal`: both have to be permitted,
    /// and what either of them obliges to holds.
    pub(crate) fn new(
        set: Arc<PolicySet>,
        (principal, attested): (&Principal, Option<&Principal>),
        target: &TargetRef,
        engine: Engine,
    ) -> Self {
        let vocabulary = set
            .vocabularies
            .iter()
            .copied()
            .find(|known| known.namespace == target.namespace);
        Self {
            sides: sides(&set, principal, attested),
            reads_time: set.times.any(),
            set,
            vocabulary,
            engine,
            target: Arc::clone(&target.name),
            observes: false,
            cache: HashMap::new(),
            moment: Moment::default(),
            class: Class::default(),
            masked: HashMap::new(),
            accounts: Accounts::of(Arc::from(format!("{}/{}", principal.tenant, principal.oid))),
        }
    }

    /// From now on what policy would deny or hold is permitted, and says so. What cannot be judged,
    /// and what would tell about masked values, stays denied; masks stay; limits and budgets do not.
    #[must_use]
    pub fn observing(mut self) -> Self {
        self.observes = true;
        self
    }

    pub(crate) const fn observes(&self) -> bool {
        self.observes
    }

    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// Budgets that begin anew are those of the principal's other sessions, too.
    #[must_use]
    pub fn sharing(mut self, budgets: &Budgets) -> Self {
        self.accounts.share(budgets);
        self
    }

    /// What a request of these obligations is charged to.
    pub fn spending(&mut self, obligations: &Obligations) -> Spending {
        if obligations.budgets.is_empty() {
            return Spending::default();
        }
        self.accounts.spending(&obligations.budgets)
    }

    /// Goes on with what the session has used so far.
    pub fn take_over(&mut self, before: &mut Self) {
        self.accounts.take_over(&mut before.accounts);
    }

    /// What was used, for the next node process.
    #[must_use]
    pub fn save_accounts(&self) -> SavedAccounts {
        self.accounts.save()
    }

    pub fn restore_accounts(&mut self, saved: SavedAccounts) {
        self.accounts.restore(saved);
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
        now: Now,
    ) -> Outcome {
        self.at(now);
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
                observed,
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
                    observed: observed.clone(),
                })
            }
        }
    }

    /// What was found at another time is forgotten where it may be another answer now.
    pub fn at(&mut self, now: Now) {
        if !self.reads_time {
            return;
        }
        let moment = Moment::of(now);
        if moment == self.moment {
            return;
        }
        self.moment = moment;
        let class = match self.engine {
            Engine::Compiled => moment.class(&self.set.times),
            // It is the oracle: what was found out about the policies is not believed.
            Engine::Cedar => moment.class(&TimesRead::each()),
        };
        if class != self.class {
            self.class = class;
            self.cache.clear();
            self.masked.clear();
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
                self.masking(side, (&intent, &access), action)
                    .unwrap_or(true)
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

    /// Whether policy has detectors look through any values of this protocol.
    #[must_use]
    pub fn detects_any(&self) -> bool {
        self.vocabulary
            .is_none_or(|known| self.set.detected.contains(known.namespace))
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
        let mut observed = None;
        for side in &self.sides {
            match self.denied(side, intent, &mut gathered)? {
                None => {}
                Some(Refused::Final(mut denial)) => {
                    denial.reason.push_str(side.whose);
                    return Ok(Finding::Denied(denial));
                }
                Some(Refused::Observed(mut denial)) => {
                    denial.reason.push_str(side.whose);
                    observed.get_or_insert(denial);
                }
            }
        }
        let rule = gathered.permits(&self.set);
        let mut holds: Vec<HoldRule> = gathered.holds.into_values().collect();
        let mut observation = None;
        if self.observes {
            observation = said_only(observed, &holds).map(Arc::new);
            holds.clear();
            gathered.obligations.rows_max = None;
            gathered.obligations.bytes_max = None;
            gathered.obligations.budgets.clear();
        }
        Ok(Finding::Permitted {
            rule,
            holds,
            obligations: Arc::new(gathered.obligations),
            observed: observation,
        })
    }

    /// Why one side is refused; otherwise what the accesses add is in `gathered`.
    fn denied(
        &self,
        side: &Side,
        intent: &Intent,
        gathered: &mut Gathered,
    ) -> Result<Option<Refused>, Fault> {
        // Accesses by which a masked value would decide something, unless a permit says so.
        let mut predicates = Vec::new();
        let mut observed = None;
        for access in &intent.accesses {
            let answer = self.answer(side, (intent, access), access.action)?;
            if let Some(denial) = self.verdict(&answer, access)? {
                if !self.observes {
                    return Ok(Some(Refused::Final(denial)));
                }
                if answer.duties_failed {
                    return Err(Fault::failed(access));
                }
                observed.get_or_insert(denial);
            }
            self.add(&answer, side, (intent, access), gathered)?;
            if let Some(kind) = self.predicate_kind(access)
                && !answer.lifts(&self.set)
            {
                predicates.push((access, kind));
            }
        }
        for (access, kind) in predicates {
            if self.masking(side, (intent, access), kind.reads)? {
                return Ok(Some(Refused::Final(masked_predicate(access))));
            }
        }
        Ok(observed.map(Refused::Observed))
    }

    /// The predicate that this access is, if it is one.
    pub(crate) fn predicate_kind(&self, access: &Access) -> Option<PredicateKind> {
        let kind = self.vocabulary?.predicate?;
        (access.action == kind.action).then_some(kind)
    }

    /// What the access adds to the request.
    fn add(
        &self,
        answer: &Answer,
        side: &Side,
        (intent, access): (&Intent, &Access),
        gathered: &mut Gathered,
    ) -> Result<(), Fault> {
        gathered.permits.extend_from_slice(&answer.permits);
        for number in &answer.duties {
            let Some(rule) = self.set.rules.get(*number as usize) else {
                continue;
            };
            if let RuleKind::Duty(Duty::Mask(kind)) = &rule.kind
                && kind.is_deterministic()
                && self.writes(side, (intent, access))?
            {
                gathered.mask(access, MaskKind::Redact, &rule.id);
            } else {
                gathered.duty(rule, access);
            }
        }
        Ok(())
    }

    /// Whether this principal may choose the column's values: then it could look up what each becomes.
    fn writes(&self, side: &Side, question: (&Intent, &Access)) -> Result<bool, Fault> {
        let Some(kind) = self.vocabulary.and_then(|known| known.predicate) else {
            return Ok(false);
        };
        let answer = self.answer(side, question, kind.writes)?;
        if answer.base_failed {
            return Err(Fault::failed(question.1));
        }
        Ok(answer.forbids.is_empty() && !answer.permits.is_empty())
    }

    /// The denial of one access, if policy denies it; a masked predicate is not looked at.
    pub(crate) fn verdict(
        &self,
        answer: &Answer,
        access: &Access,
    ) -> Result<Option<Denial>, Fault> {
        if answer.base_failed {
            return Err(Fault::failed(access));
        }
        if let Some(forbid) = answer.forbids.first() {
            return Ok(Some(self.forbidden(*forbid, access)));
        }
        if answer.permits.is_empty() {
            return Ok(Some(ours("weir:no-permit", "no policy permits it", access)));
        }
        if answer.duties_failed {
            return Err(Fault::failed(access));
        }
        Ok(None)
    }

    fn forbidden(&self, number: u32, access: &Access) -> Denial {
        let rule = self.set.rules.get(number as usize);
        let words = rule.map(|rule| rule.words.clone()).unwrap_or_default();
        let reason = if words.reason.is_empty() {
            "a policy forbids it".to_owned()
        } else {
            words.reason
        };
        Denial {
            rule: rule.map_or_else(
                || Arc::from("weir:policy-error"),
                |rule| Arc::clone(&rule.id),
            ),
            reason,
            access: Some(access.clone()),
            advice: words.advice,
        }
    }

    /// Would reading that object by `action` be masked?
    pub(crate) fn masking(
        &self,
        side: &Side,
        question: (&Intent, &Access),
        action: &str,
    ) -> Result<bool, Fault> {
        let answer = self.answer(side, question, action)?;
        if answer.duties_failed {
            return Err(Fault::failed(question.1));
        }
        let mut rules = answer.duties.iter();
        Ok(rules.any(|number| {
            let rule = self.set.rules.get(*number as usize);
            rule.is_some_and(|rule| matches!(rule.kind, RuleKind::Duty(Duty::Mask(_))))
        }))
    }

    /// Every policy that has a say on one access.
    pub(crate) fn answer(
        &self,
        side: &Side,
        question: (&Intent, &Access),
        action: &str,
    ) -> Result<Answer, Fault> {
        let answer = match self.engine {
            Engine::Compiled => self.compiled(side, question, action),
            Engine::Cedar => self.cedar_answer(side, question, action),
        };
        answer.ok_or_else(|| Fault::unfit(question.1))
    }

    fn compiled(
        &self,
        side: &Side,
        (intent, access): (&Intent, &Access),
        action: &str,
    ) -> Option<Answer> {
        let vocabulary = self.vocabulary?;
        let trail = self.set.names.trail(vocabulary, &access.object)?;
        let number = self.set.names.action(vocabulary.namespace, action);
        let asked = Asked {
            who: &side.who,
            // No policy names an action that the vocabulary lacks.
            action: number.unwrap_or(u32::MAX - 1),
            namespace: vocabulary.namespace,
            object: &access.object,
            nodes: trail.ids(),
            itself: trail.itself(),
            context: &intent.context,
            moment: self.moment,
        };
        let mut candidates = Vec::new();
        let index = &self.set.index;
        index.candidates(&side.who, asked.action, asked.nodes, &mut candidates);
        let mut answer = Answer::default();
        // Made at the first policy that only Cedar can evaluate.
        let mut question = None;
        for number in candidates {
            let rule = self.set.rules.get(number as usize)?;
            let satisfied = match &rule.test {
                Test::Own(conjuncts) => all_hold(conjuncts, &asked).ok(),
                Test::Cedar(alone) => {
                    let cedar = side.cedar(&self.set)?;
                    if question.is_none() {
                        let asked = (intent, access, self.moment);
                        question = Some(cedar.question(vocabulary, asked, action)?);
                    }
                    question
                        .as_ref()
                        .and_then(|question| cedar.satisfied(question, alone))
                }
            };
            answer.note(number, &rule.kind, satisfied);
        }
        Some(answer)
    }

    fn cedar_answer(
        &self,
        side: &Side,
        (intent, access): (&Intent, &Access),
        action: &str,
    ) -> Option<Answer> {
        let cedar = side.cedar(&self.set)?;
        let asked = (intent, access, self.moment);
        let question = cedar.question(self.vocabulary?, asked, action)?;
        let reasons = cedar.reasons(&question, &self.set);
        let mut answer = Answer {
            base_failed: reasons.base_failed,
            duties_failed: reasons.duties_failed,
            ..Answer::default()
        };
        for number in reasons.base.into_iter().chain(reasons.duties) {
            let rule = self.set.rules.get(number as usize)?;
            answer.note(number, &rule.kind, Some(true));
        }
        Some(answer)
    }
}

/// Why one side is refused.
enum Refused {
    Final(Denial),
    /// Only said, since policy observes.
    Observed(Denial),
}

/// What would have been said; `None` when it would have been permitted.
fn said_only(denied: Option<Denial>, holds: &[HoldRule]) -> Option<Observed> {
    if let Some(denial) = denied {
        return Some(Observed {
            would: Would::Deny,
            rule: denial.rule,
            reason: denial.reason,
        });
    }
    let open: Vec<&HoldRule> = holds.iter().collect();
    (!open.is_empty()).then(|| {
        let needed = needed(&open);
        Observed {
            would: Would::Hold,
            rule: Arc::from(needed.rules.join(", ")),
            reason: needed.reason,
        }
    })
}

/// Satisfied policies of one access, by number, ascending.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) permits: Vec<u32>,
    pub(crate) forbids: Vec<u32>,
    pub(crate) duties: Vec<u32>,
    pub(crate) base_failed: bool,
    pub(crate) duties_failed: bool,
}

impl Answer {
    /// `satisfied` is `None` when evaluation failed.
    fn note(&mut self, number: u32, kind: &RuleKind, satisfied: Option<bool>) {
        let (list, failed) = match kind {
            RuleKind::Permit { .. } => (&mut self.permits, &mut self.base_failed),
            RuleKind::Forbid => (&mut self.forbids, &mut self.base_failed),
            RuleKind::Duty(_) => (&mut self.duties, &mut self.duties_failed),
        };
        match satisfied {
            Some(true) => list.push(number),
            Some(false) => {}
            None => *failed = true,
        }
    }

    /// Does a permit with `@predicate("masked")` stand among them?
    pub(crate) fn lifts(&self, set: &PolicySet) -> bool {
        self.permits.iter().any(|number| {
            let rule = set.rules.get(*number as usize);
            rule.is_some_and(|rule| matches!(rule.kind, RuleKind::Permit { lifting: true }))
        })
    }
}

/// Policy could not be asked: refused like a denial, but never remembered.
#[derive(Debug)]
pub(crate) struct Fault(pub(crate) Denial);

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

pub(crate) fn masked_predicate(access: &Access) -> Denial {
    ours(
        "weir:masked-predicate",
        "a masked column may not decide which rows come back",
        access,
    )
}

fn ours(rule: &'static str, reason: &str, access: &Access) -> Denial {
    Denial {
        rule: Arc::from(rule),
        reason: reason.to_owned(),
        access: Some(access.clone()),
        advice: None,
    }
}

/// The principal as compiled policies see it.
fn who(set: &PolicySet, principal: &Principal) -> Who {
    let id = format!("{}/{}", principal.tenant, principal.oid);
    let itself = set.names.principal("Weir::Agent", &id);
    let mut among: Vec<u32> = oracle::parents_of(set, principal)
        .iter()
        .filter_map(|(kind, id)| set.names.principal(kind, id))
        .chain(itself)
        .collect();
    among.sort_unstable();
    among.dedup();
    Who {
        itself,
        among,
        workload: Arc::clone(&principal.workload),
        tenant: Arc::clone(&principal.tenant),
        kind: oracle::kind_of(principal),
        on_behalf_of: principal.on_behalf_of.clone(),
    }
}
