//! What policy says of each access of a request, for people.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_model::request::{Access, Intent};

use crate::bind::{Bound, Fault, masked_predicate};
use crate::outcome::{Denial, MaskKind};
use crate::rule::{Duty, RuleKind};

/// Everything that policies say of one access. Names are ids of rules, in the order of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    pub access: Access,
    pub permits: Vec<Arc<str>>,
    /// Plain forbids: any one of them decides.
    pub forbids: Vec<Arc<str>>,
    pub holds: Vec<Arc<str>>,
    pub masks: Vec<MaskedAs>,
    /// Limits and budgets.
    pub limits: Vec<Arc<str>>,
    /// Rules by which values are looked through.
    pub detects: Vec<Arc<str>>,
    /// Rules by which more of the reply is recorded.
    pub records: Vec<Arc<str>>,
    /// Why it is refused without a forbid: no permit, a masked predicate, an error.
    pub refused: Option<Denial>,
}

/// A mask and the rule that asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskedAs {
    pub rule: Arc<str>,
    pub kind: MaskKind,
}

impl Bound {
    /// Each access by itself. What the request as a whole comes to is [`Bound::decide`]'s to say:
    /// one refused access refuses all.
    #[must_use]
    pub fn explain(&self, intent: &Intent) -> Vec<Explained> {
        intent
            .accesses
            .iter()
            .map(|access| self.explain_access(intent, access))
            .collect()
    }

    fn explain_access(&self, intent: &Intent, access: &Access) -> Explained {
        let mut explained = Explained {
            access: access.clone(),
            permits: Vec::new(),
            forbids: Vec::new(),
            holds: Vec::new(),
            masks: Vec::new(),
            limits: Vec::new(),
            detects: Vec::new(),
            records: Vec::new(),
            refused: None,
        };
        let mut numbers = BTreeSet::new();
        for side in &self.sides {
            match self.answer(side, (intent, access), access.action) {
                Ok(answer) => {
                    numbers.extend(answer.permits);
                    numbers.extend(answer.forbids);
                    numbers.extend(answer.duties);
                }
                Err(Fault(denial)) => {
                    explained.refused = Some(denial);
                    return explained;
                }
            }
        }
        for number in numbers {
            let Some(rule) = self.set.rules.get(number as usize) else {
                continue;
            };
            let id = Arc::clone(&rule.id);
            match &rule.kind {
                RuleKind::Permit { .. } => explained.permits.push(id),
                RuleKind::Forbid => explained.forbids.push(id),
                RuleKind::Duty(Duty::Hold(_)) => explained.holds.push(id),
                RuleKind::Duty(Duty::Mask(kind)) => explained.masks.push(MaskedAs {
                    rule: id,
                    kind: *kind,
                }),
                RuleKind::Duty(Duty::Detect) => explained.detects.push(id),
                RuleKind::Duty(Duty::Record(_)) => explained.records.push(id),
                RuleKind::Duty(Duty::Limit { .. } | Duty::Budget(_)) => explained.limits.push(id),
            }
        }
        explained.refused = self.refusal(intent, access, &explained);
        explained
    }

    /// A refusal that no forbid says.
    fn refusal(&self, intent: &Intent, access: &Access, explained: &Explained) -> Option<Denial> {
        if !explained.forbids.is_empty() {
            return None;
        }
        // The same code that decides, asked for this access alone.
        let alone = Intent {
            accesses: Box::new([access.clone()]),
            context: intent.context.clone(),
        };
        match self.alone(&alone) {
            Ok(refused) => refused,
            Err(Fault(denial)) => Some(denial),
        }
    }

    fn alone(&self, intent: &Intent) -> Result<Option<Denial>, Fault> {
        let Some(access) = intent.accesses.first() else {
            return Ok(None);
        };
        for side in &self.sides {
            let answer = self.answer(side, (intent, access), access.action)?;
            if let Some(denial) = self.verdict(&answer, access)? {
                return Ok(Some(denial));
            }
            if let Some(kind) = self.predicate_kind(access)
                && !answer.lifts(&self.set)
                && self.masking(side, (intent, access), kind.reads)?
            {
                return Ok(Some(masked_predicate(access)));
            }
        }
        Ok(None)
    }
}
