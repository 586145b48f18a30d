//! Recorded requests under other policies: what would have been decided otherwise, and by which rule.
//!
//! Requests that were the same to policy are decided once. The oracle of the same name decides single
//! recorded requests by Cedar alone.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use weir_decide::{Bound, Engine, Keep, Lifted, Outcome, PolicySet, TargetRef};
use weir_model::asked::{self, Asked};
use weir_model::ident::{EvidenceKind, Groups, Principal, PrincipalKind, SessionId};
use weir_model::request::Intent;
use weir_model::time::Now;
use weir_model::vocabulary::Vocabulary;
use weir_record::asked::AskedRow;

/// Principals at targets that are kept ready.
const BOUND_MAX: usize = 4096;
/// Changes that are told apart, and as many of masks and limits.
const CHANGES_MAX: usize = 20_000;

/// What a policy set says of a request.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Said {
    /// `allow`, `deny` or `hold`.
    pub(crate) decision: &'static str,
    pub(crate) rule: String,
    /// `object kind` of each mask, and limits.
    pub(crate) obligations: Vec<String>,
}

/// Why a recorded request cannot be decided again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Undecidable {
    /// Weir itself refused it before policy: not understood, too large, out of order.
    NotPolicys,
    /// It was recorded by a version that did not keep what policy was asked.
    NotRecorded,
    /// Texts that may hold secrets were not recorded.
    Withheld,
    /// Two principals had to be permitted, and only one is recorded.
    Presented,
}

/// One policy set, ready for whoever is recorded.
pub(crate) struct Judge {
    set: Arc<PolicySet>,
    engine: Engine,
    bound: HashMap<String, Bound>,
}

/// A recorded request, read once for all who judge it.
pub(crate) struct Question {
    intent: Arc<Intent>,
    vocabulary: &'static Vocabulary,
    /// The principal's columns and the target.
    who: String,
}

impl Question {
    pub(crate) fn of(
        row: &AskedRow,
        vocabularies: &'static [&'static Vocabulary],
    ) -> Result<Self, Undecidable> {
        let (intent, vocabulary) = intent_of(row, vocabularies)?;
        let mut who = String::with_capacity(256);
        let texts = [
            &row.target,
            &row.tenant,
            &row.principal,
            &row.application,
            &row.on_behalf_of,
            &row.evidence,
            &row.workload,
        ];
        let counts = [row.groups.len(), row.roles.len()];
        let lists = row.groups.iter().chain(&row.roles);
        // With lengths, so that no two ways of cutting it mean the same.
        for text in texts.into_iter().chain(lists) {
            let _infallible = write!(who, "{}:{text}", text.len());
        }
        let _infallible = write!(who, "{counts:?}");
        Ok(Self {
            intent: Arc::new(intent),
            vocabulary,
            who,
        })
    }
}

impl Judge {
    pub(crate) fn new(set: Arc<PolicySet>, engine: Engine) -> Self {
        Self {
            set,
            engine,
            bound: HashMap::new(),
        }
    }

    pub(crate) fn say(&mut self, row: &AskedRow, question: &Question) -> Said {
        if self.bound.len() >= BOUND_MAX && !self.bound.contains_key(&question.who) {
            self.bound.clear();
        }
        if !self.bound.contains_key(&question.who) {
            let bound = self.bind(row, question);
            self.bound.insert(question.who.clone(), bound);
        }
        match self.bound.get_mut(&question.who) {
            Some(bound) => answer(bound, row, question),
            None => answer(&mut self.bind(row, question), row, question),
        }
    }

    /// The same with nothing kept of any other request, nor for one.
    pub(crate) fn say_alone(&self, row: &AskedRow, question: &Question) -> Said {
        answer(&mut self.bind(row, question), row, question)
    }

    fn bind(&self, row: &AskedRow, question: &Question) -> Bound {
        let target = TargetRef {
            name: Arc::from(row.target.as_str()),
            namespace: question.vocabulary.namespace,
        };
        self.set.bind_by(&principal_of(row), &target, self.engine)
    }
}

