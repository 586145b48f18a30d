//! An answer in full: the outcome in words, the rules, and what policy said of each access.

use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;
use weir_decide::{Explained, PolicySet};

use super::expect::{Answer, Verdict, mask_label, words};

#[derive(Serialize)]
pub(crate) struct Report {
    outcome: &'static str,
    words: String,
    rules: Vec<Rule>,
    advice: Option<String>,
    requests: Vec<Line>,
    /// Object → kind.
    masks: Vec<MaskLine>,
    rows_max: Option<u64>,
    bytes_max: Option<u64>,
}

#[derive(Serialize)]
struct Rule {
    id: String,
    place: Option<String>,
    reason: Option<String>,
}

#[derive(Serialize)]
struct MaskLine {
    object: String,
    kind: String,
    rule: String,
}

#[derive(Serialize)]
struct Line {
    action: &'static str,
    object: String,
    permits: Vec<String>,
    forbids: Vec<String>,
    holds: Vec<String>,
    masks: Vec<String>,
    limits: Vec<String>,
    detects: Vec<String>,
    records: Vec<String>,
    refused: Option<String>,
}

impl Report {
    pub(crate) fn of(set: &PolicySet, answer: &Answer) -> Self {
        let (masks, rows_max, bytes_max) = match &answer.verdict {
            Verdict::Allow { obligations, .. } => (
                obligations
                    .masks
                    .iter()
                    .map(|(object, mask)| MaskLine {
                        object: format!("{}:{}", object.kind, object.id()),
                        kind: mask_label(mask.kind),
                        rule: mask.rule.to_string(),
                    })
                    .collect(),
                obligations.rows_max,
                obligations.bytes_max,
            ),
            Verdict::Deny { .. } | Verdict::Hold { .. } | Verdict::Refuse { .. } => {
                (Vec::new(), None, None)
            }
        };
        let advice = match &answer.verdict {
            Verdict::Deny { advice, .. } => advice.clone(),
            Verdict::Allow { .. } | Verdict::Hold { .. } | Verdict::Refuse { .. } => None,
        };
        let rules = answer.verdict.rules();
        Self {
            outcome: answer.verdict.expected().label(),
            words: words(&answer.verdict),
            rules: rules.into_iter().map(|id| rule(set, id)).collect(),
            advice,
            requests: answer.accesses.iter().map(line).collect(),
            masks,
            rows_max,
            bytes_max,
        }
    }

    /// For people, a line each.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("{}: {}\n", self.outcome, self.words);
        let mut put = |line: std::fmt::Arguments<'_>| {
            // Writing to a String cannot fail.
            let _infallible = writeln!(out, "{line}");
        };
        if let Some(advice) = &self.advice {
            put(format_args!("  what to do: {advice}"));
        }
        for rule in &self.rules {
            if let (Some(place), Some(reason)) = (&rule.place, &rule.reason) {
                put(format_args!("  {} ({place}): {reason}", rule.id));
            }
        }
        for mask in &self.masks {
            let (object, kind, rule) = (&mask.object, &mask.kind, &mask.rule);
            put(format_args!("  masked: {object} as {kind} by {rule}"));
        }
        if let Some(rows) = self.rows_max {
            put(format_args!("  at most {rows} rows"));
        }
        if let Some(bytes) = self.bytes_max {
            put(format_args!("  at most {bytes} bytes"));
        }
        if !self.requests.is_empty() {
            put(format_args!("requests"));
        }
        for line in &self.requests {
            put(format_args!("  {} {}", line.action, line.object));
            for (what, rules) in line.said() {
                if !rules.is_empty() {
                    put(format_args!("    {what} {}", rules.join(", ")));
                }
            }
            if let Some(refused) = &line.refused {
                put(format_args!("    refused by {refused}"));
            }
        }
        out
    }
}

impl Line {
    const fn said(&self) -> [(&'static str, &Vec<String>); 7] {
        [
            ("permitted by", &self.permits),
            ("forbidden by", &self.forbids),
            ("held by", &self.holds),
            ("masked by", &self.masks),
            ("limited by", &self.limits),
            ("looked through by", &self.detects),
            ("recorded further by", &self.records),
        ]
    }
}

fn rule(set: &PolicySet, id: String) -> Rule {
    let about = set.about(&id);
    Rule {
        place: about.map(|about| format!("{}:{}", about.file, about.line)),
        reason: about.map(|about| about.reason.to_owned()),
        id,
    }
}

fn line(explained: &Explained) -> Line {
    let ids = |rules: &[Arc<str>]| rules.iter().map(ToString::to_string).collect();
    let object = &explained.access.object;
    Line {
        action: explained.access.action,
        object: format!("{}:{}", object.kind, object.id()),
        permits: ids(&explained.permits),
        forbids: ids(&explained.forbids),
        holds: ids(&explained.holds),
        masks: explained
            .masks
            .iter()
            .map(|mask| format!("{} ({})", mask.rule, mask_label(mask.kind)))
            .collect(),
        limits: ids(&explained.limits),
        detects: ids(&explained.detects),
        records: ids(&explained.records),
        refused: explained
            .refused
            .as_ref()
            .map(|denial| format!("{}: {}", denial.rule, denial.reason)),
    }
}
