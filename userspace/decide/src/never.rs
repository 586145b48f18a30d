//! What one principal is surely never permitted at one target, whatever the object, the time and the
//! statement.
//!
//! Three-valued: what is not known counts as true for a permit and as false for a forbid. A condition
//! that fails denies as well, so "true" means "true or denied" here.

use std::sync::LazyLock;

use weir_model::request::{AttrValue, Object};

use crate::bind::{Bound, Side};
use crate::expr::{Asked, Attribute, Expr};
use crate::moment::Moment;
use crate::rule::RuleKind;

/// What is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Never<'a> {
    /// Each of these, on every object of the target.
    pub actions: &'a [&'static str],
    /// Attributes that every request of these actions has.
    pub context: &'a [(&'static str, AttrValue)],
    /// Objects that do not matter, whatever is permitted on them.
    pub spared: fn(&Object) -> bool,
}

/// One action of it, by its number.
struct Question<'a> {
    asked: Asked<'a>,
    /// Kinds of objects that the action is for.
    kinds: &'static [&'static str],
    target: &'a str,
    spared: fn(&Object) -> bool,
}

/// A rule that may apply.
struct Candidate<'a> {
    permits: bool,
    conditions: &'a [Expr],
    /// The conditions are all of it.
    whole: bool,
}

/// Conditions on an object are never asked of this one.
static NOTHING: LazyLock<Object> = LazyLock::new(|| Object {
    kind: "",
    path: [].into(),
});

impl Bound {
    /// Whether no request of these actions can be permitted: for each of them one of those who have to
    /// be permitted has no permit that could apply, or a plain forbid that applies to all of it. False
    /// where policy only observes, and when it is not known.
    #[must_use]
    pub fn never_permits(&self, never: &Never<'_>) -> bool {
        if self.observes() {
            return false;
        }
        let sides = self.sides.iter();
        let sides: Vec<_> = sides.map(|side| (side, self.about(side, never))).collect();
        never.actions.iter().all(|action| {
            sides.iter().any(|(side, rules)| {
                let question = self.question(side, action, never);
                question.is_some_and(|question| self.surely_denied(rules, &question))
            })
        })
    }