fn answer(bound: &mut Bound, row: &AskedRow, question: &Question) -> Said {
    let now = Now {
        mono_us: 0,
        wall_us: row.at_s.saturating_mul(1_000_000),
    };
    said(&bound.decide(1, SessionId(1), &question.intent, &Lifted::none(), now))
}

/// What policy was asked, from what was recorded.
fn intent_of(
    row: &AskedRow,
    vocabularies: &'static [&'static Vocabulary],
) -> Result<(Intent, &'static Vocabulary), Undecidable> {
    if row.asked.is_empty() {
        return Err(if row.effects.is_empty() {
            Undecidable::NotPolicys
        } else {
            Undecidable::NotRecorded
        });
    }
    if row.evidence == EvidenceKind::Presented.label() {
        return Err(Undecidable::Presented);
    }
    let mut known = vocabularies.iter().copied();
    let vocabulary = known
        .find(|one| one.namespace.eq_ignore_ascii_case(&row.protocol))
        .ok_or(Undecidable::NotRecorded)?;
    match asked::read(&row.asked, (&row.effects, &row.objects), vocabulary) {
        Some(Asked::Whole(intent)) => Ok((intent, vocabulary)),
        Some(Asked::Partly) => Err(Undecidable::Withheld),
        None => Err(Undecidable::NotRecorded),
    }
}

fn principal_of(row: &AskedRow) -> Principal {
    let person = row.evidence == EvidenceKind::Person.label();
    let texts = |texts: &[String]| texts.iter().map(|text| Arc::from(text.as_str())).collect();
    Principal {
        kind: if person {
            PrincipalKind::Person
        } else {
            PrincipalKind::Application
        },
        cloud: Arc::from(""),
        tenant: Arc::from(row.tenant.as_str()),
        oid: Arc::from(row.principal.as_str()),
        app: Arc::from(row.application.as_str()),
        roles: texts(&row.roles),
        groups: Groups::Known(
            row.groups
                .iter()
                .map(|text| Arc::from(text.as_str()))
                .collect(),
        ),
        on_behalf_of: (!row.on_behalf_of.is_empty()).then(|| Arc::from(row.on_behalf_of.as_str())),
        token_id: Arc::from(""),
        evidence: if person {
            EvidenceKind::Person
        } else {
            EvidenceKind::Federated
        },
        workload: Arc::from(row.workload.as_str()),
        valid_until_s: i64::MAX,
    }
}

fn said(outcome: &Outcome) -> Said {
    match outcome {
        Outcome::Permit(permit) => {
            let duties = permit.obligations();
            let mut obligations: Vec<String> = duties
                .masks
                .iter()
                .map(|(object, mask)| format!("{} {:?}", asked::named(object), mask.kind))
                .collect();
            obligations.extend(duties.rows_max.map(|rows| format!("at most {rows} rows")));
            obligations.extend(
                duties
                    .bytes_max
                    .map(|bytes| format!("at most {bytes} bytes")),
            );
            if duties.keep != Keep::default() {
                obligations.push(format!("recorded: {}", duties.keep));
            }
            obligations.extend(duties.detect.as_ref().map(|_| "looked through".to_owned()));
            Said {
                decision: "allow",
                rule: permit.rule().to_owned(),
                obligations,
            }
        }
        Outcome::Denial(denial) => Said {
            decision: "deny",
            rule: denial.rule.to_string(),
            obligations: Vec::new(),
        },
        Outcome::Hold(needed) => Said {
            decision: "hold",
            rule: needed.rules.join(", "),
            obligations: Vec::new(),
        },
    }
}

/// Requests whose decision changes in the same way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Change {
    pub(crate) from: String,
    pub(crate) from_rule: String,
    pub(crate) to: &'static str,
    pub(crate) to_rule: String,
    pub(crate) workload: String,
    pub(crate) principal: String,
    pub(crate) target: String,
    pub(crate) shape: u64,
    /// Where statements have no shape: what is done to what.
    pub(crate) what: String,
}

