//! From recorded facts to what a person reads.

use serde_json::Value;

use crate::highlight::{Piece, pieces};

/// Columns and rows of a reply that are shown as a table.
const COLUMNS_MAX: usize = 40;
const CELL_CHARS: usize = 300;

/// One line of a transcript.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    /// `request`, `reply`, `approval`, `terminal`, `error`, or another kind of fact.
    pub(crate) kind: String,
    /// Clock time of day.
    pub(crate) time: String,
    /// Milliseconds after the first entry.
    pub(crate) after_ms: u64,
    /// `allow`, `deny`, `hold`, …; empty for what is no decision.
    pub(crate) decision: String,
    pub(crate) rule: String,
    pub(crate) reason: String,
    pub(crate) statement: Vec<Piece>,
    pub(crate) parameters: String,
    pub(crate) approver: String,
    pub(crate) status: String,
    pub(crate) numbers: String,
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) text: String,
    pub(crate) truncated: bool,
}

/// Who speaks on a session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Process {
    pub(crate) exe: String,
    pub(crate) pid: u64,
    pub(crate) argv: String,
    pub(crate) sha256: String,
    /// Nearest first.
    pub(crate) parents: Vec<String>,
    pub(crate) container: String,
    pub(crate) pod: String,
    pub(crate) cgroup: String,
    pub(crate) known: &'static str,
}

/// What is the same for a whole session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Header {
    pub(crate) workload: String,
    pub(crate) node: String,
    pub(crate) target: String,
    pub(crate) protocol: String,
    pub(crate) principal: String,
    pub(crate) application: String,
    pub(crate) on_behalf_of: String,
    pub(crate) groups: String,
    pub(crate) client_addr: String,
    pub(crate) server_addr: String,
    pub(crate) started: String,
}

fn text<'a>(fact: &'a Value, name: &str) -> &'a str {
    fact.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(fact: &Value, name: &str) -> u64 {
    let value = fact.get(name);
    value
        .and_then(Value::as_u64)
        .or_else(|| value.and_then(Value::as_str)?.parse().ok())
        .unwrap_or_default()
}

fn list(fact: &Value, name: &str) -> Vec<String> {
    let items = fact.get(name).and_then(Value::as_array);
    let texts = items.into_iter().flatten().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}

/// Milliseconds of day and time in `2026-11-29 21:05:07.123`, enough to subtract.
fn millis(at: &str) -> u64 {
    let digits = |range: std::ops::Range<usize>| -> u64 {
        at.get(range)
            .and_then(|part| part.parse().ok())
            .unwrap_or(0)
    };
    let day = digits(8..10) * 86_400;
    let second = digits(11..13) * 3600 + digits(14..16) * 60 + digits(17..19);
    (day + second) * 1000 + digits(20..23)
}

/// The first fact that knows who it was.
pub(crate) fn header(facts: &[Value]) -> Option<Header> {
    let known = facts
        .iter()
        .find(|fact| !text(fact, "principal").is_empty());
    let fact = known.or_else(|| facts.first())?;
    let of = |name| text(fact, name).to_owned();
    Some(Header {
        workload: of("workload"),
        node: of("node"),
        target: of("target"),
        protocol: of("protocol"),
        principal: of("principal"),
        application: of("application"),
        on_behalf_of: of("on_behalf_of"),
        groups: list(fact, "groups").join(", "),
        client_addr: of("client_addr"),
        server_addr: of("server_addr"),
        started: facts.first().map(|first| text(first, "at").to_owned())?,
    })
}

/// The process of the last fact up to `seq`: another one may have spoken later.
pub(crate) fn process(facts: &[Value], seq: u64) -> Option<Process> {
    let known = facts
        .iter()
        .filter(|fact| !text(fact, "exe").is_empty())
        .rfind(|fact| number(fact, "seq") <= seq)?;
    Some(Process {
        exe: text(known, "exe").to_owned(),
        pid: number(known, "pid"),
        argv: text(known, "argv").to_owned(),
        sha256: text(known, "exe_sha256").to_owned(),
        parents: list(known, "parents"),
        container: text(known, "container").to_owned(),
        pod: text(known, "pod").to_owned(),
        cgroup: text(known, "cgroup_path").to_owned(),
        known: match text(known, "lineage") {
            "kernel" => "seen in the kernel when it was executed",
            "seed" => "running before Weir was",
            "proc" => "looked at later",
            _ => "not known",
        },
    })
}

/// The transcript, in the order of the facts.
pub(crate) fn entries(facts: &[Value]) -> Vec<Entry> {
    let start = facts.first().map_or(0, |first| millis(text(first, "at")));
    facts.iter().map(|fact| entry(fact, start)).collect()
}