    /// Rules for and against requests of one of those who have to be permitted: those that no answer
    /// about principal and given attributes rules out.
    fn about(&self, side: &Side, never: &Never<'_>) -> Vec<Candidate<'_>> {
        let asked = Asked {
            who: side.who(),
            action: 0,
            namespace: "",
            object: &NOTHING,
            nodes: &[],
            itself: None,
            context: never.context,
            moment: Moment::default(),
        };
        let speaks_of_action = |leaf: &Expr| matches!(leaf, Expr::ActionIs(_));
        let excluded = |one: &Expr| {
            !one.any(&|leaf| is_open(leaf, &asked) || speaks_of_action(leaf))
                && one.holds(&asked).is_ok_and(|holds| !holds)
        };
        let rules = self.set.rules.iter().zip(&self.set.conjuncts);
        rules
            .filter_map(|(rule, conjuncts)| {
                let permits = match rule.kind {
                    RuleKind::Permit { .. } => true,
                    RuleKind::Forbid => false,
                    RuleKind::Duty(_) => return None,
                };
                let conditions = conjuncts.list.as_slice();
                (!conditions.iter().any(excluded)).then_some(Candidate {
                    permits,
                    conditions,
                    whole: conjuncts.whole,
                })
            })
            .collect()
    }

    fn question<'a>(
        &'a self,
        side: &'a Side,
        action: &str,
        never: &'a Never<'_>,
    ) -> Option<Question<'a>> {
        let vocabulary = self.vocabulary?;
        let kind = vocabulary.actions.iter().find(|one| one.name == action)?;
        Some(Question {
            asked: Asked {
                who: side.who(),
                action: self.set.names.action(vocabulary.namespace, action)?,
                namespace: vocabulary.namespace,
                object: &NOTHING,
                nodes: &[],
                itself: None,
                context: never.context,
                moment: Moment::default(),
            },
            kinds: kind.on,
            target: self.target(),
            spared: never.spared,
        })
    }

    fn surely_denied(&self, rules: &[Candidate<'_>], question: &Question<'_>) -> bool {
        let mut permitted = false;
        for rule in rules {
            if rule.permits {
                let conditions = rule.conditions.iter();
                permitted |= !conditions
                    .map(|one| self.sure(one, question))
                    .any(|holds| holds == Some(false));
            } else {
                let all = |one: &Expr| self.sure(one, question) == Some(true);
                if rule.whole && rule.conditions.iter().all(all) {
                    return true;
                }
            }
        }
        !permitted
    }

    /// Does it hold for every object of the target, or for none? `None` when that is not known.
    fn sure(&self, expr: &Expr, question: &Question<'_>) -> Option<bool> {
        if !expr.any(&|leaf| is_open(leaf, &question.asked)) {
            return expr.holds(&question.asked).ok();
        }
        match expr {
            Expr::ResourceIn(ids) => self.every(ids, question),
            Expr::ResourceIs(ids) => self.every(ids, question).filter(|holds| !holds),
            Expr::ResourceKind { namespace, kind } => {
                let ours = **namespace == *question.asked.namespace;
                match question.kinds {
                    [only] if ours && **kind == **only => Some(true),
                    kinds if ours && kinds.contains(&&**kind) => None,
                    _ => Some(false),
                }
            }
            Expr::Not(inner) => self.sure(inner, question).map(|holds| !holds),
            Expr::And(left, right) => {
                match (self.sure(left, question), self.sure(right, question)) {
                    (Some(false), _) | (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    (None | Some(true), None) | (None, Some(true)) => None,
                }
            }
            Expr::Or(left, right) => {
                match (self.sure(left, question), self.sure(right, question)) {
                    (Some(true), _) | (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    (None | Some(false), None) | (None, Some(false)) => None,
                }
            }
            Expr::If(test, yes, no) => {
                let (yes, no) = (self.sure(yes, question), self.sure(no, question));
                match self.sure(test, question) {
                    Some(true) => yes,
                    Some(false) => no,
                    None => yes.filter(|_| yes == no),
                }
            }
            Expr::Literal(_)
            | Expr::Attribute(_)
            | Expr::Has(_)
            | Expr::PrincipalIn(_)
            | Expr::PrincipalIs(_)
            | Expr::ActionIs(_)
            | Expr::Equal(..)
            | Expr::Less(..)
            | Expr::LessOrEqual(..)
            | Expr::Arithmetic(..)
            | Expr::Negative(_)
            | Expr::Contains(..)
            | Expr::ContainsAll(..)
            | Expr::ContainsAny(..)
            | Expr::IsEmpty(_)
            | Expr::Like(..) => None,
        }
    }

    /// Whether every object of the target is in one of these, or none that matters.
    fn every(&self, ids: &[u32], question: &Question<'_>) -> Option<bool> {
        let mut none = true;
        for id in ids {
            let Some(object) = self.set.names.object(*id) else {
                continue;
            };
            if object.path.first().map(|name| &**name) != Some(question.target) {
                continue;
            }
            if object.path.len() == 1 {
                return Some(true);
            }
            none &= (question.spared)(object);
        }
        none.then_some(false)
    }
}

/// Whether what it says depends on the object, the time or an attribute that is not given.
fn is_open(leaf: &Expr, asked: &Asked<'_>) -> bool {
    match leaf {
        Expr::ResourceIn(_) | Expr::ResourceIs(_) | Expr::ResourceKind { .. } => true,
        Expr::Attribute(attribute) | Expr::Has(attribute) => match attribute {
            Attribute::Name | Attribute::Moment(_) => true,
            Attribute::Context(name) => !asked.context.iter().any(|(known, _)| *known == &**name),
            Attribute::Workload | Attribute::Tenant | Attribute::Kind | Attribute::OnBehalfOf => {
                false
            }
        },
        Expr::Literal(_)
        | Expr::PrincipalIn(_)
        | Expr::PrincipalIs(_)
        | Expr::ActionIs(_)
        | Expr::Not(_)
        | Expr::And(..)
        | Expr::Or(..)
        | Expr::If(..)
        | Expr::Equal(..)
        | Expr::Less(..)
        | Expr::LessOrEqual(..)
        | Expr::Arithmetic(..)
        | Expr::Negative(_)
        | Expr::Contains(..)
        | Expr::ContainsAll(..)
        | Expr::ContainsAny(..)
        | Expr::IsEmpty(_)
        | Expr::Like(..) => false,
    }
}