/// How many, when, and one of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Extent {
    pub(crate) requests: u64,
    pub(crate) first: String,
    pub(crate) last: String,
    pub(crate) statement: String,
}

/// Requests that stay allowed, and whose masks or limits differ from those of the policies in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Duties {
    pub(crate) workload: String,
    pub(crate) target: String,
    pub(crate) shape: u64,
    pub(crate) gone: Vec<String>,
    pub(crate) new: Vec<String>,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Backtest {
    pub(crate) requests: u64,
    /// Decisions that were made: of requests that were the same to policy in one piece of the time, one.
    pub(crate) different: u64,
    pub(crate) unchanged: u64,
    pub(crate) changes: BTreeMap<Change, Extent>,
    pub(crate) duties: BTreeMap<Duties, Extent>,
    /// Requests whose change, of the decision or of masks and limits, is not among these: there are too many.
    pub(crate) unlisted: (u64, u64),
    pub(crate) undecidable: BTreeMap<Undecidable, u64>,
    /// Requests that the policies in force decide otherwise than was recorded: they changed since, or
    /// an approval was remembered.
    pub(crate) drifted: u64,
}

impl Backtest {
    /// Takes requests of one row.
    pub(crate) fn take(
        &mut self,
        row: &AskedRow,
        question: Result<&Question, Undecidable>,
        (candidate, now): (&mut Judge, &mut Judge),
    ) {
        self.requests += row.requests;
        self.different += 1;
        let question = match question {
            Ok(question) => question,
            Err(why) => {
                *self.undecidable.entry(why).or_default() += row.requests;
                return;
            }
        };
        let said = candidate.say(row, question);
        let current = now.say(row, question);
        self.drifted += if current.decision == row.decision {
            0
        } else {
            row.requests
        };
        if current.decision == "allow" && said.decision == "allow" {
            self.duty(row, &current, &said);
        }
        if said.decision == row.decision {
            self.unchanged += row.requests;
            return;
        }
        let what = if row.shape == 0 {
            format!("{} {}", row.effects.join(" "), row.objects.join(" "))
        } else {
            String::new()
        };
        let change = Change {
            from: row.decision.clone(),
            from_rule: row.rule.clone(),
            to: said.decision,
            to_rule: said.rule,
            workload: row.workload.clone(),
            principal: row.principal.clone(),
            target: row.target.clone(),
            shape: row.shape,
            what,
        };
        add((&mut self.changes, &mut self.unlisted.0), change, row);
    }

    fn duty(&mut self, row: &AskedRow, current: &Said, said: &Said) {
        let without = |some: &[String], other: &[String]| {
            let only = some.iter().filter(|one| !other.contains(one));
            only.cloned().collect::<Vec<_>>()
        };
        if current.obligations == said.obligations {
            return;
        }
        let duties = Duties {
            workload: row.workload.clone(),
            target: row.target.clone(),
            shape: row.shape,
            gone: without(&current.obligations, &said.obligations),
            new: without(&said.obligations, &current.obligations),
        };
        if !duties.gone.is_empty() || !duties.new.is_empty() {
            add((&mut self.duties, &mut self.unlisted.1), duties, row);
        }
    }

    /// Requests whose decision changes.
    pub(crate) fn changed(&self) -> u64 {
        let listed = self.changes.values().map(|extent| extent.requests);
        listed.sum::<u64>() + self.unlisted.0
    }
}

/// Counts what there is no place for.
fn add<K: Ord>((map, unlisted): (&mut BTreeMap<K, Extent>, &mut u64), key: K, row: &AskedRow) {
    if map.len() >= CHANGES_MAX && !map.contains_key(&key) {
        *unlisted += row.requests;
        return;
    }
    map.entry(key).or_default().add(row);
}

impl Extent {
    fn add(&mut self, row: &AskedRow) {
        if self.requests == 0 || row.first < self.first {
            self.first.clone_from(&row.first);
            self.statement.clone_from(&row.statement);
        }
        if row.last > self.last {
            self.last.clone_from(&row.last);
        }
        self.requests += row.requests;
    }
}

#[cfg(test)]
mod tests;
