//! What policy answers, and how that differs from what an example expects.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, ensure};
use weir_decide::{Bound, Engine, Explained, Lifted, MaskKind, Obligations, Outcome, Span};
use weir_model::ident::{Principal, SessionId};
use weir_model::request::Intent;
use weir_model::time::Now;

use super::scene::{Scene, SceneTarget};
use super::{Asked, Example, Expected};

/// The answer to one question.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) verdict: Verdict,
    /// Every access of every statement.
    pub(crate) accesses: Vec<Explained>,
}

/// What one request comes to: the first statement that is not allowed decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allow {
        rules: Vec<String>,
        obligations: Obligations,
    },
    Deny {
        rule: String,
        reason: String,
        advice: Option<String>,
    },
    Hold {
        rules: Vec<String>,
        reviewers: Vec<String>,
        approvals: u32,
        reason: String,
    },
    Refuse {
        reason: String,
    },
}

impl Verdict {
    pub(crate) const fn expected(&self) -> Expected {
        match self {
            Self::Allow { .. } => Expected::Allow,
            Self::Deny { .. } => Expected::Deny,
            Self::Hold { .. } => Expected::Hold,
            Self::Refuse { .. } => Expected::Refuse,
        }
    }

    /// The deciding rules, sorted.
    pub(crate) fn rules(&self) -> Vec<String> {
        let mut rules = match self {
            Self::Allow { rules, .. } | Self::Hold { rules, .. } => rules.clone(),
            Self::Deny { rule, .. } => vec![rule.clone()],
            Self::Refuse { .. } => Vec::new(),
        };
        rules.sort();
        rules
    }
}

/// Asks policy, and Cedar itself beside it: a difference between the two is an error.
pub(crate) fn answer(
    scene: &Scene,
    (who, target): (&Principal, &SceneTarget),
    asked: &Asked,
    now: Now,
) -> Result<Answer> {
    let bound = scene.set.bind(who, &target.reference);
    let cedar = scene.set.bind_by(who, &target.reference, Engine::Cedar);
    answer_of(bound, Some(cedar), asked, now)
}

/// The same for somebody who is bound already.
pub(crate) fn answer_of(
    mut bound: Bound,
    mut cedar: Option<Bound>,
    asked: &Asked,
    now: Now,
) -> Result<Answer> {
    let intents = match asked {
        Asked::Intents(intents) => intents,
        Asked::Refused(reason) => {
            let reason = reason.clone();
            let verdict = Verdict::Refuse { reason };
            let accesses = Vec::new();
            return Ok(Answer { verdict, accesses });
        }
    };
    bound.at(now);
    let mut accesses = Vec::new();
    let mut all: Option<Verdict> = None;
    for intent in intents {
        let one = decide(&mut bound, intent, now);
        if let Some(cedar) = &mut cedar {
            let other = decide(cedar, intent, now);
            ensure!(
                one == other,
                "the compiled policies and Cedar disagree: {one:?} and {other:?}; please report it"
            );
        }
        accesses.extend(bound.explain(intent));
        all = Some(match (all, one) {
            (None, one) => one,
            (
                Some(Verdict::Allow { rules, obligations }),
                Verdict::Allow {
                    rules: more,
                    obligations: other,
                },
            ) => merged(rules, obligations, more, other),
            (Some(Verdict::Allow { .. }), one) => one,
            (Some(decided), _) => decided,
        });
    }
    let verdict = all.unwrap_or(Verdict::Refuse {
        reason: "there is nothing to decide".to_owned(),
    });
    Ok(Answer { verdict, accesses })
}

fn merged(
    mut rules: Vec<String>,
    mut obligations: Obligations,
    more: Vec<String>,
    other: Obligations,
) -> Verdict {
    rules.extend(more);
    rules.sort();
    rules.dedup();
    obligations.masks.extend(other.masks);
    obligations.rows_max = obligations.rows_max.or(other.rows_max);
    obligations.bytes_max = obligations.bytes_max.or(other.bytes_max);
    obligations.keep = obligations.keep.joined(other.keep);
    Verdict::Allow { rules, obligations }
}

