//! A least-privilege proposal from recorded requests: what was done, by whom, to what, and no more.
//!
//! The record keeps the effects and the objects of a request side by side, not in pairs, so that
//! each effect is paired with every object of the request that it can be about: the proposal may be
//! wider than what happened within one request, never wider than its objects and effects.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use weir_model::vocabulary::Vocabulary;
use weir_record::query::RequestsRow;

/// One effect on one object, as far as a proposal tells objects apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Need {
    action: &'static str,
    /// Cedar type and id.
    kind: &'static str,
    id: String,
}

/// Who needs what on which target.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    /// (workload, target, namespace) → needs.
    needs: BTreeMap<(String, String, &'static str), BTreeSet<Need>>,
}

/// How a proposal would have done on other days.
#[derive(Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Measured {
    pub(crate) requests: u64,
    /// Requests that went through and would have been denied.
    pub(crate) denied: u64,
    pub(crate) days: usize,
    /// What was missing most, `workload: action Kind:id`, with the number of requests.
    pub(crate) missing: Vec<(String, u64)>,
}

/// Missing needs that are shown.
const MISSING_MAX: usize = 20;

impl Learned {
    /// From requests that went through.
    pub(crate) fn of(rows: &[RequestsRow], vocabularies: &[&'static Vocabulary]) -> Self {
        let mut learned = Self::default();
        for row in rows {
            if let Some(vocabulary) = vocabulary(row, vocabularies) {
                let key = (
                    row.workload.clone(),
                    row.target.clone(),
                    vocabulary.namespace,
                );
                let needs = learned.needs.entry(key).or_default();
                needs.extend(needs_of(row, vocabulary));
            }
        }
        learned
    }

    /// Would later requests have gone through?
    pub(crate) fn measure(
        &self,
        rows: &[RequestsRow],
        vocabularies: &[&'static Vocabulary],
    ) -> Measured {
        let mut measured = Measured::default();
        let mut days = BTreeSet::new();
        let mut missing: BTreeMap<String, u64> = BTreeMap::new();
        for row in rows {
            let Some(vocabulary) = vocabulary(row, vocabularies) else {
                continue;
            };
            days.insert(&row.day);
            measured.requests += row.requests;
            let key = (
                row.workload.clone(),
                row.target.clone(),
                vocabulary.namespace,
            );
            let have = self.needs.get(&key);
            let lacking: Vec<Need> = needs_of(row, vocabulary)
                .into_iter()
                .filter(|need| have.is_none_or(|have| !have.contains(need)))
                .collect();
            if !lacking.is_empty() {
                measured.denied += row.requests;
            }
            for need in lacking {
                let words = format!(
                    "{}: {} {}:{}",
                    row.workload, need.action, need.kind, need.id
                );
                *missing.entry(words).or_default() += row.requests;
            }
        }
        measured.days = days.len();
        let mut missing: Vec<(String, u64)> = missing.into_iter().collect();
        missing.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        missing.truncate(MISSING_MAX);
        measured.missing = missing;
        measured
    }

    /// Cedar policies: for each workload and target, one for each set of actions.
    pub(crate) fn policies(&self, heading: &str) -> String {
        let mut out = format!("// {heading}\n");
        let mut number = 0;
        for ((workload, target, namespace), needs) in &self.needs {
            let mut by_object: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
            // Cedar refuses such names as misleading; they stay denied.
            let plain_needs = needs
                .iter()
                .filter(|need| !need.id.chars().any(char::is_control));
            for need in plain_needs {
                let object = (need.kind, need.id.as_str());
                by_object.entry(object).or_default().insert(need.action);
            }
            let mut by_actions: BTreeMap<Vec<&str>, Vec<(&str, &str)>> = BTreeMap::new();
            for (object, actions) in by_object {
                let actions = actions.into_iter().collect();
                by_actions.entry(actions).or_default().push(object);
            }
            for (actions, objects) in by_actions {
                number += 1;
                let id = plain(&format!("learned-{workload}-{target}-{number}"));
                let actions: Vec<String> = actions
                    .iter()
                    .map(|action| format!("{namespace}::Action::{}", quoted(action)))
                    .collect();
                let objects: Vec<String> = objects
                    .iter()
                    .map(|(kind, id)| format!("resource in {namespace}::{kind}::{}", quoted(id)))
                    .collect();
                // Writing to a String cannot fail.
                let _infallible = write!(
                    out,
                    "\n@id({})\n@reason({})\npermit (\n    principal,\n    action in [{}],\n    \
                     resource in Weir::Target::{}\n) when {{\n    principal.workload == {} &&\n    \
                     ({})\n}};\n",
                    quoted(&id),
                    quoted(&format!(
                        "Recorded traffic of workload {workload} needs it."
                    )),
                    actions.join(", "),
                    quoted(&target.replace('%', "%25").replace('/', "%2F")),
                    quoted(workload),
                    objects.join(" ||\n     "),
                );
            }
        }
        out
    }

    /// Number of effects on objects.
    pub(crate) fn len(&self) -> usize {
        self.needs.values().map(BTreeSet::len).sum()
    }
}

fn vocabulary(
    row: &RequestsRow,
    vocabularies: &[&'static Vocabulary],
) -> Option<&'static Vocabulary> {
    let mut all = vocabularies.iter().copied();
    all.find(|one| one.namespace.eq_ignore_ascii_case(&row.protocol))
}

fn needs_of(row: &RequestsRow, vocabulary: &'static Vocabulary) -> BTreeSet<Need> {
    let mut needs = BTreeSet::new();
    for effect in &row.effects {
        let Some(action) = vocabulary.actions.iter().find(|one| one.name == *effect) else {
            continue;
        };
        for object in &row.objects {
            let Some((kind, id)) = object.split_once(':') else {
                continue;
            };
            if action.on.contains(&kind)
                && let Some((kind, id)) = wider(vocabulary, kind, id)
            {
                needs.insert(Need {
                    action: action.name,
                    kind,
                    id,
                });
            }
        }
    }
    needs
}

/// Columns stand for their table: which of them a statement names changes from day to day.
fn wider(vocabulary: &'static Vocabulary, kind: &str, id: &str) -> Option<(&'static str, String)> {
    let known = vocabulary.objects.iter().find(|one| one.name == kind)?;
    match (known.name, known.parent) {
        ("Column", Some(table)) => {
            let (above, _column) = id.rsplit_once('/')?;
            Some((table, above.to_owned()))
        }
        (name, _) => Some((name, id.to_owned())),
    }
}

/// A Cedar string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => {
                let _infallible = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Letters, digits and dashes.
fn plain(text: &str) -> String {
    let each = text.chars();
    each.map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::VOCABULARIES;

    fn row(day: &str, effects: &[&str], objects: &[&str], requests: u64) -> RequestsRow {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        RequestsRow {
            day: day.to_owned(),
            workload: "analyst".to_owned(),
            target: "demo".to_owned(),
            protocol: "postgres".to_owned(),
            effects: owned(effects),
            objects: owned(objects),
            requests,
        }
    }

    fn week() -> Vec<RequestsRow> {
        vec![
            row(
                "2026-11-01",
                &["readColumn", "select"],
                &[
                    "Column:demo/shop/public/orders/id",
                    "Table:demo/shop/public/orders",
                ],
                90,
            ),
            row("2026-11-02", &["session"], &["Database:demo/shop"], 10),
        ]
    }

    #[test]
    fn later_days_say_how_wrong_a_proposal_is() {
        let learned = Learned::of(&week(), VOCABULARIES);
        let later = [
            // Another column of the same table is covered.
            row(
                "2026-11-08",
                &["readColumn", "select"],
                &[
                    "Column:demo/shop/public/orders/item",
                    "Table:demo/shop/public/orders",
                ],
                97,
            ),
            row(
                "2026-11-09",
                &["delete"],
                &["Table:demo/shop/public/orders"],
                2,
            ),
            row(
                "2026-11-09",
                &["select"],
                &["Table:demo/shop/public/customers"],
                1,
            ),
        ];
        let measured = learned.measure(&later, VOCABULARIES);
        assert_eq!(
            (measured.requests, measured.denied, measured.days),
            (100, 3, 2)
        );
        assert_eq!(
            measured.missing.first(),
            Some(&(
                "analyst: delete Table:demo/shop/public/orders".to_owned(),
                2
            ))
        );
        assert_eq!(learned.measure(&week(), VOCABULARIES).denied, 0);
    }

    #[test]
    fn a_proposal_is_a_valid_policy_set_that_permits_what_was_seen_and_no_more() {
        let mut rows = week();
        let mut hostile = row(
            "2026-11-03",
            &["select"],
            &["Table:demo/shop/public/a\"b\\c"],
            1,
        );
        hostile.workload = "w\" || true || \"".to_owned();
        rows.push(hostile);
        let text = Learned::of(&rows, VOCABULARIES).policies("test");
        let source = weir_decide::PolicySource {
            name: "learned.cedar".to_owned(),
            text: text.clone(),
        };
        let settings = weir_decide::PolicySettings {
            targets: vec!["demo".to_owned()],
            ..Default::default()
        };
        let set = crate::policies::checked(&[source], &settings);
        let set = set.unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
        assert_eq!(set.len(), 3, "{text}");
    }
}
