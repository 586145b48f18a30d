//! A session as a transcript that people can read.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::fields::{number, text, texts};

/// Longest statement or response line shown.
const LINE_MAX: usize = 400;

/// One line without control characters, so that a record cannot drive a terminal.
fn flat(text: &str) -> String {
    let mut out: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(LINE_MAX + 1)
        .collect();
    if out.chars().count() > LINE_MAX {
        out = out.chars().take(LINE_MAX).collect();
        out.push('…');
    }
    out
}

/// Renders facts in the order given.
#[must_use]
pub fn render(facts: &[Value]) -> String {
    let mut out = String::new();
    if let Some(first) = facts
        .iter()
        .find(|fact| !text(fact, "principal").is_empty())
    {
        out.push_str(&header(first));
    }
    for fact in facts {
        out.push_str(&entry(fact));
    }
    out
}

/// The recorded terminals by the request that opened them, each as an asciicast.
#[must_use]
pub fn terminals(facts: &[Value]) -> BTreeMap<u64, String> {
    let mut casts: BTreeMap<u64, String> = BTreeMap::new();
    for fact in facts.iter().filter(|fact| text(fact, "kind") == "terminal") {
        casts
            .entry(number(fact.get("reply_to")))
            .or_default()
            .push_str(text(fact, "response_masked"));
    }
    casts
}

/// What a piece of an asciicast showed, without control characters.
fn shown(piece: &str) -> String {
    let mut out = String::new();
    for line in piece.lines() {
        if let Ok((_, code, text)) = serde_json::from_str::<(f64, String, String)>(line)
            && code == "o"
        {
            out.push_str(&text);
        }
    }
    out
}

fn header(fact: &Value) -> String {
    let line = |name: &str, value: String| format!("{name:<11}{}\n", flat(&value));
    let mut out = String::new();
    out.push_str(&line(
        "workload",
        format!("{} on {}", text(fact, "workload"), text(fact, "node")),
    ));
    out.push_str(&line(
        "principal",
        format!(
            "{} (application {}, tenant {})",
            text(fact, "principal"),
            text(fact, "application"),
            text(fact, "tenant")
        ),
    ));
    out.push_str(&line("groups", texts(fact, "groups").join(", ")));
    out.push_str(&line(
        "process",
        format!(
            "{} pid {} {}",
            text(fact, "exe"),
            number(fact.get("pid")),
            text(fact, "argv")
        ),
    ));
    out.push_str(&line("parents", texts(fact, "parents").join(", ")));
    out.push_str(&line("binary", binary(fact)));
    out.push_str(&line("cgroup", text(fact, "cgroup_path").to_owned()));
    let (container, pod) = (text(fact, "container"), text(fact, "pod"));
    if !container.is_empty() || !pod.is_empty() {
        out.push_str(&line("container", format!("{container} of pod {pod}")));
    }
    out.push_str(&line(
        "target",
        format!(
            "{} ({}) {} → {}",
            text(fact, "target"),
            text(fact, "protocol"),
            text(fact, "client_addr"),
            text(fact, "server_addr")
        ),
    ));
    out.push('\n');
    out
}

/// Digest and inode of the executable, and from where it is known.
fn binary(fact: &Value) -> String {
    let digest = match text(fact, "exe_sha256") {
        "" => "of unknown digest".to_owned(),
        digest => format!("sha256 {digest}"),
    };
    let known = match text(fact, "lineage") {
        "kernel" => "seen when it was executed",
        "seed" => "running before Weir was",
        "proc" => "looked at later",
        _ => "not known",
    };
    format!("{digest}, inode {}, {known}", text(fact, "exe_id"))
}

/// The process, whenever it is another one than in the line before.
fn speaker(fact: &Value) -> String {
    format!(
        "    process {} {} {}\n    parents {}\n    binary {}\n",
        number(fact.get("pid")),
        flat(text(fact, "exe")),
        flat(text(fact, "argv")),
        flat(&texts(fact, "parents").join(", ")),
        flat(&binary(fact))
    )
}