fn entry(fact: &Value, start: u64) -> Entry {
    let at = text(fact, "at");
    let kind = text(fact, "kind");
    let mut entry = Entry {
        seq: number(fact, "seq"),
        kind: kind.to_owned(),
        time: at.split_once(' ').map_or(at, |(_, time)| time).to_owned(),
        after_ms: millis(at).saturating_sub(start),
        reason: text(fact, "reason").to_owned(),
        status: text(fact, "status").to_owned(),
        ..Entry::default()
    };
    let decision = text(fact, "decision");
    if decision != "none" {
        decision.clone_into(&mut entry.decision);
    }
    text(fact, "rule").clone_into(&mut entry.rule);
    text(fact, "approver").clone_into(&mut entry.approver);
    match kind {
        "request" => {
            entry.statement = pieces(text(fact, "statement"));
            text(fact, "parameters").clone_into(&mut entry.parameters);
        }
        "reply" => reply(fact, &mut entry),
        "terminal" => entry.text = shown(text(fact, "response_masked")),
        "approval" => {
            let held = number(fact, "held_ms");
            entry.numbers = crate::page::span(i64::try_from(held / 1000).unwrap_or(i64::MAX));
        }
        _ => {}
    }
    entry
}

fn reply(fact: &Value, entry: &mut Entry) {
    let masked = number(fact, "masked_values");
    entry.numbers = format!(
        "{} rows, {} bytes, {masked} masked, {:.1} ms",
        number(fact, "rows"),
        number(fact, "bytes_out"),
        number(fact, "duration_us") as f64 / 1000.0
    );
    entry.truncated = fact.get("truncated").and_then(Value::as_bool) == Some(true);
    let body = text(fact, "response_masked");
    match table(body) {
        Some(rows) => entry.rows = rows,
        None => entry.text = body.to_owned(),
    }
}

/// Lines that are JSON arrays become rows; anything else is text.
fn table(body: &str) -> Option<Vec<Vec<String>>> {
    let mut rows = Vec::new();
    for line in body.lines() {
        let cells: Vec<Value> = serde_json::from_str(line).ok()?;
        rows.push(cells.iter().take(COLUMNS_MAX).map(cell).collect());
    }
    Some(rows)
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => crate::page::one_line(text, CELL_CHARS),
        Value::Null => "∅".to_owned(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            crate::page::one_line(&value.to_string(), CELL_CHARS)
        }
    }
}

/// What a piece of an asciicast showed, without what would drive a terminal.
fn shown(piece: &str) -> String {
    let mut out = String::new();
    for line in piece.lines() {
        if let Ok((_, code, text)) = serde_json::from_str::<(f64, String, String)>(line)
            && code == "o"
        {
            out.extend(text.chars().filter(|c| *c == '\n' || !c.is_control()));
        }
    }
    out
}

/// Requests that opened a terminal, in order.
pub(crate) fn terminals(facts: &[Value]) -> Vec<u64> {
    let mut found: Vec<u64> = facts
        .iter()
        .filter(|fact| text(fact, "kind") == "terminal")
        .map(|fact| number(fact, "reply_to"))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Vec<Value> {
        let facts = serde_json::json!([
            {"kind": "flow", "at": "2026-01-31 23:59:59.900", "seq": 1, "exe": "/usr/bin/psql",
             "pid": 7, "parents": ["3 bash", "1 init"], "lineage": "kernel"},
            {"kind": "request", "at": "2026-01-31 23:59:59.950", "seq": 2, "decision": "deny",
             "rule": "no-drop", "statement": "drop table x", "principal": "o", "exe": "/bin/a",
             "pid": "9"},
            {"kind": "reply", "at": "2026-02-01 00:00:00.100", "seq": 3, "reply_to": 2, "rows": 1,
             "response_masked": "[\"a\",null,3]\n[\"b\",{\"c\":1},true]\n"},
            {"kind": "reply", "at": "x", "seq": 4, "response_masked": "plain\n"},
            {"kind": "terminal", "at": "", "seq": 5, "reply_to": 2,
             "response_masked": "[0.1,\"o\",\"hi\\u001b[1m\\n\"]\n[0.2,\"i\",\"secret\"]\n"},
        ]);
        facts.as_array().unwrap().clone()
    }

    #[test]
    fn facts_become_a_transcript() {
        let all = entries(&facts());
        assert_eq!(all[1].decision, "deny");
        assert_eq!(all[1].after_ms, 50);
        assert_eq!(
            all[2].rows,
            [vec!["a", "∅", "3"], vec!["b", "{\"c\":1}", "true"]]
        );
        assert_eq!(all[3].text, "plain\n");
        assert_eq!(all[4].text, "hi[1m\n", "typed text and controls stay out");
        assert_eq!(terminals(&facts()), [2]);
    }

    #[test]
    fn the_process_is_that_of_the_request() {
        let first = process(&facts(), 1).unwrap();
        assert_eq!((first.pid, first.parents.len()), (7, 2));
        assert_eq!(process(&facts(), 2).unwrap().pid, 9);
        assert!(process(&[], 1).is_none());
        assert_eq!(header(&facts()).unwrap().principal, "o");
    }
}