fn decide(bound: &mut Bound, intent: &Arc<Intent>, now: Now) -> Verdict {
    match bound.decide(1, SessionId(0), intent, &Lifted::none(), now) {
        Outcome::Permit(permit) => Verdict::Allow {
            rules: permit.rule().split(", ").map(ToOwned::to_owned).collect(),
            obligations: Obligations::clone(permit.obligations()),
        },
        Outcome::Denial(denial) => Verdict::Deny {
            rule: denial.rule.to_string(),
            reason: denial.reason,
            advice: denial.advice,
        },
        Outcome::Hold(needed) => Verdict::Hold {
            rules: needed.rules.iter().map(ToString::to_string).collect(),
            reviewers: needed.groups.iter().map(ToString::to_string).collect(),
            approvals: needed.approvals,
            reason: needed.reason,
        },
    }
}

/// As annotations write it.
pub(crate) fn mask_label(kind: MaskKind) -> String {
    match kind {
        MaskKind::Partial { keep_last } => format!("partial:{keep_last}"),
        MaskKind::Range(Span::Step(step)) => format!("range:{step}"),
        MaskKind::Range(Span::Month) => "range:month".to_owned(),
        MaskKind::Range(Span::Year) => "range:year".to_owned(),
        MaskKind::Range(Span::Decade) => "range:decade".to_owned(),
        MaskKind::Token => "token".to_owned(),
        MaskKind::Hash => "hash".to_owned(),
        MaskKind::Redact => "redact".to_owned(),
        MaskKind::Null => "null".to_owned(),
    }
}

impl Example {
    /// What is not as expected, in words; empty when all is.
    pub(crate) fn differences(&self, verdict: &Verdict) -> Vec<String> {
        let mut wrong = Vec::new();
        if verdict.expected() != self.expect {
            let (want, got) = (self.expect.label(), verdict.expected().label());
            wrong.push(format!("expected {want}, got {got}: {}", words(verdict)));
            return wrong;
        }
        if let Some(rules) = &self.rules {
            let mut want = rules.clone();
            want.sort();
            let got = verdict.rules();
            if want != got {
                let (want, got) = (want.join(", "), got.join(", "));
                wrong.push(format!("expected the rules {want}, got {got}"));
            }
        }
        if let Some(reviewers) = &self.reviewers
            && let Verdict::Hold { reviewers: got, .. } = verdict
            && reviewers != got
        {
            let (want, got) = (reviewers.join(", "), got.join(", "));
            wrong.push(format!("expected the reviewers {want}, got {got}"));
        }
        if let Verdict::Allow { obligations, .. } = verdict {
            wrong.extend(self.mask_differences(obligations));
            if self.rows_max.is_some() && self.rows_max != obligations.rows_max {
                let got = obligations.rows_max;
                wrong.push(format!(
                    "expected rows_max {:?}, got {got:?}",
                    self.rows_max
                ));
            }
        }
        wrong
    }

    fn mask_differences(&self, obligations: &Obligations) -> Option<String> {
        let want = self.masks.as_ref()?;
        let got: BTreeMap<String, String> = obligations
            .masks
            .iter()
            .map(|(object, mask)| {
                let from = object.path.len().saturating_sub(2);
                let short = object.path.get(from..).unwrap_or_default().join(".");
                (short, mask_label(mask.kind))
            })
            .collect();
        (*want != got).then(|| format!("expected the masks {want:?}, got {got:?}"))
    }
}

/// In a sentence.
pub(crate) fn words(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Allow { rules, .. } => format!("permitted by {}", rules.join(", ")),
        Verdict::Deny { rule, reason, .. } => format!("denied by {rule}: {reason}"),
        Verdict::Hold {
            rules,
            reviewers,
            approvals,
            reason,
        } => {
            let people = if *approvals > 1 {
                format!(" ({approvals} people)")
            } else {
                String::new()
            };
            let (rules, reviewers) = (rules.join(", "), reviewers.join(" and "));
            format!("held by {rules} for {reviewers}{people}: {reason}")
        }
        Verdict::Refuse { reason } => format!("refused before policy: {reason}"),
    }
}