fn entry(fact: &Value) -> String {
    let at = text(fact, "at");
    let time = at.split_once(' ').map_or(at, |(_, time)| time);
    match text(fact, "kind") {
        "request" => request(fact, time),
        "reply" => reply(fact, time),
        "terminal" => format!(
            "{time}  #{} terminal: {}\n",
            number(fact.get("reply_to")),
            flat(&shown(text(fact, "response_masked")))
        ),
        "approval" => format!(
            "{time}  #{} {} by {} after {} ms {}\n",
            number(fact.get("reply_to")),
            text(fact, "decision"),
            text(fact, "approver"),
            number(fact.get("held_ms")),
            flat(text(fact, "reason"))
        ),
        kind => {
            let line = format!(
                "{time}  {kind} {} {}\n",
                text(fact, "status"),
                flat(text(fact, "reason"))
            );
            if (kind, text(fact, "status")) == ("flow", "process") {
                line + &speaker(fact)
            } else {
                line
            }
        }
    }
}

fn request(fact: &Value, time: &str) -> String {
    let mut out = format!(
        "{time}  #{} {}  [{}]\n",
        number(fact.get("seq")),
        text(fact, "decision"),
        flat(text(fact, "rule"))
    );
    out.push_str(&format!("    {}\n", flat(text(fact, "statement"))));
    if !text(fact, "parameters").is_empty() {
        out.push_str(&format!(
            "    parameters {}\n",
            flat(text(fact, "parameters"))
        ));
    }
    let reason = text(fact, "reason");
    if !reason.is_empty() {
        out.push_str(&format!("    reason: {}\n", flat(reason)));
    }
    out
}

fn reply(fact: &Value, time: &str) -> String {
    let mut out = format!(
        "{time}  #{} {}: {} rows, {} bytes, {} masked, {} µs (server {} µs)\n",
        number(fact.get("reply_to")),
        text(fact, "status"),
        number(fact.get("rows")),
        number(fact.get("bytes_out")),
        number(fact.get("masked_values")),
        number(fact.get("duration_us")),
        number(fact.get("server_us"))
    );
    for line in text(fact, "response_masked").lines() {
        out.push_str(&format!("    {}\n", flat(line)));
    }
    if fact
        .get("truncated")
        .and_then(Value::as_bool)
        .unwrap_or(false)
    {
        out.push_str("    … more was returned than is recorded\n");
    }
    let digest = text(fact, "reply_sha256");
    if !digest.is_empty() {
        out.push_str(&format!("    sha256 {digest}…\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_shows_statement_decision_and_masked_rows() {
        let facts = serde_json::json!([
            {"kind": "request", "at": "2026-01-01 10:00:00.000", "seq": 3, "decision": "allow",
             "rule": "read", "statement": "select\n1\u{1b}[31m", "principal": "oid",
             "workload": "analyst", "node": "n1", "exe": "/usr/bin/psql", "pid": 7,
             "exe_sha256": "ab12", "exe_id": "1:2", "lineage": "kernel", "pod": "p1"},
            {"kind": "flow", "at": "2026-01-01 10:00:00.000", "status": "process",
             "reason": "8 /usr/bin/python3", "pid": 8, "exe": "/usr/bin/python3\u{7}", "argv": "[]"},
            {"kind": "reply", "at": "2026-01-01 10:00:00.001", "reply_to": 3, "status": "ok",
             "rows": 1, "response_masked": "[\"***\"]\n", "truncated": true,
             "reply_sha256": "ba7816bf8f01cfea414140de5dae2223"},
        ]);
        let text = render(facts.as_array().unwrap());
        assert!(text.contains("analyst on n1"), "{text}");
        assert!(
            text.contains("10:00:00.000  #3 allow  [read]\n    select 1 [31m\n"),
            "{text}"
        );
        for line in [
            "process    /usr/bin/psql pid 7",
            "binary     sha256 ab12, inode 1:2, seen when it was executed",
            "container   of pod p1",
            "flow process 8 /usr/bin/python3\n    process 8 /usr/bin/python3  []\n",
            "binary of unknown digest, inode , not known",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(text.contains("    [\"***\"]\n    … more"), "{text}");
        assert!(
            text.contains("\n    sha256 ba7816bf8f01cfea414140de5dae2223…\n"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'));
    }
}
