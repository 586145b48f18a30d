//! Facts as events of the Open Cybersecurity Schema Framework, version 1.3.0.
//!
//! Source: <https://schema.ocsf.io/1.3.0>, classes Datastore Activity (6005), API Activity (6003) and SSH Activity
//! (4007), profiles Host and Security Control. What the schema has no place for stands in `unmapped`.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use time::{Date, Month, PrimitiveDateTime, Time};

use crate::fields::{number, text, texts};

const VERSION: &str = "1.3.0";

/// Class and its name.
fn class(protocol: &str) -> (u32, &'static str, u32) {
    match protocol {
        "kubernetes" => (6003, "API Activity", 6),
        "ssh" => (4007, "SSH Activity", 4),
        _ => (6005, "Datastore Activity", 6),
    }
}

/// Activity ids of these classes: read, update, connect, query, write, create, delete, other.
fn activity(class: u32, effects: &[&str]) -> (u32, &'static str) {
    let any = |words: &[&str]| {
        let mut effects = effects.iter();
        effects.any(|effect| words.iter().any(|word| effect.starts_with(word)))
    };
    if class == 4007 {
        return (1, "Open");
    }
    let (delete, create, update, write) = (
        any(&["delete", "drop", "truncate"]),
        any(&["create"]),
        any(&["update", "patch", "alter", "writeColumn"]),
        any(&["insert", "copy"]),
    );
    // Datastore: 1 read, 2 update, 3 connect, 4 query, 5 write, 6 create, 7 delete. API: 1 create, 2 read, 3 update,
    // 4 delete.
    match (class, delete, create, update || write) {
        (6003, true, _, _) => (4, "Delete"),
        (6003, _, true, _) => (1, "Create"),
        (6003, _, _, true) => (3, "Update"),
        (6003, ..) => (2, "Read"),
        (_, true, _, _) => (7, "Delete"),
        (_, _, true, _) => (6, "Create"),
        (_, _, _, true) if update => (2, "Update"),
        (_, _, _, true) => (5, "Write"),
        _ if any(&["session", "connect"]) => (3, "Connect"),
        _ => (4, "Query"),
    }
}

