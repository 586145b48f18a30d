//! Rules that can never apply, contradict each other, or do not say why they are there.
//!
//! Everything here is certain: what cannot be proven from the policies' own text is not reported.

use std::collections::BTreeSet;

use crate::compile::PolicySet;
use crate::expr::{Attribute, Expr, Literal};
use crate::index::{actions, one_of, principals, resources};
use crate::rule::RuleKind;
use crate::source::PolicyProblem;

impl PolicySet {
    /// What a careful author would not leave in: rules without a reason or advice, rules that can
    /// never apply, permits and obligations that a plain forbid covers wholly.
    #[must_use]
    pub fn lints(&self) -> Vec<PolicyProblem> {
        let mut found = Vec::new();
        let permitted = self.permitted();
        for number in 0..self.rules.len() {
            self.words(number, &mut found);
            if let Some(message) = self.contradiction(number) {
                found.push(self.problem(number, message));
            } else if let Some(message) = self
                .shadow(number)
                .or_else(|| self.idle(number, &permitted))
            {
                found.push(self.problem(number, message));
            }
        }
        found.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
        found
    }

    fn words(&self, number: usize, found: &mut Vec<PolicyProblem>) {
        let Some(rule) = self.rules.get(number) else {
            return;
        };
        let id = &rule.id;
        if rule.words.reason.trim().is_empty() {
            let message = format!("{id} has no @reason: people are told it");
            found.push(self.problem(number, message));
        }
        let permit = matches!(rule.kind, RuleKind::Permit { .. });
        let advice = rule.words.advice.as_deref().unwrap_or_default();
        if !permit && advice.trim().is_empty() {
            let message =
                format!("{id} has no @advice: whoever is refused needs to know what to do");
            found.push(self.problem(number, message));
        }
    }

    fn list(&self, number: usize) -> &[Expr] {
        let conjuncts = self.conjuncts.get(number);
        conjuncts.map_or(&[], |conjuncts| conjuncts.list.as_slice())
    }

    /// Why the rule's own conditions cannot all hold.
    fn contradiction(&self, number: usize) -> Option<String> {
        let id = &self.rules.get(number)?.id;
        let keys = self.keys.get(number)?;
        let list = self.list(number);
        let nothing = |ids: &Option<Vec<u32>>| ids.as_ref().is_some_and(Vec::is_empty);
        if nothing(&keys.actions) {
            return Some(format!(
                "{id} can never apply: no action meets its conditions"
            ));
        }
        if nothing(&keys.principals) || nothing(&keys.resources) {
            let text = format!("{id} can never apply: it names what no request can have");
            return Some(text);
        }
        for (at, one) in list.iter().enumerate() {
            for other in list.get(at + 1..).unwrap_or_default() {
                if self.excludes(one, other) {
                    return Some(format!(
                        "{id} can never apply: its conditions exclude each other"
                    ));
                }
            }
        }
        None
    }

    fn excludes(&self, one: &Expr, other: &Expr) -> bool {
        if negates(one, other) || negates(other, one) {
            return true;
        }
        if let (Some((left, a)), Some((right, b))) = (fixed(one), fixed(other)) {
            return left == right && a != b;
        }
        if let (Some(a), Some(b)) = (one_of(one, &resources), one_of(other, &resources)) {
            let related = |a: u32, b: u32| self.below(a, b) || self.below(b, a);
            return !a.iter().any(|a| b.iter().any(|b| related(*a, *b)));
        }
        if let (Expr::PrincipalIs(a), Expr::PrincipalIs(b)) = (one, other) {
            return !a.iter().any(|id| b.contains(id));
        }
        false
    }

    fn below(&self, resource: u32, above: u32) -> bool {
        self.names.is_below(&self.vocabularies, resource, above)
    }

    /// The plain forbids that refuse everything the rule speaks of.
    fn shadow(&self, number: usize) -> Option<String> {
        let rule = self.rules.get(number)?;
        let what = match rule.kind {
            RuleKind::Forbid => return None,
            RuleKind::Permit { .. } => "permits nothing",
            RuleKind::Duty(_) => "obliges to nothing",
        };
        let keys = self.keys.get(number)?;
        let mut by: Vec<&str> = Vec::new();
        match &keys.actions {
            None => by.push(self.covering(number, None)?),
            Some(actions) => {
                for action in actions {
                    by.push(self.covering(number, Some(*action))?);
                }
            }
        }
        by.sort_unstable();
        by.dedup();
        let (id, by) = (&rule.id, by.join(", "));
        Some(format!("{id} {what}: {by} forbids all of it"))
    }

