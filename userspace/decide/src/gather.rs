//! What the accesses of one request add up to.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_model::request::Access;

use crate::budget::Budget;
use crate::compile::PolicySet;
use crate::outcome::{AtTimeout, HoldNeeded, Mask, MaskKind, Obligations};
use crate::rule::{BudgetDuty, Duty, HoldDuty, Rule, RuleKind};

/// One hold rule that applies.
#[derive(Clone, Debug)]
pub(crate) struct HoldRule {
    pub(crate) rule: Arc<str>,
    duty: HoldDuty,
    reason: String,
}

#[derive(Default)]
pub(crate) struct Gathered {
    /// Numbers of rules.
    pub(crate) permits: Vec<u32>,
    pub(crate) obligations: Obligations,
    pub(crate) holds: BTreeMap<Arc<str>, HoldRule>,
}

impl Gathered {
    /// Ids of the permits, joined by `, `, in the order of ids.
    pub(crate) fn permits(&self, set: &PolicySet) -> Arc<str> {
        let mut numbers = self.permits.clone();
        numbers.sort_unstable();
        numbers.dedup();
        let ids: Vec<&str> = numbers
            .iter()
            .filter_map(|number| set.rules.get(*number as usize))
            .map(|rule| &*rule.id)
            .collect();
        Arc::from(ids.join(", "))
    }

    /// A satisfied annotated forbid.
    pub(crate) fn duty(&mut self, rule: &Rule, access: &Access) {
        match &rule.kind {
            RuleKind::Permit { .. } | RuleKind::Forbid => {}
            RuleKind::Duty(Duty::Hold(duty)) => {
                let hold = HoldRule {
                    rule: Arc::clone(&rule.id),
                    duty: duty.clone(),
                    reason: rule.words.reason.clone(),
                };
                self.holds.insert(Arc::clone(&rule.id), hold);
            }
            RuleKind::Duty(Duty::Mask(kind)) => self.mask(access, *kind, &rule.id),
            RuleKind::Duty(Duty::Detect) => self.obligations.detect = Some(Arc::clone(&rule.id)),
            RuleKind::Duty(Duty::Limit { rows, bytes }) => {
                let obligations = &mut self.obligations;
                obligations.rows_max = least(obligations.rows_max, *rows);
                obligations.bytes_max = least(obligations.bytes_max, *bytes);
            }
            RuleKind::Duty(Duty::Budget(duty)) => self.budget(rule, duty),
            RuleKind::Duty(Duty::Record(keep)) => {
                self.obligations.keep = self.obligations.keep.joined(*keep);
            }
        }
    }

    /// Once, however many accesses it applies to.
    fn budget(&mut self, rule: &Rule, duty: &BudgetDuty) {
        let budgets = &mut self.obligations.budgets;
        if budgets.iter().any(|have| have.rule == rule.id) {
            return;
        }
        budgets.push(Budget {
            rule: Arc::clone(&rule.id),
            reason: rule.words.reason.clone(),
            advice: rule.words.advice.clone(),
            text: Arc::clone(&duty.text),
            rows: duty.rows,
            bytes: duty.bytes,
            statements: duty.statements,
            seconds: duty.seconds,
            window_s: duty.window_s,
        });
    }

    pub(crate) fn mask(&mut self, access: &Access, kind: MaskKind, rule: &Arc<str>) {
        let masks = &mut self.obligations.masks;
        match masks.get(&access.object) {
            Some(have) if have.kind >= kind => {}
            Some(_) | None => {
                let rule = Arc::clone(rule);
                masks.insert(access.object.clone(), Mask { kind, rule });
            }
        }
    }
}

fn least<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, None) | (None, one) => one,
    }
}

/// All holds have to be met: the groups of all, the strictest of everything else.
pub(crate) fn needed(open: &[&HoldRule]) -> HoldNeeded {
    let mut groups: Vec<Arc<str>> = open
        .iter()
        .flat_map(|hold| hold.duty.groups.clone())
        .collect();
    groups.sort();
    groups.dedup();
    let reasons: Vec<&str> = open
        .iter()
        .map(|hold| hold.reason.as_str())
        .filter(|text| !text.is_empty())
        .collect();
    let duties = || open.iter().map(|hold| &hold.duty);
    HoldNeeded {
        rules: open.iter().map(|hold| Arc::clone(&hold.rule)).collect(),
        groups,
        reason: reasons.join("; "),
        expires_s: duties().fold(None, |so_far, duty| least(so_far, duty.expires_s)),
        approvals: duties().map(|duty| duty.approvals).max().unwrap_or(1),
        // One hold of several keeps its own reviewers: nobody else may stand in for them.
        escalation: match open {
            [hold] => hold.duty.escalation.clone(),
            _ => None,
        },
        at_timeout: duties()
            .map(|duty| duty.at_timeout)
            .max()
            .unwrap_or(AtTimeout::Deny),
        effect: duties().any(|duty| duty.effect),
    }
}