/// `address:port`, with brackets around IPv6.
fn endpoint(text: &str) -> Value {
    let (address, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let mut point = Map::new();
    let address = address.trim_start_matches('[').trim_end_matches(']');
    point.insert("ip".to_owned(), json!(address));
    if let Ok(port) = port.parse::<u16>() {
        point.insert("port".to_owned(), json!(port));
    }
    Value::Object(point)
}

/// Number and name.
type Named = (u32, &'static str);

/// Disposition of a decision, and status of what came of it.
fn outcome(decision: &str, status: &str) -> (Named, Named) {
    // 1 allowed, 2 blocked; 15 detected, for what was only observed; 0 while it is held.
    let disposition = match decision {
        "allow" | "approved" => (1, "Allowed"),
        "deny" | "rejected" | "expired" => (2, "Blocked"),
        "observe" => (15, "Detected"),
        _ => (0, "Unknown"),
    };
    let status = match (decision, status) {
        ("deny", _) => (2, "Failure"),
        (_, "ok") => (1, "Success"),
        (_, "") => (0, "Unknown"),
        _ => (2, "Failure"),
    };
    (disposition, status)
}

/// The event of one request with what came of it; `None` for facts that are no requests.
fn event(fact: &Value, reply: Option<&Value>) -> Option<Value> {
    if text(fact, "kind") != "request" {
        return None;
    }
    let (class_uid, class_name, category_uid) = class(text(fact, "protocol"));
    let effects = texts(fact, "effects");
    let (activity_id, activity_name) = activity(class_uid, &effects);
    let code = reply.map_or("", |reply| text(reply, "status"));
    let (disposition, status) = outcome(text(fact, "decision"), code);
    let mut event = json!({
        "metadata": {
            "version": VERSION,
            "uid": format!("{}/{}", text(fact, "session_id"), number(fact.get("seq"))),
            "product": { "name": "Weir", "vendor_name": "Weir" },
            "profiles": ["host", "security_control"],
            "log_name": "weir.fact",
        },
        "category_uid": category_uid,
        "class_uid": class_uid,
        "class_name": class_name,
        "activity_id": activity_id,
        "activity_name": activity_name,
        "type_uid": class_uid * 100 + activity_id,
        "severity_id": if disposition.0 == 2 { 3 } else { 1 },
        "time": number(fact.get("event_ms")),
        "status_id": status.0,
        "status": status.1,
        "status_code": code,
        "disposition_id": disposition.0,
        "disposition": disposition.1,
        "message": text(fact, "statement"),
        "actor": actor(fact),
        "device": { "hostname": text(fact, "node"), "type_id": 0, "type": "Unknown" },
        "src_endpoint": endpoint(text(fact, "client_addr")),
        "dst_endpoint": endpoint(text(fact, "server_addr")),
        "firewall_rule": { "uid": text(fact, "rule"), "desc": text(fact, "reason") },
        "unmapped": unmapped(fact, reply),
    });
    let statement = text(fact, "statement");
    let object = event.as_object_mut()?;
    if class_uid == 6005 {
        let database = json!({ "name": text(fact, "target"), "type_id": 1, "type": "Relational" });
        object.insert(
            "query_info".to_owned(),
            json!({ "query_string": statement }),
        );
        object.insert("database".to_owned(), database);
    } else if class_uid == 6003 {
        object.insert("api".to_owned(), json!({ "operation": statement }));
    }
    Some(event)
}

/// What the schema has no place for.
fn unmapped(fact: &Value, reply: Option<&Value>) -> Value {
    let of_reply = |name: &str| reply.map_or(0, |reply| number(reply.get(name)));
    json!({
        "workload": text(fact, "workload"), "target": text(fact, "target"),
        "effects": texts(fact, "effects"), "objects": texts(fact, "objects"),
        "decision": text(fact, "decision"), "parameters": text(fact, "parameters"),
        "seq": number(fact.get("seq")), "masked_values": of_reply("masked_values"),
        "rows": of_reply("rows"), "duration_us": of_reply("duration_us"),
    })
}

fn actor(fact: &Value) -> Value {
    let groups: Vec<Value> = texts(fact, "groups")
        .into_iter()
        .map(|uid| json!({ "uid": uid }))
        .collect();
    json!({
        "app_uid": text(fact, "application"),
        "app_name": text(fact, "agent"),
        "session": { "uid": text(fact, "session_id") },
        "user": {
            "uid": text(fact, "principal"), "groups": groups,
            "org": { "uid": text(fact, "tenant") },
        },
        "process": {
            "pid": number(fact.get("pid")), "name": text(fact, "comm"), "cmd_line": text(fact, "argv"),
            "file": {
                "path": text(fact, "exe"), "name": text(fact, "comm"), "type_id": 1,
                "hashes": [{ "algorithm_id": 3, "value": text(fact, "exe_sha256") }],
            },
            "parent_process": { "pid": number(fact.get("ppid")) },
        },
    })
}

/// Milliseconds since 1970 of `2026-11-29 08:00:00.123`.
fn millis(at: &str) -> Option<u64> {
    let (date, time) = at.split_once(' ')?;
    let (year, date) = date.split_once('-')?;
    let (month, day) = date.split_once('-')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let (hour, time) = time.split_once(':')?;
    let (minute, second) = time.split_once(':')?;
    let month = Month::try_from(month.parse::<u8>().ok()?).ok()?;
    let date = Date::from_calendar_date(year.parse().ok()?, month, day.parse().ok()?).ok()?;
    let thousandth = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    let time = Time::from_hms_milli(
        hour.parse().ok()?,
        minute.parse().ok()?,
        second.parse().ok()?,
        thousandth,
    );
    let at = PrimitiveDateTime::new(date, time.ok()?).assume_utc();
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

/// Events of a session's facts, one line of JSON each; `facts` as `export::session` gives them.
#[must_use]
pub fn events(facts: &[Value]) -> Vec<String> {
    let mut answers: HashMap<u64, &Value> = HashMap::new();
    for fact in facts {
        if matches!(text(fact, "kind"), "reply" | "error") {
            answers.entry(number(fact.get("reply_to"))).or_insert(fact);
        }
    }
    let mut lines = Vec::new();
    for fact in facts {
        let mut fact = fact.clone();
        let at = millis(text(&fact, "event_time")).unwrap_or(0);
        if let Some(object) = fact.as_object_mut() {
            object.insert("event_ms".to_owned(), json!(at));
        }
        let event = event(&fact, answers.get(&number(fact.get("seq"))).copied());
        lines.extend(event.map(|event| event.to_string()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_delete_is_a_blocked_datastore_activity() {
        let facts = [
            json!({ "kind": "request", "seq": 1, "session_id": "s", "protocol": "postgres",
                "event_time": "2026-11-29 08:00:00.123", "effects": ["delete"],
                "objects": ["Table:demo/shop/public/orders"], "decision": "deny", "rule": "no-delete",
                "statement": "delete from orders", "client_addr": "[fd00::1]:4000",
                "server_addr": "10.0.0.1:5432" }),
            json!({ "kind": "request", "seq": 2, "session_id": "s", "protocol": "postgres",
                "event_time": "1970-01-01 00:00:01", "effects": ["select"], "decision": "allow" }),
            json!({ "kind": "reply", "seq": 3, "reply_to": 2, "status": "ok", "rows": 7 }),
        ];
        let events: Vec<Value> = events(&facts)
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(events.len(), 2);
        let denied = &events[0];
        assert_eq!(
            (&denied["class_uid"], &denied["type_uid"]),
            (&json!(6005), &json!(600_507))
        );
        assert_eq!(denied["time"], json!(1_795_939_200_123_u64));
        assert_eq!(
            (&denied["disposition"], &denied["status"]),
            (&json!("Blocked"), &json!("Failure"))
        );
        assert_eq!(
            denied["src_endpoint"],
            json!({ "ip": "fd00::1", "port": 4000 })
        );
        assert_eq!(denied["firewall_rule"]["uid"], "no-delete");
        let allowed = &events[1];
        assert_eq!(
            (&allowed["status"], &allowed["unmapped"]["rows"]),
            (&json!("Success"), &json!(7))
        );
        assert_eq!(
            (&allowed["time"], &allowed["activity_name"]),
            (&json!(1000), &json!("Query"))
        );
    }
}
