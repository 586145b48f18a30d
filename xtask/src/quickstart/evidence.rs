//! What the record says about the demonstration, read back from ClickHouse.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::said::{show, until};
use super::scene::Scene;
use crate::say;

/// Shipping is once a second; this is a limit, not a wait.
const SHIPPED_WITHIN: Duration = Duration::from_secs(20);

/// Finds the sessions in the store and checks that they say who, how, what and with what outcome.
pub(super) fn read_back(scene: &mut Scene<'_>) -> Result<()> {
    say::heading("7. The evidence, read back from ClickHouse");
    let mut best: Option<(String, String)> = None;
    let mut terminal: Option<String> = None;
    let all = until(SHIPPED_WITHIN, || {
        let list = scene.weir_json(&["sessions", "ls"])?;
        let mut all = String::new();
        for id in ids(&list) {
            let facts = scene.weir_json(&["sessions", "show", &id])?.to_string();
            if facts.contains("drop table") {
                best = Some((id.clone(), facts.clone()));
            }
            if facts.contains("\"kind\":\"terminal\"") {
                terminal = Some(id.clone());
            }
            all.push_str(&facts);
        }
        let there = ["delete from ledger", "delete pods/web-1", "rm -f old.log"];
        let whole =
            best.is_some() && terminal.is_some() && there.iter().all(|text| all.contains(text));
        Ok(whole.then_some(all))
    })
    .context("the sessions are not in the store")?;
    let (id, facts) = best.context("the session with DROP TABLE")?;
    let entra = scene.lab.entra.as_ref().context("a lab has a test Entra")?;
    let operator = scene.lab.agent("operator")?;
    let group = entra
        .groups
        .get("operators")
        .context("the group operators")?;
    for (what, needle) in [
        ("who: the tenant", entra.tenant.as_str()),
        ("who: the application", operator.client_id.as_str()),
        ("who: the Entra group", group.as_str()),
        ("which process: its program", "psql"),
        ("which process: its cgroup", operator.cgroup.as_str()),
        ("what: the statement", "drop table orders"),
        ("what: the object", "orders"),
        ("outcome: the SQLSTATE", "42501"),
    ] {
        scene.expect(&format!("the record has {what}"), facts.contains(needle));
    }
    let ssn = scene.server("select ssn from customers where id = 1")?;
    scene.expect("no masked value is in the record", !all.contains(&ssn));
    let replay = scene.weir(&["sessions", "replay", &id])?;
    say::note(format!("$ weir sessions replay {id}"));
    for line in replay.out.lines().take(40) {
        say::note(format!("    {line}"));
    }
    let told = replay.code == 0 && replay.out.contains("drop table orders");
    scene.expect("the session can be replayed", told);
    let terminal = terminal.context("the session with a terminal")?;
    let cast = scene.weir(&["sessions", "cast", &terminal])?;
    say::note(format!("$ weir sessions cast {terminal}"));
    show(&cast);
    let told = cast.out.starts_with("{\"version\":2") && cast.out.contains("[masked:");
    scene.expect("its terminal can be replayed, as masked as it was", told);
    Ok(())
}

/// Session ids of a listing, whatever else stands beside them.
fn ids(list: &Value) -> BTreeSet<String> {
    let rows = list
        .as_array()
        .or_else(|| list.get("sessions").and_then(Value::as_array));
    rows.into_iter()
        .flatten()
        .filter_map(|row| {
            ["session_id", "session", "id"]
                .iter()
                .find_map(|key| row.get(*key))
        })
        .filter_map(|id| id.as_str().map(str::to_owned))
        .collect()
}