    /// A plain forbid that covers the rule, as far as it is about `action`.
    fn covering(&self, number: usize, action: Option<u32>) -> Option<&str> {
        let keys = self.keys.get(number)?;
        let first = |ids: &Option<Vec<u32>>| ids.as_ref().and_then(|ids| ids.first().copied());
        let nodes = first(&keys.resources)
            .map(|id| self.names.above(&self.vocabularies, id))
            .unwrap_or_default();
        let filed = self.index.filed(first(&keys.principals), action, &nodes);
        let forbid = filed.into_iter().find(|forbid| {
            let forbid = *forbid as usize;
            let rule = self.rules.get(forbid);
            let plain = rule.is_some_and(|rule| matches!(rule.kind, RuleKind::Forbid));
            let whole = self.conjuncts.get(forbid).is_some_and(|one| one.whole);
            plain && whole && self.covers(forbid, number, action)
        })?;
        self.rules.get(forbid as usize).map(|rule| &*rule.id)
    }

    /// Does every condition of the forbid follow from one of the rule's?
    fn covers(&self, forbid: usize, number: usize, action: Option<u32>) -> bool {
        self.list(forbid).iter().all(|condition| {
            if let (Some(action), Some(all)) = (action, one_of(condition, &actions)) {
                return all.contains(&action);
            }
            self.list(number)
                .iter()
                .any(|given| self.implies(given, condition))
        })
    }

    fn implies(&self, given: &Expr, condition: &Expr) -> bool {
        if given == condition {
            return true;
        }
        // The principal is in one of `given`; each of those is one that `condition` asks for.
        if let (Some(given), Some(wanted)) =
            (one_of(given, &principals), one_of(condition, &principals))
            && !has_exact_principal(condition)
        {
            return given.iter().all(|id| wanted.contains(id));
        }
        if let (Some(given), Some(wanted)) =
            (one_of(given, &resources), one_of(condition, &resources))
            && !has_exact_resource(condition)
        {
            let covered = |id: u32| wanted.iter().any(|above| self.below(id, *above));
            return given.iter().all(|id| covered(*id));
        }
        false
    }

    /// An obligation on what no permit allows.
    fn idle(&self, number: usize, permitted: &Permitted) -> Option<String> {
        let rule = self.rules.get(number)?;
        if !matches!(rule.kind, RuleKind::Duty(_)) {
            return None;
        }
        let mine = self.keys.get(number)?.actions.as_ref()?;
        let Permitted::Only(actions) = permitted else {
            return None;
        };
        let id = &rule.id;
        let none = !mine.iter().any(|action| actions.contains(action));
        none.then(|| format!("{id} can never apply: no policy permits any of its actions"))
    }

    fn permitted(&self) -> Permitted {
        let mut only = BTreeSet::new();
        for (rule, keys) in self.rules.iter().zip(&self.keys) {
            if matches!(rule.kind, RuleKind::Permit { .. }) {
                match &keys.actions {
                    None => return Permitted::Anything,
                    Some(actions) => only.extend(actions),
                }
            }
        }
        Permitted::Only(only)
    }
}

/// Actions that some permit names.
enum Permitted {
    Anything,
    Only(BTreeSet<u32>),
}

fn negates(one: &Expr, other: &Expr) -> bool {
    matches!(one, Expr::Not(inner) if **inner == *other)
}

/// `attribute == literal`, either way around.
fn fixed(expr: &Expr) -> Option<(&Attribute, &Literal)> {
    let Expr::Equal(left, right) = expr else {
        return None;
    };
    if let (Expr::Attribute(attribute), Expr::Literal(literal)) = (&**left, &**right) {
        return Some((attribute, literal));
    }
    if let (Expr::Literal(literal), Expr::Attribute(attribute)) = (&**left, &**right) {
        return Some((attribute, literal));
    }
    None
}

fn has_exact_principal(expr: &Expr) -> bool {
    if let Expr::Or(left, right) = expr {
        has_exact_principal(left) || has_exact_principal(right)
    } else {
        matches!(expr, Expr::PrincipalIs(_))
    }
}

fn has_exact_resource(expr: &Expr) -> bool {
    if let Expr::Or(left, right) = expr {
        has_exact_resource(left) || has_exact_resource(right)
    } else {
        matches!(expr, Expr::ResourceIs(_))
    }
}
