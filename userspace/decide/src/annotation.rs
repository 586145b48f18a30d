//! What annotations ask for: `@hold`, `@mask`, `@limit`, `@budget`, `@record` and those that go with a hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::Policy;

use crate::outcome::{AtTimeout, Escalation, Keep, MaskKind, Span};
use crate::rule::{BudgetDuty, Duty, HoldDuty};

/// Annotations that policies may carry.
pub(crate) const KNOWN: [&str; 15] = [
    "id",
    "reason",
    "advice",
    "hold",
    "mask",
    "limit",
    "budget",
    "detect",
    "record",
    "predicate",
    "approvals",
    "approve",
    "expires",
    "escalate",
    "timeout",
];

/// Those that say something about a hold.
const OF_HOLDS: [&str; 5] = ["approvals", "approve", "expires", "escalate", "timeout"];

/// People that one hold may ask for.
const APPROVALS_MAX: u32 = 10;
/// A hold keeps a client waiting: a day at most.
const SECONDS_MAX: u32 = 86_400;

/// The duties that a policy's annotations name; more than one is a mistake.
pub(crate) fn duties(
    policy: &Policy,
    reviewer_groups: &BTreeSet<String>,
) -> Vec<Result<Duty, String>> {
    let hold = policy.annotation("hold").map(|text| {
        let groups = groups("hold", text, reviewer_groups)?;
        hold(policy, groups, reviewer_groups).map(Duty::Hold)
    });
    let stray = || {
        let stray = OF_HOLDS
            .into_iter()
            .find(|name| policy.annotation(name).is_some())?;
        Some(Err(format!("@{stray} goes with @hold")))
    };
    [
        hold.or_else(stray),
        policy.annotation("mask").map(mask),
        policy.annotation("limit").map(limit),
        policy.annotation("budget").map(budget),
        policy.annotation("detect").map(detect),
        policy.annotation("record").map(record),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn hold(
    policy: &Policy,
    groups_of_hold: Vec<Arc<str>>,
    reviewer_groups: &BTreeSet<String>,
) -> Result<HoldDuty, String> {
    let approvals = match policy.annotation("approvals") {
        None => 1,
        Some(text) => match text.parse::<u32>() {
            Ok(count) if (1..=APPROVALS_MAX).contains(&count) => count,
            Ok(_) | Err(_) => return Err(format!("@approvals is 1 to {APPROVALS_MAX}")),
        },
    };
    let expires_s = policy
        .annotation("expires")
        .map(|text| seconds("expires", text))
        .transpose()?;
    let escalation = policy
        .annotation("escalate")
        .map(|text| {
            let (names, after) = text.rsplit_once(" after ").ok_or_else(|| {
                "@escalate is \"GROUP after TIME\", such as \"sre after 10m\"".to_owned()
            })?;
            Ok::<_, String>(Escalation {
                groups: groups("escalate", names, reviewer_groups)?,
                after_s: seconds("escalate", after)?,
            })
        })
        .transpose()?;
    let at_timeout = match policy.annotation("timeout") {
        None | Some("deny") => AtTimeout::Deny,
        Some("end-session") => AtTimeout::EndSession,
        Some(_) => return Err("@timeout is deny or end-session".to_owned()),
    };
    let effect = match policy.annotation("approve") {
        None | Some("statement") => false,
        Some("effect") => true,
        Some(_) => return Err("@approve is statement or effect".to_owned()),
    };
    if let (Some(escalation), Some(expires_s)) = (&escalation, expires_s)
        && escalation.after_s >= expires_s
    {
        return Err("@escalate comes before @expires, or nobody is asked".to_owned());
    }
    Ok(HoldDuty {
        groups: groups_of_hold,
        approvals,
        expires_s,
        escalation,
        at_timeout,
        effect,
    })
}

fn groups(annotation: &str, text: &str, known: &BTreeSet<String>) -> Result<Vec<Arc<str>>, String> {
    let groups: Vec<Arc<str>> = text.split(',').map(|name| Arc::from(name.trim())).collect();
    for group in &groups {
        if !known.contains(&**group) {
            return Err(format!(
                "@{annotation} names {group}, which approvals.reviewer_groups lacks"
            ));
        }
    }
    Ok(groups)
}

/// `90s`, `30m`, `8h`; a bare number is seconds.
fn seconds(annotation: &str, text: &str) -> Result<u32, String> {
    let text = text.trim();
    let (number, unit) = match text.strip_suffix(['s', 'm', 'h']) {
        Some(number) => (number, text.get(number.len()..).unwrap_or_default()),
        None => (text, "s"),
    };
    let factor = match unit {
        "m" => 60,
        "h" => 3600,
        _ => 1,
    };
    let seconds = number
        .parse::<u32>()
        .ok()
        .and_then(|n| n.checked_mul(factor));
    match seconds {
        Some(seconds) if (1..=SECONDS_MAX).contains(&seconds) => Ok(seconds),
        Some(_) | None => Err(format!("@{annotation}: {text} is not a time of 1s to 24h")),
    }
}

fn mask(text: &str) -> Result<Duty, String> {
    const KINDS: &str = "@mask is null, redact, hash, token, partial:N or range:…";
    let kind = match text.split_once(':') {
        None => match text {
            "null" => MaskKind::Null,
            "redact" => MaskKind::Redact,
            "hash" => MaskKind::Hash,
            "token" => MaskKind::Token,
            _ => return Err(KINDS.to_owned()),
        },
        Some(("partial", count)) => match count.parse() {
            Ok(keep_last) if keep_last <= 8 => MaskKind::Partial { keep_last },
            _ => return Err("@mask(\"partial:N\") keeps 0 to 8 characters".to_owned()),
        },
        Some(("range", span)) => MaskKind::Range(range(span)?),
        Some(_) => return Err(KINDS.to_owned()),
    };
    Ok(Duty::Mask(kind))
}

fn detect(text: &str) -> Result<Duty, String> {
    if text == "all" {
        Ok(Duty::Detect)
    } else {
        Err("@detect is all: the detectors and patterns of the configuration".to_owned())
    }
}

/// Rows of one reply that a policy may have recorded at its head, and as many at its tail.
const RECORD_ROWS_MAX: u32 = 10_000;

fn record(text: &str) -> Result<Duty, String> {
    let form = || {
        format!(
            "@record is all, head:N, tail:N or both, such as \"head:100, tail:20\", of 1 to {RECORD_ROWS_MAX} rows"
        )
    };
    if text.trim() == "all" {
        return Ok(Duty::Record(Keep {
            all: true,
            ..Keep::default()
        }));
    }
    let mut keep = Keep::default();
    for part in text.split(',') {
        let (what, count) = part.trim().split_once(':').ok_or_else(form)?;
        let place = match what {
            "head" => &mut keep.head,
            "tail" => &mut keep.tail,
            _ => return Err(form()),
        };
        let rows = count.trim().parse().ok();
        let rows = rows.filter(|rows| (1..=RECORD_ROWS_MAX).contains(rows));
        if std::mem::replace(place, rows.ok_or_else(form)?) != 0 {
            return Err(format!("@record names {what} twice"));
        }
    }
    Ok(Duty::Record(keep))
}

fn range(span: &str) -> Result<Span, String> {
    match span {
        "month" => Ok(Span::Month),
        "year" => Ok(Span::Year),
        "decade" => Ok(Span::Decade),
        step => match step.parse() {
            Ok(step) if (2..=1_000_000_000_000).contains(&step) => Ok(Span::Step(step)),
            _ => {
                Err("@mask(\"range:…\") is month, year, decade or a step of at least 2".to_owned())
            }
        },
    }
}

fn limit(text: &str) -> Result<Duty, String> {
    let (mut rows, mut bytes) = (None, None);
    for part in text.split(',') {
        match part.trim().split_once(':') {
            Some(("rows", count)) if rows.is_none() => rows = Some(amount("limit", count)?),
            Some(("bytes", count)) if bytes.is_none() => bytes = Some(amount("limit", count)?),
            _ => return Err("@limit is rows:N, bytes:N or both".to_owned()),
        }
    }
    Ok(Duty::Limit { rows, bytes })
}

fn budget(text: &str) -> Result<Duty, String> {
    const FORM: &str = "@budget is rows:N, bytes:N, statements:N, seconds:N or several of them, \
         then \"per session\" or \"per TIME\", such as \"rows:5000, statements:200 per 1h\"";
    let (amounts, span) = text.rsplit_once(" per ").ok_or(FORM)?;
    let mut duty = BudgetDuty {
        text: Arc::from(text.trim()),
        ..BudgetDuty::default()
    };
    for part in amounts.split(',') {
        let (what, count) = part.trim().split_once(':').ok_or(FORM)?;
        let place = match what {
            "rows" => &mut duty.rows,
            "bytes" => &mut duty.bytes,
            "statements" => &mut duty.statements,
            "seconds" => &mut duty.seconds,
            _ => return Err(FORM.to_owned()),
        };
        if place.replace(amount("budget", count)?).is_some() {
            return Err(format!("@budget names {what} twice"));
        }
    }
    duty.window_s = match span.trim() {
        "session" => None,
        time => Some(seconds("budget", time)?),
    };
    Ok(Duty::Budget(duty))
}

fn amount(annotation: &str, count: &str) -> Result<u64, String> {
    count
        .trim()
        .parse()
        .map_err(|_not_a_number| format!("@{annotation}: {} is not a number", count.trim()))
}
